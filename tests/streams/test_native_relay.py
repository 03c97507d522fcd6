"""A stream in the caller's own format keeps its bytes, or is repaired or ended, whatever the splits."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.messages_api.native import MessageReader
from gateway.dialects.responses_api.native import ResponseReader
from gateway.streams.native_relay import NativeRelay
from gateway.streams.relay import MAX_HELD_BYTES
from gateway.streams.sse import MAX_EVENT_BYTES
from providers.base import StreamFailure
from tests.native import responses_fake
from tests.native.anthropic_fake import EVENTS, FINISH, OVERLOADED, PING, START, STOP, STREAM, blocks, event
from tests.support.search import examples

UNICODE = (START, *blocks([{"type": "text", "text": "Zürich \u2028 \\ \"error\" message_stop 🏔"}]), PING, FINISH, STOP)
STREAMS = (STREAM, b"".join(UNICODE), b": hello\n\n" + STREAM, b"\xef\xbb\xbf" + STREAM)


def relay(pieces: list[bytes], most: float = float("inf")) -> tuple[NativeRelay, list[bytes]]:
    """Return a relay that has read the pieces until it was done and was then ended, and the pieces that it sent."""
    relay = NativeRelay(MessageReader(), max_events=most)
    out = []
    for piece in pieces:
        if relay.done:
            relay.discard(piece)
        else:
            out.append(relay.feed(piece))
    out.append(relay.end())
    return relay, out


TEXTS = st.text(max_size=30) | st.sampled_from(["message_stop", '"error"', "event: content_block_delta", "\n\ndata: x", "\r\n"])
BLOCK = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, TEXTS),
    st.builds(lambda text: {"type": "a_block_of_tomorrow", "value": text}, TEXTS),
)
FORMS = st.tuples(st.sampled_from([b"data: ", b"data:"]), st.booleans(), st.sampled_from([b"", b": comment\n\n", PING]))


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Draw a whole stream: blocks of any text, with or without names of events, with comments and pings between them.

    Return the stream as it arrives and as it is sent.
    """
    prefix, named, between = draw(FORMS)
    output = draw(st.integers(0, 10**6))
    finish = event("message_delta", delta={"stop_reason": "max_tokens"}, usage={"output_tokens": output})
    whole = between.join([START, *blocks(draw(st.lists(BLOCK, max_size=4))), finish, STOP]).replace(b"data: {", prefix + b"{")
    if named:
        return whole, whole
    unnamed = b"\n\n".join(part.partition(b"\n")[2] or part for part in whole.split(b"\n\n"))
    return unnamed, whole.replace(b": comment\n\n", b"").replace(b"\ndata:{", b"\ndata: {")


@settings(max_examples=examples(400))
@given(streams(), st.lists(st.integers(0, 5000), max_size=12))
def test_any_stream_keeps_its_bytes_or_gets_names(stream: tuple[bytes, bytes], places: list[int]) -> None:
    arrived, expected = stream
    passed, out = relay(cut(arrived, places))
    sent = b"".join(out)
    assert (sent if arrived == expected else sent.replace(b": comment\n\n", b"")) == expected
    assert (passed.finish_reasons, passed.normalised) == (("length",), 0)
    assert passed.usage is not None
    assert (passed.usage.prompt_tokens, passed.usage.cached_tokens) == (13, 4)
    assert b'"output_tokens": %d' % passed.usage.completion_tokens in arrived


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Return a stream in pieces."""
    ends = sorted({place % len(stream) for place in places} - {0})
    return [stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 5000), max_size=12))
def test_bytes_and_usage_are_those_of_the_upstream(stream: bytes, places: list[int]) -> None:
    passed, out = relay(cut(stream, places))
    assert b"".join(out) == stream
    assert passed.usage is not None
    assert (passed.usage.prompt_tokens, passed.usage.completion_tokens, passed.usage.estimated) == (13, 9, False)
    assert (passed.usage.cached_tokens, passed.usage.cache_write_tokens, passed.usage.reasoning_tokens) == (4, 2, 3)
    assert (passed.finish_reasons, passed.done, passed.normalised) == (("stop",), True, 0)


@pytest.mark.prove
@pytest.mark.parametrize("stream", STREAMS)
def test_25000_random_splits_change_nothing(stream: bytes) -> None:
    random = Random(11)
    for _ in range(25_000):
        passed, out = relay(cut(stream, [random.randrange(len(stream)) for _ in range(random.randrange(12))]))
        assert b"".join(out) == stream
        assert passed.finished


@given(st.sampled_from((b"\r\n", b"\r")), st.lists(st.integers(0, 5000), max_size=12))
def test_other_line_ends_become_lf(end: bytes, places: list[int]) -> None:
    _, out = relay(cut(STREAM.replace(b"\n", end), places))
    assert b"".join(out) == STREAM


@given(st.lists(st.integers(0, 5000), max_size=6), st.booleans())
def test_an_error_event_ends_the_stream_after_what_was_sent(places: list[int], sent: bool) -> None:
    begun = b"".join(EVENTS[:5]) if sent else START + PING
    passed = NativeRelay(MessageReader())
    out = b"".join(passed.feed(piece) for piece in cut(begun, places))
    assert out == (begun if sent else b"")
    with pytest.raises(StreamFailure) as raised:
        passed.feed(OVERLOADED) or passed.end()
    assert raised.value.failure.kind == "overloaded"


def test_nothing_is_sent_before_the_content_unless_it_is_long() -> None:
    passed = NativeRelay(MessageReader())
    assert passed.feed(START + PING + EVENTS[2]) == b""
    assert passed.feed(EVENTS[3]) == START + PING + EVENTS[2] + EVENTS[3]
    passed = NativeRelay(MessageReader())
    assert passed.feed(START + PING * (MAX_HELD_BYTES // len(PING))) != b""
    assert passed.started


def test_a_missing_last_event_is_added_after_the_finish_reason() -> None:
    passed, out = relay([b"".join(EVENTS[:-1])])
    assert b"".join(out) == b"".join(EVENTS[:-1]) + b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    assert passed.finished
    _, out = relay([b"".join(EVENTS[:-1]) + b"event: mess"])
    assert b"".join(out).endswith(b'{"type":"message_stop"}\n\n')


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (START, "closed_pre"),
        (b"", "closed_pre"),
        (b"".join(EVENTS[:5]), "truncated"),
        (b"".join(EVENTS[:5]) + b"event: content_block_delta\ndata: {", "truncated"),
        (b"".join(EVENTS[:5]) + STOP, "truncated"),
        (b"data: [DONE]\n\n", "bad_event"),
        (b"".join(EVENTS[:5]) + b"data: {message_\n\n" + STOP, "bad_event"),
        (b"data: " + b"x" * (MAX_EVENT_BYTES + 1), "too_large"),
        (b"data: " + b"x" * (MAX_EVENT_BYTES + 1) + b"\r", "too_large"),
    ],
)
def test_a_stream_without_a_finish_reason_fails(stream: bytes, kind: str) -> None:
    with pytest.raises(StreamFailure) as raised:
        relay([stream])
    assert raised.value.failure.kind == kind


def test_a_stream_far_beyond_its_output_limit_is_ended() -> None:
    delta = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x"})
    with pytest.raises(StreamFailure, match="far beyond"):
        relay([START, EVENTS[2], delta * 5, delta * 6], most=10)


def test_data_after_the_end_is_left_out_and_counted() -> None:
    passed, out = relay([STREAM + b"data: [DONE]\n\n"])
    assert (b"".join(out), passed.normalised) == (STREAM, 1)
    passed, out = relay([STREAM, b"data: [DONE]\n\n"])
    assert (b"".join(out), passed.normalised) == (STREAM, 1)


def test_usage_that_a_stream_did_not_report_is_unknown() -> None:
    passed, _ = relay([EVENTS[2], EVENTS[3], event("message_delta", delta={"stop_reason": "end_turn"}), STOP])
    assert passed.usage is None
    passed, _ = relay([START, EVENTS[3], event("message_delta", delta={"stop_reason": "stop_sequence", "stop_sequence": "x"}), STOP])
    assert passed.usage is not None
    assert (passed.usage.prompt_tokens, passed.usage.completion_tokens, passed.reader.stop) == (13, 0, "x")


def without_names(stream: bytes) -> bytes:
    return b"".join([line + b"\n" for line in stream[:-1].split(b"\n") if not line.startswith(b"event:")])


@given(st.lists(st.integers(0, 5000), max_size=6))
def test_events_get_their_names_and_are_counted(places: list[int]) -> None:
    passed, out = relay(cut(without_names(STREAM), places))
    assert b"".join(out) == STREAM
    assert passed.chunks == STREAM.count(b"event: content_block_delta")
    responses = NativeRelay(ResponseReader())
    sent = b"".join([responses.feed(piece) for piece in cut(without_names(responses_fake.STREAM), places)]) + responses.end()
    assert sent == responses_fake.STREAM


HALVES = ("a\ud83d", "\ude00b", "\ud83d", "c", "d\ud83d")


def texts_of(sent: bytes, member: str) -> str:
    deltas = [json.loads(line[6:])["delta"] for line in sent.decode().splitlines() if line.startswith("data: ") and '"delta":' in line]
    return "".join([delta if type(delta) is str else delta.get(member, "") for delta in deltas])


@given(st.lists(st.integers(0, 5000), max_size=6), st.booleans(), st.booleans())
def test_half_characters_are_joined_or_replaced(places: list[int], named: bool, uppercase: bool) -> None:
    delta = [event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}) for text in HALVES]
    stream = b"".join([START, EVENTS[1], *delta, event("content_block_stop", index=0), FINISH, STOP])
    stream = stream.replace(b"\\ud83d", b"\\uD83D") if uppercase else stream
    passed, out = relay(cut(stream if named else without_names(stream), places))
    sent = b"".join(out)
    assert texts_of(sent, "text") == "a\U0001f600b\ufffdcd\ufffd"
    assert sent.endswith(FINISH + STOP)
    assert (sent.count(b"event: "), passed.usage is not None) == (stream.count(b"event: "), True)


def test_half_characters_of_responses_are_joined_or_replaced() -> None:
    place = responses_fake.PLACE
    deltas = [
        responses_fake.event("response.output_text.delta", 9 + at, **place, delta=text) for at, text in enumerate(HALVES)
    ]
    last = responses_fake.event("response.completed", 40, response={**responses_fake.RESPONSE, "metadata": {"a": "\ud83d"}})
    passed = NativeRelay(ResponseReader())
    sent = b"".join([passed.feed(piece) for piece in (responses_fake.START, *deltas, last)]) + passed.end()
    assert texts_of(sent, "") == "a\U0001f600b\ufffdcd\ufffd"
    assert '"metadata":{"a":"\ufffd"}' in sent.decode()
    assert passed.finished


def test_pairs_that_are_whole_keep_their_bytes() -> None:
    delta = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "\U0001f600"})
    stream = b"".join([START, EVENTS[1], delta, FINISH, STOP])
    assert b"\\ud83d\\ude00" in stream
    assert b"".join(relay([stream])[1]) == stream
