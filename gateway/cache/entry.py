"""One cached answer: the body of an upstream response, as it arrived."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.cache.caller_delay import CallerDelay
from gateway.upstream.transport import OnTrailing, Response, UpstreamError

PIECE_BYTES = 64 << 10
"""Size of the pieces in which a cached answer is read."""
COMPLETE = frozenset({"stop", "tool_calls", "function_call"})
"""Finish reasons of answers that nothing cut short."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A cached answer. `stored_at` is a Unix time in seconds."""

    stored_at: float
    content_type: bytes
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def write_entry(entry: Entry) -> bytes:
    """Return the stored form of an entry."""
    return _encode(entry)


def read_entry(record: bytes) -> Entry | None:
    """Return the entry of a record, or None if the record is damaged."""
    try:
        return _decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def is_complete(finish_reasons: Sequence[str | None]) -> bool:
    """Return whether every choice of an answer ended by itself, not at an output limit or a content filter."""
    return bool(finish_reasons) and all(reason in COMPLETE for reason in finish_reasons)


class CachedResponse:
    """A cached answer in the form of an upstream response."""

    def __init__(self, entry: Entry) -> None:
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = [(b"content-type", entry.content_type)]
        self._body = entry.body
        self._at = 0

    async def read(self) -> bytes:
        """Return the next piece of the body, or b"" at its end."""
        piece = self._body[self._at : self._at + PIECE_BYTES]
        self._at += len(piece)
        return piece

    async def body(self, limit: int) -> bytes:
        """Return the whole body. Raise UpstreamError("too_large") if it exceeds `limit` bytes."""
        if len(self._body) > limit:
            raise UpstreamError("too_large", f"the answer exceeds {limit} bytes")
        return self._body

    def unread(self) -> bytes:
        """Return b"": `body` never leaves a part of the answer unread."""
        return b""

    def finish(self, on_trailing: OnTrailing | None = None) -> None:
        """Do nothing: there is no connection."""

    def close(self) -> None:
        """Do nothing: there is no connection."""


class Recording:
    """Keeps a copy of one response while it is read."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` is the maximum size of the copy. The copy of a longer response is dropped."""
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._size = 0
        self._content_type = b""
        self.caller_delay = CallerDelay()
        self.is_whole = False
        """Whether the response was read to the end of its answer."""

    @property
    def is_too_large(self) -> bool:
        """Whether the response is longer than the maximum."""
        return self._size > self._max_bytes

    def record(self, response: Response) -> Response:
        """Return the same response, wrapped so that the bytes that are read from it are copied to this recording."""
        self._content_type = next((value for name, value in response.headers if name == b"content-type"), b"")
        return _RecordedResponse(response, self)

    def add(self, piece: bytes) -> None:
        """Copy a piece of the body."""
        self._size += len(piece)
        if self.is_too_large:
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    def entry(self, now: float) -> Entry:
        """Return the copy as an entry. `now` is a Unix time."""
        return Entry(now, self._content_type, b"".join(self._pieces))


class _RecordedResponse:
    def __init__(self, response: Response, recording: Recording) -> None:
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._recording = recording

    async def read(self) -> bytes:
        self._recording.caller_delay.begin_read()
        piece = await self._response.read()
        self._recording.add(piece)
        self._recording.caller_delay.end_read()
        return piece

    async def body(self, limit: int) -> bytes:
        body = await self._response.body(limit)
        self._recording.add(body)
        self._recording.caller_delay.end_read()
        self._recording.is_whole = True
        return body

    def unread(self) -> bytes:
        return self._response.unread()

    def finish(self, on_trailing: OnTrailing | None = None) -> None:
        # a stream that the gateway ends at a stop string is closed without `finish`
        self._recording.is_whole = True
        self._response.finish(on_trailing)

    def close(self) -> None:
        self._response.close()
