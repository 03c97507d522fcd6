"""A stream between upstream and caller: the same bytes if nothing must change, and the same result for every chunking."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.streams.relay import MAX_HELD_BYTES, Relay
from providers.base import Failure, StreamFailure, Usage
from providers.streams import ChunkNormalizer
from providers.usage import read_usage
from tests.support.each import each

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def chunk(content: str | None = None, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """Return one chat.completion.chunk with one choice."""
    delta = {} if content is None else {"content": content}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def event(data: dict[str, Any] | bytes | str) -> bytes:
    """Return the event of a chunk as most servers write it."""
    text = data.encode() if isinstance(data, str) else data if isinstance(data, bytes) else json.dumps(data).encode()
    return b"data: " + text + b"\n\n"


ROLE = chunk(None) | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
USAGE_CHUNK = chunk() | {"choices": [], "usage": USAGE}
DONE = event("[DONE]")
WHOLE = [event(ROLE), event(chunk("one ")), event(chunk("two")), event(chunk(None, "stop"))]


def relay(*, usage_asked: bool = False, choices: int = 1) -> Relay:
    """Return a relay without a decoder."""

    def fail(data: bytes) -> Failure:
        said = json.loads(data)
        return Failure("inband_error", said.get("error", said)["message"], 500)

    return Relay(decoder=None, usage_asked=usage_asked, read_usage=read_usage, fail=fail, choices=choices)


def run(pieces: Sequence[bytes], *, usage_asked: bool = False, choices: int = 1) -> tuple[bytes, Relay, Failure | None]:
    """Return the bytes that are sent for these pieces, the relay, and the failure that ended the stream, if any."""
    one = relay(usage_asked=usage_asked, choices=choices)
    out = b""
    try:
        for piece in pieces:
            if one.done:
                break
            out += one.feed(piece)
        out += one.end()
    except StreamFailure as failure:
        return out, one, failure.failure
    return out, one, None


def cut(source: bytes, at: list[int]) -> list[bytes]:
    """Return the source in non-empty pieces."""
    marks = sorted({0, len(source), *(mark % (len(source) + 1) for mark in at)})
    return [source[begin:end] for begin, end in pairwise(marks)]


marks = st.lists(st.integers(0, 100_000), max_size=20)
contents = st.lists(st.text(max_size=8).filter(bool), min_size=1, max_size=12)


@given(contents, marks, st.booleans(), st.booleans())
def test_an_ordinary_stream_keeps_its_bytes_for_any_chunking(words: list[str], at: list[int], asked: bool, ascii_only: bool) -> None:
    events = [json.dumps(chunk(word), ensure_ascii=ascii_only).encode() for word in words]
    source = b"".join([event(ROLE), *map(event, events), event(chunk(None, "stop"))])
    out, one, failure = run(cut(source + DONE, at), usage_asked=asked)
    assert failure is None
    assert out == source
    assert one.finish_reasons == ("stop",)
    assert one.chunks == len(words)  # neither the role nor the finish is output


KINDS: dict[str, bytes] = {
    "role": event(ROLE),
    "word": event(chunk("word")),
    "second": event(chunk("other", index=1)),
    "stop": event(chunk(None, "stop")),
    "stop second": event(chunk(None, "length", index=1)),
    "usage": event(USAGE_CHUNK),
    "usage beside a choice": event(chunk("w", usage=USAGE)),
    "null usage": event(chunk("w", usage=None)),
    "bad usage": event(chunk("w", usage={"prompt_tokens": -5})),
    "extra": event(USAGE_CHUNK | {"x_vendor": 1}),
    "done": DONE,
    "error": event({"error": {"message": "boom"}}),
    "garbage": event("{nope"),
    "array": event("[]"),
    "odd line": b"data:" + json.dumps(chunk("odd")).encode() + b"\r\n\r\n",
    "comment": b": ping\n\n",
    "two lines": b'data: {"choices":\ndata: []}\n\n',
    "odd index": event(chunk("w", index=-1)),
    "odd finish": event(chunk(None, "stop", index=-1)),
    "unknown": event('{"hello": 1}'),
    "part": b"data: {",
}
streams = st.lists(st.sampled_from(sorted(KINDS)), max_size=14)


def events_in(out: bytes) -> list[Any]:
    """Return the JSON values in the events that a caller got."""
    assert out == b"" or out.endswith(b"\n\n")
    parts = [part for part in out.replace(b"\r\n", b"\n").split(b"\n\n") if part.strip(b"\n")]
    lines = [line for part in parts for line in part.split(b"\n") if line.startswith(b"data:")]
    assert b"[DONE]" not in out
    return [json.loads(line.removeprefix(b"data:")) for line in lines if line != b"data: {"]


@given(streams, marks, st.booleans())
def test_the_end_of_a_stream_does_not_depend_on_its_chunking(kinds: list[str], at: list[int], asked: bool) -> None:
    source = b"".join(KINDS[kind] for kind in kinds)
    one_by_one = run([KINDS[kind] for kind in kinds], usage_asked=asked)
    chopped = run(cut(source, at), usage_asked=asked)
    assert chopped[2] == one_by_one[2]
    assert chopped[1].usage == one_by_one[1].usage
    assert chopped[1].finish_reasons == one_by_one[1].finish_reasons
    if one_by_one[2] is None:
        assert events_in(chopped[0]) == events_in(one_by_one[0])
        assert chopped[1].chunks == one_by_one[1].chunks


@given(streams, marks)
def test_usage_is_shown_only_to_callers_that_request_it(kinds: list[str], at: list[int]) -> None:
    out, _, _ = run(cut(b"".join(KINDS[kind] for kind in kinds), at))
    assert all(not one.get("usage") for one in events_in(out) if isinstance(one, dict))


@given(streams, marks)
def test_requested_usage_is_sent_once_and_last(kinds: list[str], at: list[int]) -> None:
    out, one, failure = run(cut(b"".join(KINDS[kind] for kind in kinds), at), usage_asked=True)
    if failure is None:
        shown = [found for found in events_in(out) if found.get("usage")]
        assert len(shown) == (one.usage is not None)
        if shown:
            assert shown[-1] is events_in(out)[-1] or shown[-1] == events_in(out)[-1]
            assert shown[-1]["choices"] == []
            assert shown[-1]["usage"]["total_tokens"] == 5


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_nothing_is_sent_before_the_first_content(size: int) -> None:
    one = relay()
    source = event(ROLE) * 3
    assert b"".join(one.feed(source[at : at + size]) for at in range(0, len(source), size)) == b""
    assert not one.started
    assert one.feed(event(chunk("x"))) == source + event(chunk("x"))


@each("delta", [
    {"content": "x"}, {"reasoning_content": "hm"}, {"tool_calls": [{"index": 0}]}, {"refusal": "no"}, {"vendor_field": {"a": 1}},
])  # fmt: skip
def test_any_content_starts_the_stream(delta: dict[str, Any]) -> None:
    one = relay()
    assert one.feed(event(chunk() | {"choices": [{"index": 0, "delta": delta}]}))


def test_a_long_preamble_is_not_held_for_ever() -> None:
    one = relay()
    sent = b"".join(one.feed(event(ROLE)) for _ in range(2 + MAX_HELD_BYTES // len(event(ROLE))))
    assert sent


@each(("pieces", "kind"), [
    ([], "closed_pre"),
    ([event(ROLE)], "closed_pre"),
    ([DONE], "closed_pre"),
    (WHOLE[:3], "truncated"),
    ([*WHOLE[:3], DONE], "truncated"),
    ([*WHOLE[:3], b"data: {\"choices\": [{"], "truncated"),
    ([*WHOLE[:2], event("{nope"), *WHOLE[2:]], "bad_event"),
    ([*WHOLE[:2], event({"error": {"message": "x"}}), *WHOLE[2:]], "inband_error"),
    ([event({"error": {"message": "x"}})], "inband_error"),
    ([*WHOLE[:2], event(chunk("second", index=1)), *WHOLE[2:]], "truncated"),
    ([*WHOLE[:2], b"data: " + b"x" * (2 << 20)], "too_large"),
])  # fmt: skip
def test_an_end_without_every_finish_reason_is_a_failure(pieces: list[bytes], kind: str) -> None:
    _, _, failure = run(pieces)
    assert failure is not None
    assert failure.kind == kind


def test_a_finish_reason_is_a_success_without_done() -> None:
    out, _, failure = run(WHOLE)
    assert (out, failure) == (b"".join(WHOLE), None)


def test_what_follows_done_is_not_read() -> None:
    out, one, failure = run([b"".join(WHOLE) + DONE + event(chunk("late")) + DONE])
    assert (out, failure, one.done) == (b"".join(WHOLE), None, True)


def test_an_unterminated_last_event_counts() -> None:
    out, _, failure = run([*WHOLE[:3], WHOLE[3].rstrip(b"\n")])
    assert (out, failure) == (b"".join(WHOLE), None)


def test_what_was_said_before_a_failure_is_sent_before_it() -> None:
    one = relay()
    sent = one.feed(WHOLE[1])
    sent += one.feed(WHOLE[2] + event({"error": {"message": "x"}}))
    assert sent == WHOLE[1] + WHOLE[2]
    assert one.done
    with pytest.raises(StreamFailure):
        one.end()


def test_the_last_valid_usage_wins() -> None:
    second = USAGE_CHUNK | {"usage": {"prompt_tokens": 9, "completion_tokens": 9}}
    garbage = USAGE_CHUNK | {"usage": {"prompt_tokens": -1, "completion_tokens": "x"}}
    out, one, failure = run([*WHOLE, event(USAGE_CHUNK), event(second), event(garbage), DONE], usage_asked=True)
    assert failure is None
    assert one.usage == Usage(9, 9)
    assert [found["usage"]["total_tokens"] for found in events_in(out) if "usage" in found] == [18]


def test_unknown_fields_of_a_usage_chunk_reach_callers_that_did_not_request_usage() -> None:
    out, _, _ = run([*WHOLE, event(USAGE_CHUNK | {"x_groq": {"id": "r"}}), DONE])
    assert events_in(out)[-1]["x_groq"] == {"id": "r"}
    assert "usage" not in events_in(out)[-1]


def test_empty_finish_reasons_finish_nothing() -> None:
    words = [event(chunk("a", "")), event(chunk("b", ""))]
    _, _, failure = run(words)
    assert failure is not None
    assert failure.kind == "truncated"


@each("wrong", [b"\xff\xfe", b"\xe2\x82", b"\xed\xa0\x80"])
@each("together", [True, False])
def test_u17_bytes_that_are_not_text_are_a_bad_event_and_never_sent(wrong: bytes, together: bool) -> None:
    bad = event(json.dumps(chunk("@")).encode().replace(b"@", wrong))
    rest = [WHOLE[2], bad, WHOLE[3], DONE]
    out, _, failure = run([*WHOLE[:2], *([b"".join(rest)] if together else rest)])
    assert failure is not None
    assert failure.kind == "bad_event"
    assert out == b"".join(WHOLE[:3])


def test_u21_an_event_named_error_is_one_whatever_it_holds() -> None:
    named = b'event: error\ndata: {"message": "out of memory", "code": 500}\n\n'
    out, _, failure = run([*WHOLE[:3], named, WHOLE[3], DONE])
    assert failure == Failure("inband_error", "out of memory", 500)
    assert out == b"".join(WHOLE[:3])


def test_u11_an_end_before_a_requested_choice_has_begun_is_a_cut() -> None:
    second = [event(chunk("b", index=1)), event(chunk(None, "stop", index=1))]
    for size in range(len(second[0])):
        _, _, failure = run([*WHOLE, second[0][:size]], choices=2)
        assert failure is not None
        assert failure.kind == "truncated"
    assert run([*WHOLE, *second], choices=2)[2] is None


def test_a_stream_with_fewer_choices_than_requested_is_complete_after_done() -> None:
    assert run([*WHOLE, DONE], choices=2)[2] is None


class CountingNormalizer(ChunkNormalizer):
    """Counts the chunks that are decoded one by one."""

    fed = 0

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        self.fed += 1
        return super().feed(event, data)


def test_events_that_arrive_together_are_converted_together_once_their_kind_is_known() -> None:
    decoder = CountingNormalizer(model="m")
    relay = Relay(decoder=decoder, usage_asked=True, read_usage=read_usage, fail=lambda data: Failure("inband_error", ""))
    usages = [{**USAGE, "completion_tokens": number, "total_tokens": 3 + number} for number in range(100)]
    events = [event(chunk(f"{number} ", id=f"c{number}", usage=usage)) for number, usage in enumerate(usages)]
    sent = relay.feed(b"".join([event(ROLE), *events, event(chunk(None, "stop")), DONE, event(chunk("late"))]))
    sent += relay.end()
    assert decoder.fed < 12
    chunks = [json.loads(data[6:]) for data in sent.split(b"\n\n")[:-1]]
    text = "".join(choice["delta"].get("content") or "" for c in chunks for choice in c["choices"])
    assert text == "".join(f"{number} " for number in range(100))
    assert chunks[-1]["usage"] == usages[-1]
    assert relay.usage == Usage(3, 99)
    assert relay.normalised == 1, "the event after [DONE]"
