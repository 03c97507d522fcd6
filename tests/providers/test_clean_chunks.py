"""Only clean chunks are recognized as clean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.streams.chunks import count_framed
from providers.clean_chunks import CHAT_CHUNKS, TEXT_CHUNKS, frame_of
from providers.streams import ChunkNormalizer

CLEAN: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1700000000,
    "model": "m",
    "system_fingerprint": None,
    "choices": [{"index": 0, "delta": {"content": "Hello"}, "logprobs": None, "finish_reason": None}],
}


def with_choice(**changes: Any) -> dict[str, Any]:
    return {**CLEAN, "choices": [{**CLEAN["choices"][0], **changes}]}


def data_of(chunk: Any) -> bytes:
    return json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode()


CLEAN_CHUNKS = (
    CLEAN,
    with_choice(delta={"role": "assistant", "content": "", "refusal": None}),
    with_choice(delta={}, finish_reason="stop"),
    with_choice(delta={"reasoning_content": "Hm"}),
    {**CLEAN, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}},
)
OTHERS = (
    {**CLEAN, "id": ""},
    {**CLEAN, "id": None},
    {**CLEAN, "object": "chat.completion"},
    {**CLEAN, "created": "1700000000"},
    {**CLEAN, "choices": None},
    {**CLEAN, "error": {"message": "no"}},
    {**CLEAN, "choices": [CLEAN["choices"][0], {**CLEAN["choices"][0], "index": 1}]},
    with_choice(index=None),
    with_choice(index=-1),
    with_choice(finish_reason="eos"),
    with_choice(delta={"content": [{"type": "text", "text": "Hello"}]}),
    with_choice(delta={"tool_calls": []}),
    with_choice(delta={"role": "model"}),
    with_choice(usage={"prompt_tokens": 1}),
    {**CLEAN, "usage": {"prompt_tokens": -1, "completion_tokens": 2, "total_tokens": 3}},
)


@pytest.mark.parametrize("chunk", CLEAN_CHUNKS)
def test_clean_chunk_is_read_and_kept(chunk: dict[str, Any]) -> None:
    assert CHAT_CHUNKS.read(data_of(chunk)) is not None
    decoder = ChunkNormalizer(model="m")
    if "role" not in (chunk["choices"] or [{"delta": {"role": ""}}])[0]["delta"]:
        decoder.feed("", data_of(with_choice(delta={"role": "assistant"})))
    assert decoder.feed("", data_of(chunk)) == (data_of(chunk),)


def test_clean_stream_without_a_role_gets_one_and_stays_clean() -> None:
    decoder = ChunkNormalizer(model="m")
    [first] = decoder.feed("", data_of(CLEAN))
    assert json.loads(first) == with_choice(delta={"role": "assistant", "content": "Hello"})
    events = (b"data: " + data_of(CLEAN) + b"\n\n") * 3
    assert decoder.convert(events) is events
    assert decoder.feed("", data_of(CLEAN)) == (data_of(CLEAN),)
    prefix, suffix = decoder.frame or (b"", b"")
    assert prefix + b"Hello" + suffix == b"data: " + data_of(CLEAN) + b"\n\n"


@pytest.mark.parametrize("chunk", OTHERS)
def test_other_chunk_is_not_read(chunk: dict[str, Any]) -> None:
    assert CHAT_CHUNKS.read(data_of(chunk)) is None
    assert CHAT_CHUNKS.read_events(b"data: " + data_of(CLEAN) + b"\n\ndata: " + data_of(chunk) + b"\n\n") is None


def test_other_white_space_between_chunks_is_not_read() -> None:
    event = b"data: " + data_of(CLEAN) + b"\n\n"
    assert len(CHAT_CHUNKS.read_events(event * 2) or ()) == 2
    for other in (event + b"\n", event + b"\n" + event, event[:-2] + b" " + event[6:], event.replace(b",", b",\n", 1)):
        assert CHAT_CHUNKS.read_events(other) is None


def test_invalid_encoding_is_not_read() -> None:
    assert CHAT_CHUNKS.read(data_of(CLEAN).replace(b"Hello", b"\xff")) is None


def test_usage_with_tokens_outside_its_parts_is_not_passed_on() -> None:
    hidden = {**CLEAN, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 9}}
    decoder = ChunkNormalizer(model="m", hides_output=True)
    decoder.feed("", data_of(CLEAN))
    assert json.loads(decoder.feed("", data_of(hidden))[0])["usage"]["completion_tokens"] == 8


def test_frame_is_what_surrounds_the_content() -> None:
    data = data_of(CLEAN)
    chunk = CHAT_CHUNKS.read(data)
    assert chunk is not None
    frame = frame_of(data, chunk)
    assert frame is not None
    assert frame[0] + b"Hello" + frame[1] == b"data: " + data + b"\n\n"


@pytest.mark.parametrize("content", ["m", "chatcmpl-1", "", 'a"b', "a\\b"])
def test_content_that_may_stand_elsewhere_has_no_frame(content: str) -> None:
    data = data_of(with_choice(delta={"content": content}))
    chunk = CHAT_CHUNKS.read(data)
    assert chunk is not None
    assert frame_of(data, chunk) is None


@pytest.mark.parametrize(
    ("texts", "count"),
    [
        (["a"], 1),
        (["a", "b c", "\u00e9"], 3),
        ([""], 1),
        (["a", 'b"'], 0),
        (["\\n"], 0),
        (["\x00"], 0),
        (["\n"], 0),
        (['","x":"'], 0),
    ],
)
def test_framed_events_are_counted_if_nothing_else_is_among_them(texts: list[str], count: int) -> None:
    prefix, suffix = b'data: {"content":"', b'"}\n\n'
    piece = b"".join(prefix + text.encode() + suffix for text in texts)
    assert count_framed(piece, prefix, suffix) == count
    assert count_framed(piece[:-1], prefix, suffix) == 0
    assert count_framed(piece + b"data: ", prefix, suffix) == 0


def test_overlap_of_prefix_and_suffix_is_not_an_event() -> None:
    assert count_framed(b'data: "\n\n', b'data: "', b'"\n\n') == 0
    assert count_framed(b'data: "\xff"\n\n', b'data: "', b'"\n\n') == 0


TEXT: dict[str, Any] = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1700000000,
    "model": "m",
    "choices": [{"index": 0, "text": "Hello", "logprobs": None, "finish_reason": None, "stop_reason": None}],
}


def with_text_choice(**changes: Any) -> dict[str, Any]:
    return {**TEXT, "choices": [{**TEXT["choices"][0], **changes}]}


def test_clean_text_completion_passes_unchanged() -> None:
    decoder = ChunkNormalizer(model="m", operation="completions")
    event = b"data: " + data_of(TEXT) + b"\n\n"
    assert decoder.convert(event) is None  # the identity of the stream is unknown
    assert decoder.feed("", data_of(TEXT)) == (data_of(TEXT),)
    assert decoder.convert(event * 3) == event * 3
    prefix, suffix = decoder.frame or (b"", b"")
    assert prefix + b"Hello" + suffix == event
    last = with_text_choice(text="", finish_reason="stop")
    assert decoder.convert(b"data: " + data_of(last) + b"\n\n") is None
    assert decoder.feed("", data_of(last)) == (data_of(last),)


@pytest.mark.parametrize(
    "chunk",
    [
        CLEAN,
        {**TEXT, "object": "chat.completion.chunk"},
        with_text_choice(text=None),
        with_text_choice(finish_reason="eos"),
        with_text_choice(logprobs={"tokens": []}),
        with_text_choice(delta={"content": "x"}),
    ],
)
def test_other_text_completion_is_not_read(chunk: dict[str, Any]) -> None:
    assert TEXT_CHUNKS.read(data_of(chunk)) is None
    assert TEXT_CHUNKS.read_events(b"data: " + data_of(chunk) + b"\n\n") is None
