"""Messages and their streams, read without a translation."""

from __future__ import annotations

import json

import pytest

from gateway.dialects.messages_api.native import NATIVE, MessageReader, read_answer
from providers.anthropic.answers import MessageStream
from providers.base import Usage
from providers.usage import read_usage
from tests.native.anthropic_fake import ANSWER, FINISH, MESSAGE, PING, STOP
from tests.support.each import each


def test_a_message_keeps_its_bytes_and_shows_usage_and_stop() -> None:
    answer = read_answer(ANSWER)
    assert answer.body is ANSWER
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (13, 9)
    assert (answer.usage.cached_tokens, answer.usage.cache_write_tokens, answer.usage.reasoning_tokens) == (4, 2, 3)
    assert (answer.finish_reasons, answer.stop) == (("stop",), None)
    stopped = read_answer(json.dumps({**MESSAGE, "stop_reason": "stop_sequence", "stop_sequence": "x", "usage": None}).encode())
    assert (stopped.finish_reasons, stopped.stop, stopped.usage) == (("stop",), "x", None)


@pytest.mark.parametrize("source", [b"{}", b"[]", b'{"content":"text"}', b'{"content":[],"type":"completion"}', b"{", b'{"content":null}'])
def test_other_bodies_are_no_messages(source: bytes) -> None:
    with pytest.raises(ValueError, match=r"content|JSON|Expected|truncated|required"):
        read_answer(source)


@pytest.mark.parametrize("events", [FINISH + STOP, FINISH + PING + STOP, FINISH.replace(b"event: message_delta\n", b"") + STOP])
def test_a_receipt_is_added_to_the_event_with_the_stop_reason(events: bytes) -> None:
    whole = MessageReader().with_receipt(events, b'{"model":"m"}')
    first, *others = whole.split(b"\n\n")
    assert json.loads(first.split(b"data: ")[1]) == {**json.loads(FINISH.split(b"data: ")[1]), "gateway": {"model": "m"}}
    assert b"\n\n".join(others) == events.split(b"\n\n", 1)[1]


def test_the_request_has_no_field_that_only_chat_completions_have() -> None:
    assert NATIVE.foreign_field(frozenset({"model", "thinking", "seed"})) == "seed"
    assert NATIVE.foreign_field(NATIVE.fields) is None


def test_the_tier_and_the_cache_of_an_hour_are_part_of_the_usage() -> None:
    usage = {
        "input_tokens": 3, "output_tokens": 2, "cache_creation_input_tokens": 9, "speed": "fast", "service_tier": "standard",
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 7},
    }  # fmt: skip
    expected = Usage(12, 2, cache_write_tokens=9, cache_write_1h_tokens=7, service_tier="fast")
    assert read_answer(json.dumps({**MESSAGE, "usage": usage}).encode()).usage == expected
    reader, stream = MessageReader(), MessageStream(created=1)
    first = {"type": "message_start", "message": {**MESSAGE, "usage": {**usage, "output_tokens": 1}}}
    last = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
    chunks: list[bytes] = []
    for event in (first, last, {"type": "message_stop"}):
        reader.read("", json.dumps(event).encode())
        chunks += stream.feed("", json.dumps(event).encode())
    assert reader.usage == expected
    final = json.loads(chunks[-2])
    assert read_usage(final["usage"], final["service_tier"]) == expected


CACHED = {"input_tokens": 3, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 9}


@each(
    ("first", "last", "prompt"),
    [
        (CACHED, {}, (52, 40, 9)),
        (CACHED, {"input_tokens": 0}, (52, 40, 9)),
        (CACHED, {"input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}, (52, 40, 9)),
        (CACHED, {"input_tokens": None, "cache_read_input_tokens": None}, (52, 40, 9)),
        ({"input_tokens": 0}, CACHED, (52, 40, 9)),
        ({"input_tokens": 52}, CACHED, (52, 40, 9)),
        (CACHED, {"input_tokens": 3, "cache_read_input_tokens": 49, "cache_creation_input_tokens": 0}, (52, 49, 0)),
        (CACHED, {"input_tokens": 13, "cache_read_input_tokens": 80, "cache_creation_input_tokens": 9}, (102, 80, 9)),
        (None, CACHED, (52, 40, 9)),
    ],
)
def test_the_counts_of_a_stream_are_those_of_its_last_event_that_has_tokens_of_the_prompt(
    first: dict[str, int] | None, last: dict[str, int | None], prompt: tuple[int, int, int]
) -> None:
    reader, stream = MessageReader(), MessageStream(created=1)
    start = {**MESSAGE, "usage": None if first is None else {**first, "output_tokens": 1}}
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {**last, "output_tokens": 7}}
    chunks: list[bytes] = []
    for event in ({"type": "message_start", "message": start}, delta, {"type": "message_stop"}):
        reader.read("", json.dumps(event).encode())
        chunks += stream.feed("", json.dumps(event).encode())
    expected = Usage(prompt[0], 7, prompt[1], cache_write_tokens=prompt[2])
    assert reader.usage == expected
    assert read_usage(json.loads(chunks[-2])["usage"]) == expected
