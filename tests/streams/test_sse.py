"""Events from bytes: with any chunking and any line end, only line ends separate lines, and nothing is lost."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.streams.sse import MAX_EVENT_BYTES, Event, EventParser, EventTooLargeError
from tests.support.each import each


def parse(pieces: list[bytes]) -> list[Event]:
    """Return the events that a parser reads from the pieces and from the end after them."""
    parser = EventParser()
    found = [event for piece in pieces for event in parser.feed(piece)]
    return found + parser.end()


def by_the_book(source: bytes) -> list[Event]:
    """Return the events of the same input, read line by line as the format's description requires; an unterminated last event counts."""
    found: list[Event] = []
    name, data = "", []
    text = source.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for line in [*text.split(b"\n"), b""]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode(errors="replace")
        elif not line:
            if b"\n".join(data):
                found.append((name, b"\n".join(data)))
            name, data = "", []
    return found


def cut(source: bytes, at: list[int]) -> list[bytes]:
    """Return the source in pieces."""
    marks = [0, *sorted(mark % (len(source) + 1) for mark in at), len(source)]
    return [source[begin:end] for begin, end in pairwise(marks)]


line_ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
lines = st.sampled_from(
    [b"data: {}", b"data:{}", b"data: one", b"data", b"data:", b"data: ", b"data:  two", b"event: e", b"event:", b"id: 7", b"retry: 9",
     b": hello", b":", b"", b"", b"", b"dat",
     b"\xef\xbb\xbf", "data: \u2028\u2029\u0085ü".encode(), b"data: \xff"]
)  # fmt: skip
whole = st.sampled_from([b"data: {}\n\n", b'data: {"a":1}\n\n', b"data: [DONE]\n\n"])
plain = st.lists(whole, max_size=8).map(b"".join)
torture = st.lists(st.tuples(lines, line_ends), max_size=25).map(lambda pairs: b"".join(line + end for line, end in pairs))
mixed = st.tuples(plain, torture, plain).map(b"".join)
sources = st.one_of(plain, torture, mixed, st.binary(max_size=60))
marked = st.tuples(st.sampled_from([b"", b"\xef\xbb\xbf"]), sources).map(b"".join)


@given(marked, st.lists(st.integers(0, 10_000), max_size=12))
@example(b"\xef\xbb\xbfdata: x\r\n\r\n", [1, 2, 3, 4, 12, 13])
@example(b"data: x\r\ndata: y\r\n\r\n", [8, 9])
def test_any_chunking_gives_the_events_of_the_format(source: bytes, at: list[int]) -> None:
    assert parse(cut(source, at)) == by_the_book(source)


@given(marked)
def test_byte_by_byte_gives_the_events_of_the_format(source: bytes) -> None:
    assert parse([source[at : at + 1] for at in range(len(source))]) == by_the_book(source)


def test_a_plain_piece_can_be_passed_unchanged() -> None:
    parser = EventParser()
    assert parser.cut(b'data: {"a":1}\n\ndata: {"b":') == b'data: {"a":1}\n\n'
    assert parser.split(b'data: {"a":1}\n\n') == [("", b'{"a":1}')]
    assert parser.plain
    assert parser.cut(b"2}\n\n") == b'data: {"b":2}\n\n'


@each("odd", [b"data: x\r\n\r\n", b"event: a\ndata: x\n\n", b"data:x\n\n", b": hi\n\n", b"data: x\ndata: y\n\n"])
def test_anything_but_plain_events_must_be_written_again(odd: bytes) -> None:
    parser = EventParser()
    parser.feed(odd)
    assert not parser.plain


def test_bytes_that_are_put_back_are_read_again_before_those_that_follow() -> None:
    parser = EventParser()
    whole = parser.cut(b"data: 1\n\ndata: 2\n\ndata: 3")
    parser.unread(whole[9:])
    assert parser.cut(b"\n\n") == b"data: 2\n\ndata: 3\n\n"


@each("end", [b"[DONE] ", b"[DONE]\t", b"[DONE]  "])
def test_white_space_after_done_is_removed(end: bytes) -> None:
    assert parse([b"data: {}\n\ndata: " + end + b"\n\n"]) == [("", b"{}"), ("", b"[DONE]")]


def test_unicode_separators_are_text() -> None:
    assert parse(["data: a\u2028b\u2029c\u0085d\n\n".encode()]) == [("", "a\u2028b\u2029c\u0085d".encode())]


def test_fields_that_break_clients_are_left_out_and_counted() -> None:
    parser = EventParser()
    assert parser.feed(b"id: 1\nretry: 5\ndata: x\n\ndata:\n\ndata: y\n\n") == [("", b"x"), ("", b"y")]
    assert parser.normalised == 3


@each("allowed", [b"\xef\xbb\xbfdata: x\n\n", b"data: x\r\n\r\n", b": comment\n\ndata: x\n\n", b"data:x\n\n"])
def test_what_the_format_allows_is_not_counted(allowed: bytes) -> None:
    parser = EventParser()
    assert parser.feed(allowed) == [("", b"x")]
    assert parser.normalised == 0


@each("size", [4096, 65_536])
@each("opening", [b"data: ", b"data:x\n\ndata: "], ids=["plain", "line by line"])
def test_an_event_over_the_cap_is_given_up_with_little_held(opening: bytes, size: int) -> None:
    parser = EventParser()
    parser.feed(opening)
    for _ in range(MAX_EVENT_BYTES // size - 1):
        parser.feed(b"x" * size)
    with pytest.raises(EventTooLargeError):
        parser.feed(b"x" * 2 * size)


def test_many_short_lines_of_one_event_are_capped_as_well() -> None:
    parser = EventParser()
    for _ in range(100):
        parser.feed(b"data: xx\n" * 1000)
    with pytest.raises(EventTooLargeError):
        parser.feed(b"data: xx\n" * 600_000)


def lines_of(size: int, count: int = 4) -> bytes:
    """Return an event of several data lines with `size` bytes of data, without the blank line that ends it."""
    first = size - (count - 1) * (size // count)
    return b"".join(b"data: " + b"x" * each + b"\n" for each in (first, *[size // count] * (count - 1)))


@each("ending", [b"\n", b"\ndata: y\n\n", b"event: e\n\n"])
def test_an_event_of_many_lines_may_have_as_much_data_as_one_of_one_line(ending: bytes) -> None:
    (largest, *_) = EventParser().feed(lines_of(MAX_EVENT_BYTES) + ending)
    assert len(largest[1]) == MAX_EVENT_BYTES + 3  # and the three line ends between them
    with pytest.raises(EventTooLargeError):
        EventParser().feed(lines_of(MAX_EVENT_BYTES + 1) + ending)


def test_an_event_of_the_largest_size_is_accepted_and_a_larger_one_is_not_held() -> None:
    parser = EventParser()
    assert parser.feed(b"data: " + b"x" * (MAX_EVENT_BYTES - 6)) == []
    assert [len(data) for _, data in parser.feed(b"\n\n")] == [MAX_EVENT_BYTES - 6]
    with pytest.raises(EventTooLargeError):
        EventParser().feed(b"data: " + b"x" * (MAX_EVENT_BYTES - 5))


def test_an_unfinished_line_counts_together_with_the_lines_of_its_event() -> None:
    half = MAX_EVENT_BYTES // 2
    parser = EventParser()
    parser.feed(b"data: " + b"x" * half + b"\r\ndata: " + b"x" * (half - 6))
    with pytest.raises(EventTooLargeError):
        parser.feed(b"x")


def test_the_sizes_of_events_do_not_add_up() -> None:
    parser = EventParser()
    for _ in range(3):
        (event,) = parser.feed(lines_of(MAX_EVENT_BYTES) + b"\n")
        assert len(event[1]) == MAX_EVENT_BYTES + 3


def test_many_events_in_one_piece_are_not_one_large_event() -> None:
    events = EventParser().feed(b"data: 0123456789\n\n" * (MAX_EVENT_BYTES // 8))
    assert len(events) == MAX_EVENT_BYTES // 8


def test_an_event_that_ends_in_cr_comes_at_once_and_an_lf_after_it_begins_no_other() -> None:
    parser = EventParser()
    assert parser.feed(b"data: x\r\r") == [("", b"x")]
    assert parser.feed(b"\ndata: y\r\n\r") == [("", b"y")]
    assert parser.feed(b"\ndata: z\r\rdata: w\n\n") == [("", b"z"), ("", b"w")]
