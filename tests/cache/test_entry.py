"""Cached answers: their stored form, the answers that count as whole, and recorded responses."""

from __future__ import annotations

import pytest

from gateway.cache.entry import PIECE_BYTES, CachedResponse, Entry, Recording, is_complete, read_entry, write_entry
from gateway.upstream.transport import UpstreamError

ENTRY = Entry(1.5, b"text/event-stream", b"data: \xff\n\n" * 20_000)


def test_entry_is_written_and_read_and_a_damaged_record_is_none() -> None:
    record = write_entry(ENTRY)
    assert read_entry(record) == ENTRY
    assert [read_entry(each) for each in (b"", record[:-1], b"x" + record, b"\xff\xff")] == [None] * 4


def test_answer_is_complete_if_every_choice_ended_by_itself() -> None:
    assert is_complete(("stop", "tool_calls", "function_call"))
    assert not any(is_complete(each) for each in ((), ("stop", None), ("length",), ("stop", "content_filter"), ("error",)))


async def pieces(response: CachedResponse) -> list[bytes]:
    """Return the pieces of a response, which is read to its end."""
    found = []
    while piece := await response.read():
        found.append(piece)
    return found


async def test_cached_response_is_read_in_pieces_or_as_a_whole() -> None:
    found = await pieces(CachedResponse(ENTRY))
    assert b"".join(found) == ENTRY.body
    assert max(map(len, found)) == PIECE_BYTES
    assert await CachedResponse(ENTRY).body(len(ENTRY.body)) == ENTRY.body
    with pytest.raises(UpstreamError):
        await CachedResponse(ENTRY).body(len(ENTRY.body) - 1)


async def test_recording_copies_a_response_up_to_its_maximum_size() -> None:
    for limit, is_too_large in ((len(ENTRY.body), False), (len(ENTRY.body) - 1, True)):
        recording = Recording(limit)
        response = recording.record(CachedResponse(ENTRY))
        assert b"".join(await pieces(response)) == ENTRY.body  # type: ignore[arg-type]
        assert not recording.is_whole
        response.finish()
        assert (recording.is_whole, recording.is_too_large) == (True, is_too_large)
        expected = b"" if is_too_large else ENTRY.body
        assert recording.entry(2.0) == Entry(2.0, b"text/event-stream", expected)
    recording = Recording(len(ENTRY.body))
    await recording.record(CachedResponse(ENTRY)).body(1 << 20)
    assert recording.is_whole
    assert recording.entry(1.5) == ENTRY
