"""Agents use the gateway: they write a file, run a command, read it and answer. The upstream has chat completions only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import agent_bench
from tests.clients.agent_bench import QUIET_CLAUDE_CODE, QUIET_OPENCODE, Bench, claude_code, codex, documented, opencode
from tests.clients.agent_script import ANSWER, TASK, AgentScript, AiderScript
from tests.clients.client_programs import MAIN_BIN, PROGRAMS
from tests.clients.conftest import KEY, fronted
from tests.faults.upstream_server import FaultUpstream
from tests.running import RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(240)]
CONFIG = """\
providers:
  up: {{ type: openai-compatible, base_url: "{base_url}", api_key: "${{UPSTREAM_KEY}}" }}
models: {{ smart: up/mock, "claude-*": up/mock }}
keys: {{ agents: {{ hash: "sha256:{key}" }} }}
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, FaultUpstream]]:
    """Return a gateway and its upstream."""
    with fronted(CONFIG, tmp_path_factory.mktemp("agents")) as front:
        yield front.gateway, front.upstream


@pytest.fixture
def bench(serving: tuple[RunningGateway, FaultUpstream], tmp_path: Path) -> Bench:
    """Return the gateway and empty folders for one agent."""
    return Bench(*serving, tmp_path)


def test_codex_uses_the_responses_api(bench: Bench) -> None:
    command = codex(bench, documented("toml", bench.gateway))
    output = bench.run(AgentScript(agent_bench.steps_of_codex()), command, LOCKGATE_KEY=KEY)
    bench.check(output, "/v1/responses", 4)


def test_opencode_uses_chat_completions(bench: Bench) -> None:
    command = opencode(bench, documented("json", bench.gateway))
    script = AgentScript(agent_bench.steps_of_opencode(bench.work / "note.txt"))
    output = bench.run(script, command, LOCKGATE_KEY=KEY, **QUIET_OPENCODE)
    bench.check(output, "/v1/chat/completions", 4)


def test_claude_code_uses_the_messages_api(bench: Bench) -> None:
    script = AgentScript(agent_bench.steps_of_claude_code(bench.work / "note.txt"))
    address = {"ANTHROPIC_BASE_URL": bench.gateway.url, "ANTHROPIC_AUTH_TOKEN": KEY}
    output = bench.run(script, claude_code("smart"), **address, **QUIET_CLAUDE_CODE)
    bench.check(output, "/v1/messages", 4)


def test_aider_edits_files_through_chat_completions(bench: Bench) -> None:
    """Aider calls no tools: it edits files as answers describe, runs a command, and returns its output to the model on failure."""
    edit, command = agent_bench.aider("openai/smart")
    address = {"OPENAI_API_BASE": bench.gateway.base_url, "OPENAI_API_KEY": KEY}
    output = bench.run(AiderScript(edit), command, **address, LITELLM_LOCAL_MODEL_COST_MAP="True")
    bench.check(output, "/v1/chat/completions", 2)


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_the_openai_agents_sdk_uses_tools(bench: Bench, api: str) -> None:
    command = [str(MAIN_BIN / "python"), str(PROGRAMS / "agents_sdk.py"), api, TASK]
    script = AgentScript(agent_bench.steps_of_the_sdk())
    output = bench.run(script, command, BASE_URL=bench.gateway.base_url, KEY=KEY, OPENAI_AGENTS_DISABLE_TRACING="1")
    bench.check(output, {"responses": "/v1/responses", "chat": "/v1/chat/completions"}[api], 8)
    assert output.count(ANSWER) == 2  # as a whole and as a stream
