"""Conversion by template gives what decoding each chunk would give."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.streams.chunks import count_framed
from providers.chunk_templates import ChunkTemplates
from providers.streams import ChunkNormalizer
from tests.providers.wires import chunk
from tests.support.search import examples


def choice(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**chunk({}), "choices": [{"index": 0, "delta": delta, "finish_reason": None, **more}]}


def logprob(value: float) -> dict[str, Any]:
    return {"content": [{"token": 'a"', "logprob": value, "bytes": None, "top_logprobs": [{"token": "]}", "logprob": value}]}]}


TEXTS = st.text(max_size=8) | st.sampled_from(['"', "\\", "\n", '","finish_reason":"stop"', "\u00e9\u200b", "\x00", "\ud83d\ude00"])
SHAPES: tuple[Any, ...] = (
    lambda text: choice({"content": text}),
    lambda text: choice({"role": "assistant", "content": text}),
    lambda text: choice({"content": "", "reasoning_content": text}),
    lambda text: choice({"content": [{"type": "text", "text": text}]}),
    lambda text: {**choice({"content": text}), "obfuscation": "x" * len(text)},
    lambda text: {**choice({"content": text}, logprobs=logprob(len(text) / 3)), "obfuscation": "y"},
    lambda text: {**choice({"content": text}), "created": 9},
    lambda text: {**choice({"content": text}), "id": "other"},
    lambda text: choice({"content": text}, index=1),
    lambda text: choice({"content": text}, finish_reason=""),
    lambda text: choice({"tool_calls": [{"function": {"arguments": text}}]}),
    lambda text: choice({"tool_calls": [{"index": 0, "function": {"arguments": text}}]}),
    lambda text: choice({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": text}}]}),
    lambda text: choice({"tool_calls": [{"index": 0, "id": "c2", "function": {"name": "g", "arguments": ""}}]}),
    lambda text: choice({"content": text}, finish_reason="stop"),
    lambda text: {**chunk({}), "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": len(text), "total_tokens": 9}},
)
STREAMS = st.lists(st.tuples(st.sampled_from(SHAPES), TEXTS, st.booleans()), max_size=30)


def assert_equal_with_and_without_templates(stream: list[tuple[Any, str, bool]]) -> None:
    fast, slow = ChunkNormalizer(model="m"), ChunkNormalizer(model="m")
    for shape, text, is_ascii in stream:
        data = json.dumps(shape(text), ensure_ascii=is_ascii, separators=(",", ":")).encode("utf-8", "surrogatepass")
        event = b"data: " + data + b"\n\n"
        is_framed = fast.frame is not None and count_framed(event, *fast.frame) == 1
        converted = event if is_framed else fast.convert(event)
        chunks = [converted[6:-2]] if converted is not None else list(fast.feed("", data))
        slow._is_clean = False
        slow._templates = ChunkTemplates()  # nothing is known, so each chunk is decoded
        assert [json.loads(sent) for sent in chunks] == [json.loads(sent) for sent in slow.feed("", data)]


@given(STREAMS)
@settings(max_examples=examples(50), deadline=None)
def test_templates_give_what_decoding_gives(stream: list[tuple[Any, str, bool]]) -> None:
    assert_equal_with_and_without_templates(stream)


@pytest.mark.prove
@given(STREAMS)
@settings(max_examples=examples(500), deadline=None)
def test_templates_give_what_decoding_gives_for_many_streams(stream: list[tuple[Any, str, bool]]) -> None:
    assert_equal_with_and_without_templates(stream)


def test_converted_chunk_keeps_its_bytes_or_those_that_were_sent() -> None:
    templates = ChunkTemplates()
    templates.learn(b'{"a":1,"content":"A"}', b'{"a":2,"content":"A"}', "A")
    assert templates.convert(b'data: {"a":1,"content":"\\u00e9"}\n\n') == b'data: {"a":2,"content":"\\u00e9"}\n\n'
    for other in (b'{"a":3,"content":"B"}', b'{"a":1,"content":"B","a":1}', b'{"a":1,"content":"\\x"}', b'{"a":1,"content":"\x01"}'):
        assert templates.convert(b"data: " + other + b"\n\n") is None


def test_arguments_that_are_converted_count_as_received() -> None:
    templates = ChunkTemplates()
    received: list[str] = []
    templates.learn(b'{"arguments":"A"}', b'{"arguments":"A"}', "A", received)
    assert templates.convert(b'data: {"arguments":"\\"B\\""}\n\ndata: {"arguments":"C"}\n\n') is not None
    assert "".join(received) == '"B"C'
    templates.forget_calls()
    assert templates.convert(b'data: {"arguments":"C"}\n\n') is None
