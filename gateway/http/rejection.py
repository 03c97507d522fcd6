"""Errors that the connection itself sends, before a call starts or instead of a call."""

from __future__ import annotations

from http import HTTPStatus

from gateway.errors import GatewayError
from gateway.http.request_id import next_id

MAX_HEAD_BYTES = 16 << 10
MAX_HEADERS = 100

Problem = tuple[int, str, str]
"""Status, code, message."""
INVALID_HTTP: Problem = (400, "invalid_http", "The request is not valid HTTP.")
INVALID_ENCODING: Problem = (400, "invalid_http", "The only supported Transfer-Encoding is chunked.")
HEAD_TIMEOUT: Problem = (408, "request_timeout", "The request headers did not arrive in time.")
HEAD_TOO_LARGE: Problem = (
    431, "headers_too_large", f"The URL or the headers exceed {MAX_HEAD_BYTES >> 10} KiB, or there are more than {MAX_HEADERS} headers.",
)  # fmt: skip
CHUNKS_TOO_LARGE: Problem = (
    431,
    "headers_too_large",
    f"Chunk sizes, chunk extensions or trailers exceed {MAX_HEAD_BYTES >> 10} KiB, or chunks are too small.",
)
INVALID_HOST: Problem = (400, "invalid_host", "Exactly one valid Host header is required.")
UPGRADE_UNSUPPORTED: Problem = (
    426, "upgrade_not_supported", "WebSocket is not supported here, or the handshake is not valid. Use HTTP/1.1.",
)  # fmt: skip


class RejectedRequestError(Exception):
    """The request is rejected. A parser callback raises this error to stop the parser."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem[1])
        self.problem = problem


def problem_of(error: BaseException) -> Problem:
    """Return the problem that a parser callback raised. Return INVALID_HTTP for any other parser error."""
    cause = error.__context__
    return cause.problem if isinstance(cause, RejectedRequestError) else INVALID_HTTP


def error_response(problem: Problem) -> bytes:
    """Return a complete response, head and body, after which the connection is closed."""
    status, code, message = problem
    body = GatewayError(message, status=status, code=code, type="invalid_request_error").as_body()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {next_id()}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
