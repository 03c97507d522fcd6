"""Parser callbacks for upstream responses: rejected responses, and the conditions for reusing the connection."""

from __future__ import annotations

import pytest
from httptools import HttpParserError

from gateway.upstream.interim import MAX_INTERIM
from gateway.upstream.response import NativeResponse
from gateway.upstream.response_parser import MAX_HEADERS, ResponseParser
from gateway.upstream.transport import Deadlines
from tests.support.each import each


def parse(data: bytes, method: str = "POST") -> tuple[ResponseParser, NativeResponse]:
    """Return the parser and the response after the bytes of one response."""
    parser, response = ResponseParser(), NativeResponse(method, Deadlines(), 0.0)
    parser._begin_response()
    parser._exchange = response
    assert parser._parser is not None
    parser._parser.feed_data(data)
    return parser, response


def test_a_response_is_collected_with_lower_case_header_names() -> None:
    parser, response = parse(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\n\r\n{}")
    assert (response.status, response.headers) == (200, [(b"x-a", b"1"), (b"content-length", b"2")])
    assert (b"".join(response.pieces), parser._complete, parser._keep_alive) == (b"{}", True, True)


def test_interim_responses_leave_no_headers_behind() -> None:
    _, response = parse(b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n")
    assert (response.status, response.headers) == (204, [(b"x-a", b"1")])


@each(
    ("data", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n", "encoding"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "encoding"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "protocol"),
        (b"HTTP/1.1 103 Early\r\n\r\n" * (MAX_INTERIM + 1), "protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: 1\r\n" * (MAX_HEADERS + 1) + b"\r\n", "protocol"),
    ],
    ids=["content-encoding", "transfer-encoding", "switch", "endless-interim", "headers"],
)
def test_a_response_that_cannot_be_relayed_is_rejected(data: bytes, kind: str) -> None:
    parser = ResponseParser()
    parser._begin_response()
    parser._exchange = NativeResponse("POST", Deadlines(), 0.0)
    assert parser._parser is not None
    with pytest.raises(HttpParserError):
        parser._parser.feed_data(data)
    assert parser._rejection is not None
    assert parser._rejection[0] == kind


def test_connection_close_prevents_reuse() -> None:
    parser, _ = parse(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    assert not parser._keep_alive
