"""Agents use the gateway in front of OpenAI's Responses API and Anthropic's Messages API, which get their requests unchanged."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.clients import agent_bench
from tests.clients.agent_bench import QUIET_CLAUDE_CODE, QUIET_OPENCODE, Bench, claude_code, codex, documented, opencode
from tests.clients.agent_script import ANSWER, TASK
from tests.clients.client_programs import MAIN_BIN, PROGRAMS
from tests.clients.conftest import CREDENTIAL, KEY, Front, fronted
from tests.clients.native_agent_script import MessagesScript, NativeAiderScript, ResponsesScript
from tests.faults.behaviours import canned

pytestmark = [pytest.mark.prove, pytest.mark.timeout(240)]
GPT, CLAUDE = "o4-mini", "claude-opus-4-6"
"""Models with the same names at the gateway and upstream. opencode has other tools for models whose names begin with `gpt-`."""
CONFIG = """\
providers:
  responses: {{ type: openai, base_url: "{base_url}", api_key: "${{UPSTREAM_KEY}}" }}
  messages: {{ type: anthropic, base_url: "{base_url}", api_key: "${{UPSTREAM_KEY}}" }}
models:
  o4-mini: responses/o4-mini
  claude-opus-4-6: messages/claude-opus-4-6
keys: {{ agents: {{ hash: "sha256:{key}" }} }}
"""


class Recorder:
    """A TCP proxy that records the bytes that the agent sends to the gateway."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent: list[bytearray] = []
        """The bytes that each connection sent."""
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                self.sent.append(record := bytearray())
                self._threads.append(threading.Thread(target=self._relay, args=(caller, record)))
                self._threads[-1].start()

    def _relay(self, caller: socket.socket, record: bytearray) -> None:
        with caller, socket.create_connection(("127.0.0.1", self._target)) as gateway:
            answers = threading.Thread(target=_pump, args=(gateway, caller, None))
            answers.start()
            _pump(caller, gateway, record)
            answers.join()

    def close(self) -> None:
        """Accept no more connections, and wait until the open ones have ended."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()


def _pump(source: socket.socket, destination: socket.socket, kept: bytearray | None) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            if kept is not None:
                kept += data
            destination.sendall(data)
    with suppress(OSError):
        destination.shutdown(socket.SHUT_WR)


class NativeBench(Bench):
    """A bench whose agent reaches the gateway through a recorder."""

    def __init__(self, front: Front, folder: Path) -> None:
        super().__init__(front.gateway, front.upstream, folder)
        self.recorder = Recorder(int(front.gateway.url.rsplit(":", 1)[1]))
        self.url = f"http://127.0.0.1:{self.recorder.port}"

    def check_unchanged(self, output: str, path: str, provider: str, calls: int, *adjusted: str) -> None:
        """Check the run, and that the upstream got the bodies that the agent sent, byte for byte.

        `adjusted` are the adjustments that the log may have. Only the fields that they name may differ.
        """
        self.check(output, path, calls)
        requests = [request for request in self.upstream.requests if request.path.split("?")[0] == path]
        sent = [body for each in self.recorder.sent for body in bodies_in(bytes(each))]
        assert len(requests) >= calls
        fields = {name for name, _, action in (each.partition(":") for each in adjusted) if action == "set_default"}
        for request in requests:
            assert request.body in sent or without(fields, request.body) in [without(fields, body) for body in sent]
            assert fields or request.body in sent, request.json
            assert KEY.encode() not in request.head
            assert CREDENTIAL.encode() in request.head
        for record in self.records(calls):
            assert record["target"].startswith(f"{provider}/")
            assert record.get("adjustments", []) == list(adjusted)
            assert (record["prompt_tokens"], record["cached_tokens"], record["output_tokens"]) == (90, 40, 5)


def bodies_in(sent: bytes) -> list[bytes]:
    """Return the bodies of the requests that a connection sent."""
    bodies = []
    while sent:
        head, _, rest = sent.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        size = int(length[1]) if length else 0
        bodies.append(rest[:size])
        sent = rest[size:]
    return bodies


def without(fields: set[str], body: bytes) -> dict[str, Any]:
    """Return a JSON object without some fields."""
    return {name: value for name, value in json.loads(body or b"{}").items() if name not in fields}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Return a gateway and its upstream."""
    with fronted(CONFIG, tmp_path_factory.mktemp("agents")) as found:
        yield found


@pytest.fixture
def bench(front: Front, tmp_path: Path) -> Iterator[NativeBench]:
    """Return the gateway and empty folders for one agent."""
    found = NativeBench(front, tmp_path)
    yield found
    found.recorder.close()


def test_codex_with_a_responses_upstream(bench: NativeBench) -> None:
    settings = documented("toml", bench.gateway).replace(bench.gateway.url, bench.url).replace('"smart"', f'"{GPT}"')
    script = ResponsesScript(agent_bench.steps_of_codex())
    output = bench.run(script, codex(bench, settings), "/v1/responses", LOCKGATE_KEY=KEY)
    bench.check_unchanged(output, "/v1/responses", "responses", 4)


def test_the_openai_agents_sdk_with_a_responses_upstream(bench: NativeBench) -> None:
    command = [str(MAIN_BIN / "python"), str(PROGRAMS / "agents_sdk.py"), "responses", TASK]
    environment = {"BASE_URL": bench.url + "/v1", "KEY": KEY, "MODEL": GPT, "OPENAI_AGENTS_DISABLE_TRACING": "1"}
    output = bench.run(ResponsesScript(agent_bench.steps_of_the_sdk()), command, "/v1/responses", **environment)
    bench.check_unchanged(output, "/v1/responses", "responses", 8, "store:set_default", "include:set_default")
    assert output.count(ANSWER) == 2


def test_claude_code_with_a_messages_upstream(bench: NativeBench) -> None:
    script = MessagesScript(agent_bench.steps_of_claude_code(bench.work / "note.txt"))
    bench.upstream.on("/v1/messages/count_tokens", canned(b'{"input_tokens": 90}'))
    address = {"ANTHROPIC_BASE_URL": bench.url, "ANTHROPIC_AUTH_TOKEN": KEY, "ANTHROPIC_DEFAULT_HAIKU_MODEL": CLAUDE}
    output = bench.run(script, claude_code(CLAUDE), "/v1/messages", **address, **QUIET_CLAUDE_CODE)
    bench.check_unchanged(output, "/v1/messages", "messages", 4)


def test_opencode_with_a_responses_upstream(bench: NativeBench) -> None:
    options = {"baseURL": bench.url + "/v1", "apiKey": KEY}
    provider = {"npm": "@ai-sdk/openai", "name": "Lockgate", "options": options, "models": {GPT: {"name": GPT}}}
    settings = json.dumps({"model": f"lockgate/{GPT}", "small_model": f"lockgate/{GPT}", "provider": {"lockgate": provider}})
    script = ResponsesScript(agent_bench.steps_of_opencode(bench.work / "note.txt"))
    output = bench.run(script, opencode(bench, settings), "/v1/responses", **QUIET_OPENCODE)
    bench.check_unchanged(output, "/v1/responses", "responses", 4, "x-session-affinity:drop")


def test_aider_with_a_messages_upstream(bench: NativeBench) -> None:
    edit, command = agent_bench.aider(f"anthropic/{CLAUDE}")
    address = {"ANTHROPIC_API_BASE": bench.url, "ANTHROPIC_API_KEY": KEY}
    output = bench.run(NativeAiderScript(edit), command, "/v1/messages", **address, LITELLM_LOCAL_MODEL_COST_MAP="True")
    bench.check_unchanged(output, "/v1/messages", "messages", 2)
