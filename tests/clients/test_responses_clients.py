"""Both openai packages use the Responses API: create, stream, parse, tools, images, errors and aborts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client_programs import MAIN_BIN, OPENAI_2_BIN, run_program
from tests.clients.conftest import KEY, fronted
from tests.faults.behaviours import canned, chat_chunk
from tests.faults.upstream_server import Exchange, FaultUpstream
from tests.running import RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]
USAGE = {
    "prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2},
}  # fmt: skip
ARGUMENTS = '{"city":"Paris"}'
ANSWERS = {
    "hello": {"content": "Hello there", "reasoning_content": "A greeting"},
    "call the tool": {"content": "Let me see", "reasoning_content": "A tool", "calls": True},
    "say json": {"content": ARGUMENTS},
    "look": {"content": "An image"},
    "result": {"content": "It is 21 degrees"},
}
CONFIG = """\
providers:
  up: {{ type: openai-compatible, base_url: "{base_url}", api_key: "${{UPSTREAM_KEY}}" }}
models: {{ m: up/mock }}
keys: {{ clients: {{ hash: "sha256:{key}" }} }}
"""


async def script(exchange: Exchange) -> None:
    """Answer according to the last message of the request."""
    fields = exchange.request.json
    last = fields["messages"][-1]
    content = last["content"]
    text = "result" if last["role"] == "tool" else content if type(content) is str else content[0]["text"]
    if text in ("break off", "endless"):
        await exchange.start_stream()
        await exchange.event(chat_chunk("one ", role="assistant"))
        while text == "endless":
            await exchange.event(chat_chunk("more "))
            await exchange.sleep(0.01)
        await exchange.sleep(0.1)
        exchange.rst()
        return
    said = ANSWERS[text]
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
    finish = "tool_calls" if said.get("calls") else "stop"
    if fields.get("stream"):
        await exchange.start_stream()
        if "reasoning_content" in said:
            await exchange.event(chat_chunk(role="assistant", reasoning_content=said["reasoning_content"]))
        for piece in str(said["content"]).split(" "):
            await exchange.event(chat_chunk(piece if piece == str(said["content"]).split(" ")[0] else f" {piece}"))
        if said.get("calls"):
            opened = {**call, "index": 0, "function": {"name": "weather", "arguments": ""}}
            await exchange.event(chat_chunk(tool_calls=[opened]))
            await exchange.event(chat_chunk(tool_calls=[{"index": 0, "function": {"arguments": ARGUMENTS}}]))
        await exchange.event(chat_chunk(finish=finish))
        await exchange.event({**chat_chunk(), "choices": [], "usage": USAGE})
        await exchange.event(b"[DONE]")
        await exchange.chunk(b"")
        return
    message: dict[str, Any] = {"role": "assistant", **{name: value for name, value in said.items() if name != "calls"}}
    if said.get("calls"):
        message["tool_calls"] = [call]
    choice = {"index": 0, "message": message, "finish_reason": finish}
    completion = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "mock",
        "choices": [choice],
        "usage": USAGE,
    }
    await canned(json.dumps(completion).encode())(exchange)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, FaultUpstream]]:
    """Return a gateway and its upstream."""
    with fronted(CONFIG, tmp_path_factory.mktemp("responses")) as front:
        yield front.gateway, front.upstream


def environment(gateway: RunningGateway) -> dict[str, str]:
    """Return the environment of a program."""
    return {"BASE_URL": gateway.base_url, "KEY": KEY, "NO_PROXY": "127.0.0.1", "HOME": "/"}


@pytest.mark.parametrize("interpreter", [MAIN_BIN / "python", OPENAI_2_BIN / "python"], ids=["openai 3", "openai 2"])
def test_the_package_assembles_each_case(serving: tuple[RunningGateway, FaultUpstream], interpreter: Path) -> None:
    gateway, upstream = serving
    upstream.reset()
    upstream.on("/v1/chat/completions", script)
    found = run_program("openai_responses.py", interpreter, environment(gateway))
    hello = {"text": "Hello there", "status": "completed", "kinds": ["reasoning", "message"], "usage": [9, 4, 5, 2]}
    assert found["json"] == hello
    events = found["stream"].pop("events")
    assert found["stream"] == hello
    assert (events[:3], events[-1]) == (
        ["response.created", "response.in_progress", "response.output_item.added"],
        "response.completed",
    )
    assert found["stream_tools"]["kinds"] == ["reasoning", "message", "function_call"]
    assert found["turn"] == {
        "call": ["weather", {"city": "Paris"}],
        "kinds": ["reasoning", "message", "function_call"],
        "text": "It is 21 degrees",
    }
    assert found["parsed"] == ["Paris", "Paris"]
    assert found["errors"] == [
        ["BadRequestError", "input"],
        ["NotFoundError", "model"],
        ["BadRequestError", "tools[0].type"],
        ["BadRequestError", "previous_response_id"],
    ]
    read, streamed = found["stored"].pop("read")
    assert read == streamed
    assert found["stored"] == {
        "text": "It is 21 degrees",
        "linked": [True, True],
        "parsed": "Paris",
        "items": ["message", "reasoning", "message", "function_call", "function_call_output", "message", "message"],
        "missing": "response_not_found",
    }
    assert found["broken"] == ["response.failed", "failed", "one "]
    assert found["image"] == "An image"
    assert found["abort"][1] == "Hello there"
    assert upstream.failures == []


def test_frameworks_use_tools_through_this_api(serving: tuple[RunningGateway, FaultUpstream]) -> None:
    gateway, upstream = serving
    upstream.reset()
    upstream.on("/v1/chat/completions", script)
    found = run_program("responses_frameworks.py", MAIN_BIN / "python", environment(gateway))
    assert found["langchain"] == {
        "text": "Hello there",
        "streamed": "Hello there",
        "call": {"city": "Paris"},
        "second": "It is 21 degrees",
    }
    assert found["pydantic_ai"] == {"text": "It is 21 degrees", "streamed": "Hello there", "tokens": 18}


def test_the_package_for_node_assembles_streams(serving: tuple[RunningGateway, FaultUpstream]) -> None:
    gateway, upstream = serving
    upstream.reset()
    upstream.on("/v1/chat/completions", script)
    found = run_program("openai_responses_node.mjs", MAIN_BIN / "node", environment(gateway))
    assert found["text"] == "Hello there"
    assert found["kinds"] == ["reasoning", "message", "function_call"]
    assert found["events"] > 15
    assert found["refused"] == "400 input"
