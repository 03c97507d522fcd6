"""What the parser finds in an upstream's answer, and what is refused of it: too many headers, encodings, other protocols.

A refusal is an exception in a callback, which stops the parser; its reason stays with the connection.
"""

from __future__ import annotations

from httptools import HttpResponseParser

from gateway.upstream.response import NativeResponse
from providers.base import FailureKind

MAX_HEADERS = 256
MAX_INFORMATIONAL = 8


class RejectedAnswerError(Exception):
    """Raised inside a parser callback to stop the parser."""


class AnswerParser:
    """The callbacks of one connection's parser, and what they know of the answer under way."""

    __slots__ = ("_chunked", "_complete", "_exchange", "_informational", "_is_doubtful", "_keep_alive", "_parser", "_rejection", "_upload")

    def __init__(self) -> None:
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._exchange: NativeResponse | None = None
        self._upload: memoryview | None = None
        """What is left to be sent of the request."""
        self._rejection: tuple[FailureKind, str] | None = None

    def _begin_answer(self) -> None:
        self._complete = False
        self._is_doubtful = False
        self._chunked = False
        self._informational = 0
        self._keep_alive = True

    def on_message_begin(self) -> None:
        """An answer starts; a second one has nobody to go to."""
        if self._complete:
            raise RejectedAnswerError

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer, which nobody needs."""
        exchange = self._exchange
        assert exchange is not None
        if exchange.status:
            return
        exchange.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is here: check it against the caps and decide how the body ends."""
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
            if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                self._reject("encoding", "the upstream encoded its answer, which it was asked not to")
            if name == b"transfer-encoding":
                self._chunked = True
                if value.strip().lower() != b"chunked":
                    self._reject("encoding", "the upstream's transfer encoding is not plain chunks")
        self._keep_alive = parser.should_keep_alive()
        if status >= 300 and self._upload is not None:  # refused early: what is left of the request would not be read
            self._upload = None
            self._is_doubtful = True
        exchange.status = status
        if exchange.method == "HEAD":
            self._complete, self._keep_alive = True, False

    def on_body(self, piece: bytes) -> None:
        """Part of the body."""
        exchange = self._exchange
        if exchange is not None and not (self._complete and exchange.method == "HEAD"):
            exchange.started = True
            exchange.size += len(piece)
            if exchange.discarding:
                exchange.discard(piece)
            else:
                exchange.pieces.append(piece)

    def on_message_complete(self) -> None:
        """The end of an answer, or of an interim one."""
        exchange = self._exchange
        if exchange is not None and exchange.status:
            self._complete = True

    def _skip_interim(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._informational += 1
        if status == 101 or self._informational > MAX_INFORMATIONAL:
            self._reject("protocol", "the upstream switched protocols" if status == 101 else "the upstream sends endless interim answers")
        headers.clear()

    def _reject(self, kind: FailureKind, message: str) -> None:
        self._rejection = (kind, message)
        raise RejectedAnswerError
