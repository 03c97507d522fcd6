"""Agents, unmodified and without a terminal, use the gateway: they write a file, run a command, read it and answer.

Each agent has an empty home and working folder, and reaches nothing but this machine.
"""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.clients.agent_script import ANSWER, COMMAND, TASK, WRITTEN, AgentScript, AiderScript, Step
from tests.clients.client_programs import MAIN_BIN, PROGRAMS, ROOT
from tests.clients.conftest import KEY, fronted
from tests.faults.upstream_server import FaultUpstream, closed_port
from tests.faults.upstream_wire import Script
from tests.running import RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(240)]
AGENTS = ROOT / ".clients" / "agents"
NODE_MODULES = {name: AGENTS / name / "node_modules" for name in ("codex", "opencode", "claude-code")}
AIDER = ROOT / ".clients" / "aider" / "bin" / "aider"
SECONDS = 100.0
CONFIG = """\
providers:
  up: {{ type: openai-compatible, base_url: "{base_url}", api_key: "${{UPSTREAM_KEY}}" }}
models: {{ smart: up/mock, "claude-*": up/mock }}
keys: {{ agents: {{ hash: "sha256:{key}" }} }}
"""


class Bench:
    """A gateway in front of a scripted upstream, and the folders of one agent."""

    def __init__(self, gateway: RunningGateway, upstream: FaultUpstream, folder: Path) -> None:
        self.gateway = gateway
        self._upstream = upstream
        self.home, self.work = folder / "home", folder / "work"
        self.home.mkdir()
        self.work.mkdir()
        self._logged = len(gateway.records())

    def run(self, script: Script, command: Sequence[str], **variables: str) -> str:
        """Run an agent to its end and return its output."""
        self._upstream.reset()
        self._upstream.on("/v1/chat/completions", script)
        process = subprocess.Popen(
            command,
            cwd=self.work,
            env=self._environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"still running after {SECONDS:.0f} s:\n{process.communicate()[0][-4000:]}")
        assert process.returncode == 0, output[-4000:]
        assert self._upstream.failures == []
        return output

    def check(self, output: str, path: str, calls: int) -> None:
        """Check that the tools ran, that the answer arrived, and that the gateway refused nothing."""
        assert (self.work / "note.txt").read_text().split("\n") == [WRITTEN, "sum 42", ""], output[-4000:]
        assert ANSWER in output
        records = self.records(calls)
        assert {(record["status"], record["path"]) for record in records} == {(200, path)}

    def records(self, calls: int) -> list[dict[str, Any]]:
        """Return the gateway's log of this agent, once it has at least this number of lines."""
        deadline = time.monotonic() + 10
        while len(self.gateway.records()) < self._logged + calls and time.monotonic() < deadline:
            time.sleep(0.05)  # a thread writes the log
        records = self.gateway.records()[self._logged :]
        assert len(records) >= calls, records
        return records

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        nowhere = f"http://127.0.0.1:{closed_port()}"
        return {
            "PATH": f"{MAIN_BIN}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "CI": "1",
            "HTTPS_PROXY": nowhere,
            "HTTP_PROXY": nowhere,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            **variables,
        }


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, FaultUpstream]]:
    """Return a gateway and its upstream."""
    with fronted(CONFIG, tmp_path_factory.mktemp("agents")) as front:
        yield front.gateway, front.upstream


@pytest.fixture
def bench(serving: tuple[RunningGateway, FaultUpstream], tmp_path: Path) -> Bench:
    """Return the gateway and empty folders for one agent."""
    return Bench(*serving, tmp_path)


def installed(path: Path) -> str:
    """Return the path of a program. Skip the test on platforms other than the one that has all packages."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64") and not path.exists():
        pytest.skip(f"{path.relative_to(ROOT)} is not installed: some packages exist for Linux on x86_64 only")
    assert path.exists(), "run make install-clients"
    return str(path)


def documented(language: str, gateway: RunningGateway) -> str:
    """Return the settings of docs/agents.md in this language, with the address of a gateway."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "agents.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    return str(blocks[0]).replace("http://127.0.0.1:8080", gateway.url)


def test_codex_uses_the_responses_api(bench: Bench) -> None:
    folder = bench.home / ".codex"
    folder.mkdir()
    (folder / "config.toml").write_text(documented("toml", bench.gateway))
    write = f"printf '{WRITTEN}\\n' > note.txt"
    script = AgentScript([Step("exec_command", {"cmd": cmd}) for cmd in (write, COMMAND, "cat note.txt")])
    program = installed(NODE_MODULES["codex"] / ".bin" / "codex")
    command = [program, "exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", TASK]
    output = bench.run(script, command, LOCKGATE_KEY=KEY)
    bench.check(output, "/v1/responses", 4)


def test_opencode_uses_chat_completions(bench: Bench) -> None:
    (bench.work / "opencode.json").write_text(documented("json", bench.gateway))
    note = str(bench.work / "note.txt")
    script = AgentScript(
        [
            Step("write", {"filePath": note, "content": WRITTEN + "\n"}),
            Step("bash", {"command": COMMAND, "description": "Append"}),
            Step("read", {"filePath": note}),
        ]
    )
    program = installed(NODE_MODULES["opencode"] / "opencode-linux-x64-baseline" / "bin" / "opencode")
    command = [program, "run", "--pure", "--auto", TASK]
    offline = {f"OPENCODE_DISABLE_{what}": "1" for what in ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "SHARE")}
    output = bench.run(script, command, LOCKGATE_KEY=KEY, **offline)
    bench.check(output, "/v1/chat/completions", 4)


def test_claude_code_uses_the_messages_api(bench: Bench) -> None:
    note = str(bench.work / "note.txt")
    script = AgentScript(
        [
            Step("Write", {"file_path": note, "content": WRITTEN + "\n"}),
            Step("Bash", {"command": COMMAND, "description": "Append"}),
            Step("Read", {"file_path": note}),
        ]
    )
    program = installed(NODE_MODULES["claude-code"] / "@anthropic-ai" / "claude-code-linux-x64" / "claude")
    command = [
        program,
        "-p",
        TASK,
        "--model",
        "smart",
        "--permission-mode",
        "acceptEdits",
        "--allowedTools",
        "Bash,Write,Read",
    ]
    output = bench.run(
        script,
        command,
        ANTHROPIC_BASE_URL=bench.gateway.url,
        ANTHROPIC_AUTH_TOKEN=KEY,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        DISABLE_AUTOUPDATER="1",
        DISABLE_TELEMETRY="1",
        DISABLE_ERROR_REPORTING="1",
    )
    bench.check(output, "/v1/messages", 4)


def test_aider_edits_files_through_chat_completions(bench: Bench) -> None:
    """Aider calls no tools: it edits files as answers describe, runs a command, and returns its output if it fails."""
    edit = f"note.txt\n```\n{WRITTEN}\n```\n"
    test = f"grep -q sum note.txt || {{ {COMMAND}; cat note.txt; false; }}"
    script = AiderScript(edit)
    command = [
        installed(AIDER),
        "--model",
        "openai/smart",
        "--edit-format",
        "whole",
        "--no-git",
        "--yes-always",
        "--no-show-model-warnings",
        "--no-check-update",
        "--analytics-disable",
        "--no-pretty",
        "--no-fancy-input",
        "--auto-test",
        "--test-cmd",
        test,
        "--message",
        TASK,
        "note.txt",
    ]
    output = bench.run(
        script,
        command,
        OPENAI_API_BASE=bench.gateway.base_url,
        OPENAI_API_KEY=KEY,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    bench.check(output, "/v1/chat/completions", 2)


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_the_openai_agents_sdk_uses_tools(bench: Bench, api: str) -> None:
    script = AgentScript(
        [
            Step("write", {"text": WRITTEN + "\n"}),
            Step("run", {"command": COMMAND}),
            Step("read", {}),
        ]
    )
    command = [str(MAIN_BIN / "python"), str(PROGRAMS / "agents_sdk.py"), api, TASK]
    output = bench.run(script, command, BASE_URL=bench.gateway.base_url, KEY=KEY, OPENAI_AGENTS_DISABLE_TRACING="1")
    bench.check(output, {"responses": "/v1/responses", "chat": "/v1/chat/completions"}[api], 8)
    assert output.count(ANSWER) == 2  # as a whole and as a stream
