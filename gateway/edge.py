"""Callers' connections before a request is whole: uvicorn has no deadline for a request's head, so that silence would hold a connection."""

from __future__ import annotations

import time
from collections.abc import Iterable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.call import next_id
from gateway.errors import GatewayError


class Connection(HttpToolsProtocol):
    """One caller's connection, and whether the head of a request is awaited on it.

    Nothing is timed while requests come as they should; who looks at it now and then notices what takes too long.
    """

    awaits_head = True
    """A new connection owes its first request; an idle one that was used owes nothing until the next request begins."""
    begun = False
    since = 0.0

    def on_message_begin(self) -> None:
        """The first byte of a request is here."""
        self.awaits_head = self.begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self.awaits_head, self.since = False, 0.0
        super().on_headers_complete()

    def end_if_overdue(self, now: float, deadline: float) -> None:
        """Close a connection whose head has been awaited for `deadline` seconds; with a 408 if some of it had come."""
        if not self.awaits_head or self.transport is None or self.transport.is_closing():
            return
        if not self.since:
            self.since = now
        elif now - self.since > deadline:
            if self.begun and (self.cycle is None or self.cycle.response_complete):
                self.transport.write(_overdue())
            self.transport.close()


def end_overdue(connections: Iterable[object], deadline: float) -> None:
    """Look at every connection once."""
    now = time.monotonic()
    for connection in list(connections):
        if isinstance(connection, Connection):
            connection.end_if_overdue(now, deadline)


def _overdue() -> bytes:
    error = GatewayError("The request's head did not arrive in time.", status=408, code="request_timeout", type="invalid_request_error")
    body = error.body()
    head = (
        f"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {next_id()}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
