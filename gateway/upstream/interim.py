"""Counts interim responses (1xx) in the bytes that httpcore reads, because httpcore skips any number of them."""

from __future__ import annotations

import re

MAX_INTERIM = 8
"""Maximum number of interim responses before a response."""
TOO_MANY_INTERIM = f"the upstream sent more than {MAX_INTERIM} interim responses"
_INTERIM = b"HTTP/1.x 1"
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_KEPT_BYTES = 3
"""Length of the longest incomplete blank line."""
_FRAME_HEAD_BYTES, _HEADERS_FRAME, _RESET_FRAME, _END_STREAM = 9, 1, 3, 1
_MAX_STREAMS = 1000
_MAX_HEADERS_FRAMES = MAX_INTERIM + 2
"""Maximum number of HEADERS frames of a stream: interim responses, the head of the response, and its trailers."""


class TooManyInterimError(ValueError):
    """An upstream sent more than MAX_INTERIM interim responses."""


class InterimHeads:
    """Counts the interim responses of HTTP/1.1 before each response."""

    def __init__(self) -> None:
        self._pending = b""
        self._is_in_interim = False
        self._count = 0
        self._is_done = False
        """Whether the head of the response has begun."""

    def begin(self) -> None:
        """Prepare for the next response of the connection: to the next request, or from the upstream after that of a proxy."""
        if self._is_done:
            self._count, self._is_done = 0, False

    def feed(self, piece: bytes) -> None:
        """Count the interim responses that begin in a piece. Raise TooManyInterimError if there are too many."""
        if self._is_done:
            return
        data, at = self._pending + piece, 0
        while True:
            if not self._is_in_interim:
                start = data[at : at + len(_INTERIM)]
                if not _may_be_interim(start):
                    self._is_done, self._pending = True, b""
                    return
                if len(start) < len(_INTERIM):
                    self._pending = start
                    return
                self._is_in_interim = True
                self._count += 1
                if self._count > MAX_INTERIM:
                    raise TooManyInterimError
            end = _HEAD_END.search(data, at)
            if end is None:
                self._pending = data[max(at, len(data) - _KEPT_BYTES) :]
                return
            self._is_in_interim, at = False, end.end()


def _may_be_interim(start: bytes) -> bool:
    """Return whether the first bytes of a response may be those of an interim one."""
    version = _INTERIM[:7]
    return start[:7] == version[: len(start)] and (len(start) <= 8 or start[8:] == _INTERIM[8 : len(start)])


class HeadersFrames:
    """Counts the frames of HTTP/2 that begin a head, for each stream of a connection."""

    def __init__(self) -> None:
        self._pending = b""
        self._skipped = 0
        """Bytes of the current frame that are still to come."""
        self._counts: dict[int, int] = {}

    def feed(self, piece: bytes) -> None:
        """Count the heads in a piece. Raise TooManyInterimError if a stream has too many."""
        data, at = self._pending + piece, 0
        while True:
            if self._skipped:
                taken = min(self._skipped, len(data) - at)
                self._skipped -= taken
                at += taken
            head = data[at : at + _FRAME_HEAD_BYTES]
            if len(head) < _FRAME_HEAD_BYTES:
                self._pending = head
                return
            self._skipped, at = int.from_bytes(head[:3], "big"), at + _FRAME_HEAD_BYTES
            self._count(head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7FFFFFFF)

    def _count(self, kind: int, flags: int, stream: int) -> None:
        if kind == _HEADERS_FRAME:
            count = self._counts[stream] = self._counts.get(stream, 0) + 1
            if len(self._counts) > _MAX_STREAMS:  # no frame removes a stream that this side has reset
                del self._counts[next(iter(self._counts))]
            if count > _MAX_HEADERS_FRAMES:
                raise TooManyInterimError
        if kind == _RESET_FRAME or (flags & _END_STREAM and kind in (0, _HEADERS_FRAME)):
            self._counts.pop(stream, None)
