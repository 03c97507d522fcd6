"""Runs agents, unmodified and without a terminal, in empty home and working folders. The agents can connect only to this machine."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ports import free_port
from tests.clients.agent_script import ANSWER, COMMAND, TASK, WRITTEN, Step
from tests.clients.client_programs import MAIN_BIN, ROOT
from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import Script
from tests.running import RunningGateway

AGENTS = ROOT / ".clients" / "agents"
NODE_MODULES = {name: AGENTS / name / "node_modules" for name in ("codex", "opencode", "claude-code")}
CODEX = NODE_MODULES["codex"] / ".bin" / "codex"
OPENCODE = NODE_MODULES["opencode"] / "opencode-linux-x64-baseline" / "bin" / "opencode"
CLAUDE_CODE = NODE_MODULES["claude-code"] / "@anthropic-ai" / "claude-code-linux-x64" / "claude"
AIDER = ROOT / ".clients" / "aider" / "bin" / "aider"
SECONDS = 100.0
QUIET_OPENCODE = {f"OPENCODE_DISABLE_{what}": "1" for what in ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "SHARE")}
QUIET_CLAUDE_CODE = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
}


class Bench:
    """A gateway in front of a scripted upstream, and the folders of one agent."""

    def __init__(self, gateway: RunningGateway, upstream: FaultUpstream, folder: Path) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.home, self.work = folder / "home", folder / "work"
        self.home.mkdir()
        self.work.mkdir()
        self._logged = len(gateway.records())

    def run(self, script: Script, command: Sequence[str], path: str = "/v1/chat/completions", **variables: str) -> str:
        """Run an agent to its end, with a script for a path of the upstream. Return its output."""
        self.upstream.reset()
        self.upstream.on(path, script)
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
        assert self.upstream.failures == []
        return output

    def check(self, output: str, path: str, calls: int) -> None:
        """Check that the tools ran, that the answer arrived, and that the gateway refused nothing."""
        assert (self.work / "note.txt").read_text().split("\n") == [WRITTEN, "sum 42", ""], output[-4000:]
        assert ANSWER in output
        records = self.records(calls)
        assert {(record["status"], record["path"]) for record in records} == {(200, path)}

    def records(self, calls: int) -> list[dict[str, Any]]:
        """Return the gateway's log of this agent, once it has at least this number of lines."""
        deadline = time.monotonic() + 60
        while len(self.gateway.records()) < self._logged + calls and time.monotonic() < deadline:
            time.sleep(0.05)  # a thread writes the log
        records = self.gateway.records()[self._logged :]
        assert len(records) >= calls, records
        return records

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        nowhere = f"http://127.0.0.1:{free_port()}"
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


def steps_of_codex() -> list[Step]:
    """Return the calls of Codex's tool."""
    write = f"printf '{WRITTEN}\\n' > note.txt"
    return [Step("exec_command", {"cmd": cmd}) for cmd in (write, COMMAND, "cat note.txt")]


def steps_of_opencode(note: Path) -> list[Step]:
    """Return the calls of opencode's tools."""
    return [
        Step("write", {"filePath": str(note), "content": WRITTEN + "\n"}),
        Step("bash", {"command": COMMAND, "description": "Append"}),
        Step("read", {"filePath": str(note)}),
    ]


def steps_of_claude_code(note: Path) -> list[Step]:
    """Return the calls of Claude Code's tools."""
    return [
        Step("Write", {"file_path": str(note), "content": WRITTEN + "\n"}),
        Step("Bash", {"command": COMMAND, "description": "Append"}),
        Step("Read", {"file_path": str(note)}),
    ]


def steps_of_the_sdk() -> list[Step]:
    """Return the calls of the tools in programs/agents_sdk.py."""
    return [Step("write", {"text": WRITTEN + "\n"}), Step("run", {"command": COMMAND}), Step("read", {})]


def codex(bench: Bench, settings: str) -> list[str]:
    """Write the settings of Codex and return its command."""
    folder = bench.home / ".codex"
    folder.mkdir()
    (folder / "config.toml").write_text(settings)
    return [installed(CODEX), "exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", TASK]


def opencode(bench: Bench, settings: str) -> list[str]:
    """Write the settings of opencode and return its command."""
    (bench.work / "opencode.json").write_text(settings)
    return [installed(OPENCODE), "run", "--pure", "--auto", TASK]


def claude_code(model: str) -> list[str]:
    """Return the command of Claude Code."""
    tools = ["--permission-mode", "acceptEdits", "--allowedTools", "Bash,Write,Read"]
    return [installed(CLAUDE_CODE), "-p", TASK, "--model", model, *tools]


def aider(model: str) -> tuple[str, list[str]]:
    """Return the edit that the answer describes, and the command of aider, which runs a command of its own after the edit."""
    edit = f"note.txt\n```\n{WRITTEN}\n```\n"
    test = f"grep -q sum note.txt || {{ {COMMAND}; cat note.txt; false; }}"
    options = ["--model", model, "--edit-format", "whole", "--no-git", "--yes-always", "--no-show-model-warnings"]
    options += ["--no-check-update", "--analytics-disable", "--no-pretty", "--no-fancy-input", "--auto-test", "--test-cmd", test]
    return edit, [installed(AIDER), *options, "--message", TASK, "note.txt"]
