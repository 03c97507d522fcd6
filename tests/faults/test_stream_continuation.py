"""Continuation of broken streams at another target: no text is lost or repeated, and both attempts are billed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.faults.behaviours import chat_chunk, sse
from tests.faults.client import CHAT_PATH, Answer, FaultClient, chat
from tests.faults.conftest import Gate, Serve
from tests.faults.upstream_server import FIN, RST, Exchange, FaultUpstream, Request, Script
from tests.running import Figure, RunningGateway

ROUNDED_MS = 0.02
"""Sum of what two values lose that are rounded to hundredths of milliseconds."""
PIECES = [
    "Once",
    " upon",
    " a",
    " time",
    "\n\n",
    "there ",
    "was ",
    " ",
    "a ",
    "gate",
    ".\n",
    "  It",
    " kept",
    " é日本👩‍👩‍👧 ",
    "all",
    " it\t",
    "heard",
    ".",
]
"""Pieces of a text, with white space on either side of their borders."""
TEXT = "".join(PIECES)
ENDINGS = {"fin": FIN, "rst": RST}


def text_to_continue(request: Request) -> str:
    """Return the text that a request asks to continue. Fail unless it uses the form of its wire."""
    fields = request.json
    last = fields["messages"][-1]
    if last["role"] != "assistant":
        return ""
    if request.path.endswith("/chat/completions"):
        assert fields["continue_final_message"] is True
        assert fields["add_generation_prompt"] is False
    assert last["content"] == last["content"].rstrip() != "", "servers refuse trailing white space"
    text: str = last["content"]
    return text


def remaining_pieces(request: Request) -> list[str]:
    """Return the pieces after the text to continue. The first one is cut where that text ends."""
    prefix = text_to_continue(request)
    assert TEXT.startswith(prefix)
    skipped, pieces = len(prefix), []
    for piece in PIECES:
        if len(piece) > skipped:
            pieces.append(piece[skipped:])
        skipped = max(0, skipped - len(piece))
    return pieces


def vllm(cut_after: int | None = None, ending: str = "fin", name: str = "mock") -> Script:
    """Return a script that streams the text, or the rest of it, on the wire of vLLM and breaks off after `cut_after` pieces."""

    async def script(exchange: Exchange) -> None:
        pieces = remaining_pieces(exchange.request)
        identity = {"id": f"chatcmpl-{name}", "created": 1700000000 + len(name), "model": name}
        await exchange.start_stream()
        await exchange.event({**chat_chunk("", role="assistant"), **identity})
        for piece in pieces[:cut_after]:
            await exchange.event({**chat_chunk(piece), **identity}, tokens=1)
        if cut_after is not None:
            await exchange.sleep(0.02)
            exchange.fin() if ending == "fin" else exchange.rst()
        usage = {"prompt_tokens": 10, "completion_tokens": len(pieces), "total_tokens": 10 + len(pieces)}
        await exchange.event({**chat_chunk(finish="stop"), **identity})
        await exchange.event({**chat_chunk(), **identity, "choices": [], "usage": usage})
        await exchange.event(b"[DONE]")
        await exchange.chunk(b"")

    return script


def anthropic(cut_after: int | None = None) -> Script:
    """Return a script that streams the text, or the rest of it, on the wire of Anthropic and breaks off after `cut_after` pieces."""

    async def script(exchange: Exchange) -> None:
        pieces = remaining_pieces(exchange.request)
        await exchange.start_stream()
        message = {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 10, "output_tokens": 1}}
        await exchange.event({"type": "message_start", "message": message})
        await exchange.event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
        for piece in pieces[:cut_after]:
            delta = {"type": "text_delta", "text": piece}
            await exchange.event({"type": "content_block_delta", "index": 0, "delta": delta}, tokens=1)
        if cut_after is not None:
            await exchange.sleep(0.02)
            exchange.fin()
        ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": len(pieces)}}
        await exchange.event(ended)
        await exchange.event({"type": "message_stop"})
        await exchange.chunk(b"")

    return script


CONTINUED = {"continue_on_cut": True}
NO_COOLDOWN = {"cooldown": {"failures": 1000, "rate": "100%"}}


def chunks_of(answer: Answer) -> list[dict[str, Any]]:
    """Return the decoded chunks of a stream. Fail unless it ends with [DONE]."""
    assert answer.status == 200
    assert answer.events[-1] == b"[DONE]", answer.events[-2:]
    return [json.loads(event) for event in answer.events[:-1]]


def assert_one_stream(answer: Answer, identity: tuple[str, int, str]) -> None:
    """Check that a stream has the complete text, one identity, one role and one finish reason."""
    chunks = chunks_of(answer)
    assert answer.text == TEXT
    with_choices = [chunk for chunk in chunks if chunk["choices"]]
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in with_choices} == {identity}
    assert [chunk["choices"][0]["delta"]["role"] for chunk in with_choices if "role" in chunk["choices"][0]["delta"]] == ["assistant"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in with_choices if chunk["choices"][0]["finish_reason"]] == ["stop"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("wire", ["vllm", "anthropic"])
async def test_a_stream_that_breaks_after_any_event_is_continued_by_the_next_target(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, wire: str, ending: str
) -> None:
    other.on(CHAT_PATH, vllm(name="another"))
    other.on("/v1/messages", anthropic())
    gate = await serve(
        (up, "mock"), (other, "claude"), every={"type": wire}, first={"type": "vllm", **NO_COOLDOWN}, model=CONTINUED, top=FULL_BUDGET
    )
    up.on(CHAT_PATH, vllm())
    for _ in range(WARM_UP_CALLS):
        assert_one_stream(await gate.ask(chat(stream=True)), ("chatcmpl-mock", 1700000004, "mock"))
    for cut_after in range(1, len(PIECES) + 1):
        up.once(vllm(cut_after, ending))
        answer = await gate.ask(chat(stream=True, stream_options={"include_usage": True}, max_tokens=100), RECEIPT)
        assert_one_stream(answer, ("chatcmpl-mock", 1700000004, "mock"))
        *_, usage, receipt = chunks_of(answer)
        assert receipt["gateway"]["continued"] == [{"at": len("".join(PIECES[:cut_after])), "target": "p1/claude"}]
        assert [attempt["outcome"] for attempt in receipt["gateway"]["attempts"]] == ["truncated" if ending == "fin" else "reset", "ok"]
        continued = other.requests[-1].tokens
        assert usage["usage"]["completion_tokens"] == continued + cut_after  # one token per event
        assert usage["usage"]["prompt_tokens"] > 10
        assert other.requests[-1].json["max_tokens"] == 100 - cut_after
    records = (await gate.records(len(PIECES) + WARM_UP_CALLS))[WARM_UP_CALLS:]
    assert all((record["status"], record["stream_end"], record["target"]) == (200, "ok", "p1/claude") for record in records)
    for cut_after, record in enumerate(records, 1):
        assert [(attempt["target"], attempt["usage"]["completion_tokens"]) for attempt in record["billed_attempts"]] == [
            ("p0/mock", cut_after)
        ]
        assert record["output_tokens"] == other.requests[cut_after - 1].tokens
    assert gate.count("lockgate_continuations", "m", "ok") == len(PIECES)


FULL_BUDGET = {"retry_budget": 1}
WARM_UP_CALLS = 30
"""Successful calls that earn the retry budget for the continuations."""
RECEIPT = (("x-gateway-receipt", "body"),)


async def test_the_only_target_able_to_continue_continues_its_own_stream_once(
    serve: Serve, up: FaultUpstream, other: FaultUpstream
) -> None:
    gate = await serve((up, "mock"), (other, "mock"), first={"type": "vllm"}, model=CONTINUED)
    up.once(vllm(4))
    up.once(vllm(name="again"))
    assert_one_stream(await gate.ask(chat(stream=True)), ("chatcmpl-mock", 1700000004, "mock"))
    up.once(vllm(4))
    up.once(vllm(4))
    answer = await gate.ask(chat(stream=True))
    assert answer.failure["code"] == "upstream_truncated"
    assert answer.text == "".join(PIECES[:8])
    assert other.requests == []
    assert len(up.requests) == 4


async def test_a_continued_stream_is_timed_from_the_target_that_began_it(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    gate = await serve((up, "a"), (other, "b"), every={"type": "vllm"}, model=CONTINUED)
    up.once(vllm(4))
    other.once(vllm())
    receipt = chunks_of(await gate.ask(chat(stream=True), RECEIPT))[-1]["gateway"]
    assert receipt["continued"]
    assert 0 < receipt["timings"]["first_token_ms"] < receipt["timings"]["upstream_ms"]
    assert 0 < receipt["time_info"]["prompt_time"] < receipt["time_info"]["total_time"]
    record = await gate.record(status=200, stream_end="ok")
    assert record["gateway_ms"] < record["first_byte_ms"]
    first, second = record["attempts"]
    assert first["sent_ms"] + first["ms"] <= second["sent_ms"] + ROUNDED_MS
    assert second["sent_ms"] <= second["head_ms"]
    latencies = gate.gateway.latencies
    assert latencies["p0/a"].expected(stream=True) > 0
    assert latencies["p1/b"].expected(stream=True) == 0.0, "a continuation has no time to first token"
    latency_ms = {view.target: view.latency_ms for view in gate.gateway.target_views()}
    assert latency_ms["p0/a"] is None
    assert latency_ms["p1/b"] is None


async def test_a_stream_that_breaks_twice_is_continued_twice(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    async with FaultUpstream() as third:
        gate = await serve((up, "a"), (other, "b"), (third, "c"), every={"type": "vllm"}, model=CONTINUED)
        up.once(vllm(5))
        other.once(vllm(6, "rst", name="second"))
        third.once(vllm(name="third"))
        answer = await gate.ask(chat(stream=True), RECEIPT)
        assert_one_stream(answer, ("chatcmpl-mock", 1700000004, "mock"))
        receipt = chunks_of(answer)[-1]["gateway"]
    first, second = len("".join(PIECES[:5])), len("".join(PIECES[:10]))  # the white space at the first seam arrived twice and was sent once
    assert receipt["continued"] == [{"at": first, "target": "p1/b"}, {"at": second, "target": "p2/c"}]
    assert [attempt["outcome"] for attempt in receipt["attempts"]] == ["truncated", "reset", "ok"]


async def test_a_stream_from_a_fallback_within_a_split_is_continued(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    split = {"targets": {"p0/500": 1_000_000, "p1/mock": 1}, **CONTINUED}
    gate = await serve((up, "500"), (other, "mock"), every={"type": "vllm"}, more={"split": split})
    other.once(vllm(4))
    other.once(vllm(name="again"))
    answer = await gate.ask(chat("split", stream=True), RECEIPT)
    assert_one_stream(answer, ("chatcmpl-mock", 1700000004, "mock"))
    receipt = chunks_of(answer)[-1]["gateway"]
    assert [attempt["outcome"] for attempt in receipt["attempts"]] == ["500", "truncated", "ok"]


async def test_the_openai_package_reads_a_continued_stream_as_one(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    gate = await serve((up, "mock"), (other, "mock"), every={"type": "vllm"}, model=CONTINUED)
    up.once(vllm(7))
    other.once(vllm())
    async with gate.openai_client() as client:
        stream = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
        contents = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(contents) == TEXT


async def test_a_stop_string_across_the_seam_ends_the_text(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    gate = await serve((up, "mock"), (other, "mock"), every={"type": "vllm"}, model=CONTINUED)
    up.once(vllm(9))
    other.once(vllm())
    answer = await gate.ask(chat(stream=True, stop=["a gate"]))
    assert answer.text == TEXT[: TEXT.index("a gate")]
    assert chunks_of(answer)[-1]["choices"][0]["finish_reason"] == "stop"


def tool_call_chunk() -> dict[str, Any]:
    """Return a chunk in which a tool call begins."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{"}}
    return chat_chunk(tool_calls=[call])


NOT_CONTINUABLE: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "json": ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}}, []),
    "json object": ({"response_format": {"type": "json_object"}}, []),
    "grammar": ({"guided_regex": "(yes|no)"}, []),
    "structured": ({"structured_outputs": {"choice": ["a", "b"]}}, []),
    "assistant prefix": ({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well,"}]}, []),
    "several choices": ({"n": 2}, []),
    "tool call": ({}, [tool_call_chunk()]),
    "reasoning": ({}, [chat_chunk(reasoning_content="let me think")]),
    "finished": ({}, [chat_chunk(finish="stop")]),
}


@pytest.mark.parametrize("case", NOT_CONTINUABLE)
async def test_a_stream_that_cannot_be_continued_ends_with_its_error(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, case: str
) -> None:
    fields, more = NOT_CONTINUABLE[case]
    up.on(CHAT_PATH, sse(chat_chunk("", role="assistant"), chat_chunk("one "), *more, ending=RST))
    gate = await serve((up, "mock"), (other, "mock"), every={"type": "vllm"}, model=CONTINUED)
    answer = await gate.ask(chat(stream=True, **fields))
    assert answer.failure["code"] == "upstream_reset"
    assert other.requests == []
    assert gate.count("lockgate_continuations") == 0


async def test_continuation_is_off_by_default(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    gate = await serve((up, "mock"), (other, "mock"), every={"type": "vllm"})
    up.once(vllm(4))
    assert (await gate.ask(chat(stream=True))).failure["code"] == "upstream_truncated"
    assert other.requests == []


async def test_targets_that_cannot_continue_a_text_are_skipped(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    async with FaultUpstream() as third:  # the second and third may be any OpenAI-compatible server
        gate = await serve((up, "500"), (other, "mock"), (third, "mock"), first={"type": "vllm"}, model=CONTINUED)
        other.once(vllm(4))
        answer = await gate.ask(chat(stream=True))
        assert (answer.failure["code"], answer.text) == ("upstream_truncated", "".join(PIECES[:4]))
        assert (len(up.requests), len(other.requests), third.requests) == (1, 1, [])


@pytest.mark.parametrize("behaviour", ["500", "silent-after-head", "error-first-event", "fin-after-head"])
async def test_a_failed_continuation_returns_the_first_error(serve: Serve, up: FaultUpstream, other: FaultUpstream, behaviour: str) -> None:
    idle = {"idle_timeout": "2s"} if behaviour == "silent-after-head" else {}  # longer than a pause of the first target
    gate = await serve((up, "mock"), (other, behaviour), every={"type": "vllm", **idle}, model=CONTINUED)
    up.once(vllm(4))
    answer = await gate.ask(chat(stream=True))
    assert (answer.failure["code"], answer.text) == ("upstream_truncated", "".join(PIECES[:4]))
    record = await gate.record(status=200, target="p0/mock", estimated=True, output_tokens=4)
    assert len(record["attempts"]) == 2


async def test_a_disconnect_ends_the_continuation(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    gate: Gate = await serve((up, "mock"), (other, "silent"), every={"type": "vllm"}, model=CONTINUED)
    up.once(vllm(4))
    async with await FaultClient.connect(gate.port) as client:
        await client.post(chat(stream=True))
        await other.wait_for(lambda other: len(other.requests) == 1)
        client.rst()
        await other.wait_for(lambda other: other.ledger.open == 0)
        await gate.record(status=499, aborted="mid")


async def test_the_local_engine_continues_the_stream_of_another_server(
    gateway: Callable[..., RunningGateway], up: FaultUpstream, figure: Figure
) -> None:
    prefix = "The three primary colours are red, yellow and "
    up.on(CHAT_PATH, sse(chat_chunk("", role="assistant"), *map(chat_chunk, prefix.split("&")), ending=FIN))
    providers = {"gpu": {"type": "vllm", "base_url": up.base_url}, "local": {}}
    local = "local/smollm2-135m-instruct"
    models = {"m": {"targets": ["gpu/mock", local], "continue_on_cut": True}, "alone": local}
    running = await asyncio.to_thread(gateway, json.dumps({"providers": providers, "models": models}))
    await asyncio.to_thread(running.wait_ready, 300)
    question = [{"role": "user", "content": "Name the three primary colours."}]
    fields: dict[str, Any] = {"messages": question, "temperature": 0, "max_tokens": 24, "seed": 1}
    async with openai.AsyncOpenAI(base_url=running.base_url, api_key="none", max_retries=0, timeout=120) as client:
        stream = await client.chat.completions.create(
            model="m", stream=True, stream_options={"include_usage": True}, **fields, extra_headers=dict(RECEIPT)
        )
        chunks = [chunk async for chunk in stream]
        prefix_message = {"role": "assistant", "content": prefix.rstrip()}
        alone = await client.chat.completions.create(model="alone", **{**fields, "messages": [*question, prefix_message]})
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    continuation = alone.choices[0].message.content or ""
    assert text.startswith(prefix + continuation.lstrip()[:20])
    assert len({chunk.id for chunk in chunks}) == 1
    assert sum(bool(chunk.usage) for chunk in chunks) == 1
    receipt = chunks[-1].model_extra["gateway"]  # type: ignore[index]
    assert receipt["continued"] == [{"at": len(prefix), "target": local}]
    figure("characters continued by the local engine", len(text) - len(prefix), "")
    await asyncio.to_thread(running.stop)
