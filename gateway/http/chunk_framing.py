"""Limits the framing of a chunked request body: chunk sizes, extensions, line ends and trailers.

The parser reports only the bytes of the body, the beginning of each chunk, and complete trailers. The size of all other framing is
the number of bytes received less the number of bytes of the body.
"""

from __future__ import annotations

from gateway.http.rejection import CHUNKS_TOO_LARGE, MAX_HEAD_BYTES, MAX_HEADERS, RejectedRequestError

MIN_CHUNK_BYTES = 5
"""Minimum framing of one chunk: its size and its line ends."""


class ChunkFraming:
    """The framing of one request body. The request is rejected as soon as there is too much framing."""

    __slots__ = ("_body", "_excess", "_run", "_small_chunks", "trailers")

    def __init__(self) -> None:
        self.trailers = DiscardedTrailers()
        self._body = 0
        """Bytes of the body since the last call of `is_too_large`."""
        self._run = 0
        """Bytes of framing since the last byte of the body."""
        self._excess = 0
        """Bytes of framing less bytes of the body."""
        self._small_chunks = 0
        """Minimum framing of the chunks so far, less the bytes in them.

        It is updated at every chunk; `_excess` is updated only after all received bytes are parsed.
        """

    def begin_chunk(self) -> None:
        """Count a chunk. Raise RejectedRequestError if the chunks received so far are too small on average."""
        self._small_chunks += MIN_CHUNK_BYTES
        if self._small_chunks > MAX_HEAD_BYTES:
            raise RejectedRequestError(CHUNKS_TOO_LARGE)

    def add_body(self, size: int) -> None:
        """Count bytes of the body."""
        self._body += size
        self._small_chunks -= size

    def is_too_large(self, size: int) -> bool:
        """Return whether the framing is too large, now that `size` more bytes of the request have arrived."""
        body, self._body = self._body, 0
        self._run = 0 if body else self._run + size
        self._excess += size - 2 * body
        return self._run > MAX_HEAD_BYTES or self._excess > MAX_HEAD_BYTES


class DiscardedTrailers(list[tuple[bytes, bytes]]):
    """Discards the trailers of one request and rejects them if they exceed the limits of a head."""

    def __init__(self) -> None:
        self._size = self._count = 0

    def append(self, header: tuple[bytes, bytes]) -> None:
        """Discard a trailer."""
        self._size += 4 + len(header[0]) + len(header[1])
        self._count += 1
        if self._size > MAX_HEAD_BYTES or self._count > MAX_HEADERS:
            raise RejectedRequestError(CHUNKS_TOO_LARGE)


class _NoTrailers(list[tuple[bytes, bytes]]):
    def append(self, header: tuple[bytes, bytes]) -> None:
        """Discard the header."""


NO_TRAILERS = _NoTrailers()
"""The trailers of every request whose body is not chunked."""
