"""Parser callbacks for upstream responses. They reject too many headers, protocol switches and unwanted encodings.

To reject a response, a callback raises an exception, which stops the parser. The reason is stored in the connection.
"""

from __future__ import annotations

from httptools import HttpResponseParser

from gateway.upstream.interim import MAX_INTERIM, TOO_MANY_INTERIM
from gateway.upstream.response import NativeResponse
from gateway.upstream.upload import PacedUpload
from providers.base import FailureKind

MAX_HEADERS = 256


class RejectedResponseError(Exception):
    """Raised in a parser callback to stop the parser."""


class ResponseParser:
    """The parser callbacks of one connection and the state of the response in progress."""

    __slots__ = (
        "_chunked", "_complete", "_exchange", "_framing_bytes", "_has_received", "_head_size", "_informational", "_is_doubtful",
        "_keep_alive", "_parser", "_rejection", "_upload",
    )  # fmt: skip

    def __init__(self) -> None:
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._exchange: NativeResponse | None = None
        self._upload: memoryview | PacedUpload | None = None
        """The part of the request that is not sent yet."""
        self._rejection: tuple[FailureKind, str] | None = None

    def _begin_response(self) -> None:
        self._complete = False
        self._is_doubtful = False
        self._chunked = False
        self._informational = 0
        self._keep_alive = True
        self._head_size = self._framing_bytes = 0
        self._has_received = False

    def on_message_begin(self) -> None:
        """Reject a second response: no request is waiting for it."""
        if self._complete:
            raise RejectedResponseError

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store one header. Trailers are discarded."""
        exchange = self._exchange
        assert exchange is not None
        if exchange.status:
            return
        exchange.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the head against the limits and decide how the body ends."""
        exchange, parser = self._exchange, self._parser
        assert exchange is not None
        assert parser is not None
        headers = exchange.headers
        if len(headers) > MAX_HEADERS:
            self._reject("protocol", f"the upstream sent more than {MAX_HEADERS} headers")
        status = parser.get_status_code()
        if status < 200:
            self._skip_interim(status, headers)
            return
        for name, value in headers:
            if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity") and not exchange.may_be_encoded:
                self._reject("encoding", "the upstream compressed its response although the request forbids it")
            if name == b"transfer-encoding":
                self._chunked = True
                if value.strip().lower() != b"chunked":
                    self._reject("encoding", "the upstream uses a transfer encoding other than chunked")
        self._keep_alive = parser.should_keep_alive()
        if status >= 300 and self._upload is not None:  # rejected early: the upstream will not read the rest of the request
            self._stop_upload()
            self._is_doubtful = True
        exchange.status = status
        if exchange.method == "HEAD":
            self._complete, self._keep_alive = True, False

    def on_body(self, piece: bytes) -> None:
        """Store a piece of the body."""
        exchange = self._exchange
        if exchange is not None and not (self._complete and exchange.method == "HEAD"):
            exchange.started = True
            exchange.size += len(piece)
            if exchange.discarding:
                exchange.discard(piece)
            else:
                exchange.pieces.append(piece)

    def on_message_complete(self) -> None:
        """Mark the response as complete. An interim response ends here too and changes nothing."""
        exchange = self._exchange
        if exchange is not None and exchange.status:
            self._complete = True

    def _stop_upload(self) -> None:
        """Send nothing more of the request."""
        upload, self._upload = self._upload, None
        if isinstance(upload, PacedUpload):
            upload.stop()

    def _skip_interim(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._informational += 1
        if status == 101 or self._informational > MAX_INTERIM:
            reason = "the upstream switched protocols" if status == 101 else TOO_MANY_INTERIM
            self._reject("protocol", reason)
        headers.clear()

    def _reject(self, kind: FailureKind, message: str) -> None:
        self._rejection = (kind, message)
        raise RejectedResponseError


def has_blank_surplus(data: memoryview, last: bytes) -> bool:
    """Return whether a response is followed by blank lines, which the parser skips.

    `last` is the last piece of the body in `data`, or empty if the body is chunked or `data` has no piece of it.
    """
    if last:
        return bytes(data[-len(last) :]) != last  # memoryviews would be compared item by item
    return bytes(data[-6:]) == b"\r\n\r\n\r\n"
