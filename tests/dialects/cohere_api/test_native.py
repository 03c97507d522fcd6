"""Cohere's answers and streams that pass unchanged: their bytes, usage and finish reasons, for any split of a stream."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.cohere_api.native import FIELDS, NATIVE, CohereReader, read_answer
from gateway.streams.native_relay import NativeRelay
from providers.base import StreamFailure, Usage
from tests.native import cohere_fake as fake
from tests.support.each import each
from tests.support.search import FULL, examples

TRICKY = 'message-end "error" [DONE] event: error -delta\n Zürich \u2028 \\ 🏔'
DELTA = fake.piece("content-delta", 1, content={"text": TRICKY})
STREAMS = (
    fake.STREAM,
    b"".join(fake.CALL_EVENTS),
    b": hello\n\n" + b"".join((*fake.EVENTS[:6], DELTA, *fake.EVENTS[6:])),
    fake.STREAM.removesuffix(fake.DONE),
)
USED = Usage(213, 9, 4, billed=(5, 8))


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Return a stream in pieces."""
    ends = sorted({place % len(stream) for place in places} - {0})
    return [stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]


def passed(pieces: list[bytes]) -> tuple[NativeRelay, bytes]:
    """Return a relay after these pieces, and the bytes that it sent."""
    relay = NativeRelay(CohereReader())
    out = b"".join(relay.feed(piece) for piece in pieces)
    return relay, out + relay.end()


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 5000), max_size=12))
def test_bytes_and_usage_are_those_of_the_upstream(stream: bytes, places: list[int]) -> None:
    relay, out = passed(cut(stream, places))
    assert out == stream
    assert relay.usage == USED
    assert relay.finish_reasons == (("tool_calls",) if b"tool-call" in stream else ("stop",))
    assert (relay.finished, relay.normalised) == (True, 0)
    names = (b"event: content-delta", b"event: tool-call-delta", b"event: tool-plan-delta")
    assert relay.chunks == sum(stream.count(name) for name in names)


@pytest.mark.search
def test_random_splits_change_nothing() -> None:
    random = Random(13)
    for _ in range(examples(100_000 if FULL else 4_000)):
        stream = random.choice(STREAMS)
        relay, out = passed(cut(stream, [random.randrange(len(stream)) for _ in range(random.randrange(12))]))
        assert (out, relay.usage) == (stream, USED)


@given(st.lists(st.integers(0, 5000), max_size=6), st.booleans(), st.sampled_from(["ERROR", "event", "message", "ERROR_LIMIT"]))
def test_a_failure_ends_the_stream_after_what_was_sent(places: list[int], sent: bool, kind: str) -> None:
    begun = b"".join(fake.EVENTS[:7]) if sent else fake.START
    last = {
        "ERROR": fake.ERROR,
        "ERROR_LIMIT": fake.end("ERROR_LIMIT"),
        "event": b'event: error\ndata: {"message":"Boom"}\n\n',
        "message": b'data: {"error":"Boom"}\n\n',
    }[kind]
    relay = NativeRelay(CohereReader())
    assert b"".join(relay.feed(piece) for piece in cut(begun, places)) == (begun if sent else b"")
    with pytest.raises(StreamFailure) as caught:
        relay.feed(last) or relay.end()
    assert caught.value.failure.kind == "inband_error"
    assert "Boom" in caught.value.failure.message or kind == "ERROR_LIMIT"


@each("events", [fake.EVENTS[:-2], (*fake.EVENTS[:-2], fake.DONE), (fake.START, fake.DONE)])
def test_a_stream_without_a_finish_reason_is_incomplete(events: tuple[bytes, ...]) -> None:
    with pytest.raises(StreamFailure) as caught:
        passed(list(events))
    assert caught.value.failure.kind in ("truncated", "closed_pre")


@each(
    ("reason", "finish"),
    [("COMPLETE", "stop"), ("STOP_SEQUENCE", "stop"), ("MAX_TOKENS", "length"), ("TOOL_CALL", "tool_calls"), ("TIMEOUT", "length"),
     ("A_REASON_OF_TOMORROW", "stop")],
)  # fmt: skip
def test_an_answer_keeps_its_bytes_and_shows_usage_and_finish_reason(reason: str, finish: str) -> None:
    source = json.dumps(fake.answer_of(fake.MESSAGE, reason)).encode()
    answer = read_answer(source)
    assert (answer.body, answer.usage, answer.finish_reasons) == (source, USED, (finish,))
    relay, out = passed([*fake.EVENTS[:-2], fake.end(reason), fake.DONE])
    assert (out.endswith(fake.end(reason) + fake.DONE), relay.finish_reasons) == (True, (finish,))


@each("source", [b"{}", b"[]", b"{", b'{"message":{}}', b'{"message":"x","finish_reason":"COMPLETE"}', b'{"error":"x"}'])
def test_other_bodies_are_no_answers(source: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expected|truncated|required"):
        read_answer(source)


def test_a_failed_answer_is_a_failure() -> None:
    with pytest.raises(StreamFailure, match="ERROR"):
        read_answer(json.dumps(fake.answer_of(fake.MESSAGE, "ERROR")).encode())


@each("events", [fake.EVENTS[-2] + fake.DONE, fake.EVENTS[-2], fake.EVENTS[-2].replace(b"event: message-end\n", b"") + fake.DONE])
def test_a_receipt_is_added_to_the_event_with_the_finish_reason(events: bytes) -> None:
    whole = CohereReader().with_receipt(events, b'{"model":"m"}')
    first, *others = whole.split(b"\n\n")
    assert json.loads(first.split(b"data: ")[1]) == {**json.loads(fake.EVENTS[-2].split(b"data: ")[1]), "gateway": {"model": "m"}}
    assert b"\n\n".join(others) == events.split(b"\n\n", 1)[1]


def test_the_request_has_no_field_that_only_chat_completions_have() -> None:
    assert NATIVE.foreign_field(frozenset({"model", "k", "top_p"})) == "top_p"
    assert NATIVE.foreign_field(FIELDS | {"a_field_of_tomorrow"}) is None
