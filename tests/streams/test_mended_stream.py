"""Streams with events that are not valid JSON reach the caller as valid ones, through every provider's decoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest

from gateway.response.upstream_answer import inband_failure
from gateway.streams.mended_json import whole
from gateway.streams.mended_stream import MendedStream, feed_mending
from gateway.streams.relay import Relay
from providers.base import Options, StreamFailure
from providers.streams import ChunkNormalizer
from providers.usage import read_usage
from tests.providers.adapting import target_for
from tests.support.each import each
from tests.support.search import examples

KINDS = (
    "azure", "cerebras", "deepseek", "fireworks", "friendli", "gemini", "groq", "llamacpp", "mistral", "ollama", "openai",
    "openai-compatible", "openrouter", "siati", "together", "vllm", "xai",
)  # fmt: skip
ALPHABET = ("a", '"', "\\", "é", "\ud83d", "\ude00", "\U0001f600", "\U0001f3d4", "\n")


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def call_delta(text: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}


CALL = {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":"'}}]}
DELTAS: dict[str, Callable[[str], dict[str, Any]]] = {
    "content": lambda text: {"content": text},
    "reasoning_content": lambda text: {"reasoning_content": text},
    "arguments": call_delta,
}


def event(value: Any, name: str = "") -> bytes:
    """Return an event whose text is escaped, as Python writes it."""
    return (b"event: %b\n" % name.encode() if name else b"") + b"data: " + json.dumps(value).encode() + b"\n\n"


def relayed(kind: str, wire: bytes, size: int = 0) -> list[dict[str, Any]]:
    """Return the chunks that the caller gets. Each must be valid JSON and text."""
    target = target_for(kind)
    state = Relay(
        decoder=target.kind.decoder(target, Options(stream=True)),
        usage_asked=True,
        read_usage=read_usage,
        fail=lambda data: inband_failure(target, data),
    )
    size = size or len(wire)
    out = b"".join(state.feed(wire[at : at + size]) for at in range(0, len(wire), size)) + state.end()
    chunks = [json.loads(each[6:], parse_constant=lambda word: pytest.fail(word)) for each in out.decode().split("\n\n") if each]
    json.dumps(chunks, ensure_ascii=False).encode()
    return chunks


def text_of(chunks: list[dict[str, Any]], member: str) -> str:
    deltas = [choice["delta"] for each in chunks for choice in each["choices"]]
    if member == "arguments":
        calls = [call for delta in deltas for call in delta.get("tool_calls") or ()]
        return "".join([call["function"]["arguments"] for call in calls])
    return "".join([delta.get(member) or "" for delta in deltas])


def pieces_of(random: Random) -> list[str]:
    """Return a text of whole and half characters, cut anywhere."""
    units = "".join(random.choices(ALPHABET, k=random.randint(1, 12))).encode("utf-16-le", "surrogatepass")
    cuts = sorted({0, len(units), *(2 * random.randint(0, len(units) // 2) for _ in range(random.randint(0, 6)))})
    return [units[a:b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(cuts)]


def whole_of(pieces: list[str]) -> str:
    return whole("".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass"))


@pytest.mark.search
@each("kind", KINDS)
def test_text_that_is_escaped_and_cut_anywhere_arrives_whole(kind: str) -> None:
    random = Random(kind)
    for number in range(examples(600) // len(KINDS) + 3):
        member = ("content", "reasoning_content", "arguments")[number % 3]
        pieces = pieces_of(random)
        first = CALL if member == "arguments" else {"role": "assistant", "content": ""}
        deltas = [DELTAS[member](piece) for piece in pieces]
        closing = [call_delta('"}')] if member == "arguments" else []
        wire = b"".join([event(chunk(each)) for each in (first, *deltas, *closing)])
        wire += event(chunk({}, "tool_calls" if closing else "stop"))
        wire += b"data: [DONE]\n\n" if number % 2 else b""
        chunks = relayed(kind, wire, random.choice([0, 7, 200]))
        assert text_of(chunks, member) == (f'{{"a":"{whole_of(pieces)}"}}' if closing else whole_of(pieces)), pieces
        assert chunks[-1]["choices"][0]["finish_reason"]


def test_halves_of_a_message_of_anthropic_are_joined() -> None:
    opened = {"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}}
    wire = event(opened, "message_start")
    for index, (block, member, kind) in enumerate([
        ({"type": "thinking", "thinking": ""}, "thinking", "thinking_delta"),
        ({"type": "text", "text": ""}, "text", "text_delta"),
        ({"type": "tool_use", "id": "t", "name": "f", "input": {}}, "partial_json", "input_json_delta"),
    ]):  # fmt: skip
        wire += event({"type": "content_block_start", "index": index, "content_block": block}, "content_block_start")
        texts = ['{"a":"\ud83d', '\ude00"}'] if member == "partial_json" else ["a\ud83d", "\ude00b\ud83d"]
        for text in texts:
            delta = {"type": "content_block_delta", "index": index, "delta": {"type": kind, member: text}}
            wire += event(delta, "content_block_delta")
        wire += event({"type": "content_block_stop", "index": index}, "content_block_stop")
    ended = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}}
    wire += event(ended, "message_delta") + event({"type": "message_stop"}, "message_stop")
    chunks = relayed("anthropic", wire)
    assert text_of(chunks, "content") == "a\U0001f600b\ufffd"
    assert text_of(chunks, "reasoning_content") == "a\U0001f600b\ufffd"
    assert text_of(chunks, "arguments") == '{"a":"\U0001f600"}'


@each("kind", KINDS)
def test_log_probabilities_that_are_not_finite_are_very_unlikely(kind: str) -> None:
    tokens = [{"token": "a", "logprob": value, "bytes": [97], "top_logprobs": []} for value in (float("-inf"), float("nan"), -0.5)]
    wire = event(chunk({"role": "assistant", "content": "a"}, logprobs={"content": tokens}))
    wire += event(chunk({"content": "b"}, score=float("inf"))) + event(chunk({}, "stop")) + b"data: [DONE]\n\n"
    chunks = relayed(kind, wire)
    found = [token["logprob"] for token in chunks[0]["choices"][0]["logprobs"]["content"]]
    assert found == [-9999.0, -9999.0, -0.5]
    assert text_of(chunks, "content") == "ab"


@each("kind", KINDS)
@each("empty", [{}, "", [], False])
def test_empty_error_is_no_error(kind: str, empty: Any) -> None:
    first = {**chunk({"role": "assistant", "content": "a"}), "error": empty}
    texts = [{**chunk({"content": text}, error=empty), "error": empty} for text in ("b", "c", "d")]
    wire = b"".join([event(each) for each in (first, *texts, {**chunk({}, "stop"), "error": empty})]) + b"data: [DONE]\n\n"
    for size in (0, 40):
        chunks = relayed(kind, wire, size)
        assert text_of(chunks, "content") == "abcd"
        assert not any("error" in part for each in chunks for part in (each, *each["choices"]))


def test_stream_is_mended_only_after_an_event_that_needs_it() -> None:
    decoder = ChunkNormalizer()
    good = json.dumps(chunk({"role": "assistant", "content": "a"})).encode()
    assert feed_mending(decoder, "", good) == (decoder, (good,))
    changed, sent = feed_mending(decoder, "", json.dumps(chunk({"content": "\ud83d"})).encode())
    assert (type(changed), list(sent)) == (MendedStream, [])
    assert changed.frame is None
    assert changed.convert(event(chunk({"content": "b"}))) is None
    with pytest.raises(msgspec.DecodeError):
        feed_mending(changed, "", b"{nope")


def test_event_that_cannot_be_mended_fails_the_stream() -> None:
    with pytest.raises(StreamFailure) as failed:
        relayed("vllm", event(chunk({"role": "assistant", "content": "a"})) + b'data: {"choices":[NaN\n\n')
    assert failed.value.failure.kind == "bad_event"
