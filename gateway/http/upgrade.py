"""Offers to upgrade a caller's connection: WebSocket handshakes are served where they are allowed, and other offers are ignored."""

from __future__ import annotations

from typing import Any

import httptools

from gateway.http.cycle import RequestCycle
from gateway.http.handshake import CallerSocket, is_handshake
from gateway.http.head import split_url, without_offer
from gateway.http.protocol import CallerProtocol
from gateway.http.rejection import Problem, problem_of


class UpgradableConnection(CallerProtocol):
    """A connection whose heads may offer another protocol.

    After such an offer, the parser treats the following bytes as data of that protocol.
    """

    __slots__ = ("_offered_head", "_serves_websockets", "_socket")

    def __init__(self, *args: Any, serves_websockets: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._serves_websockets = serves_websockets
        self._offered_head: bytes | None = None
        """A head that offered an upgrade, without the offer: it is parsed again."""
        self._socket: CallerSocket | None = None
        """The connection after a WebSocket handshake."""

    def read_offer(self, version: str, *, may_upgrade: bool) -> None:
        """Begin a WebSocket handshake, or prepare the head for parsing it without its offer.

        `may_upgrade` is False while a response is in flight. Raise RejectedRequestError for a CONNECT request, and for a WebSocket
        handshake that is invalid or not allowed.
        """
        method = self.parser.get_method()
        if self._serves_websockets and may_upgrade and is_handshake(method, version, self.headers):
            cycle = self.begin_handshake(version)
            cycle.scope["socket"] = self._socket = CallerSocket(self, cycle)
        else:
            self._offered_head = without_offer(method, self.url, version, self.headers)

    def handshake_scope(self, version: str) -> dict[str, Any]:
        """Return the scope of a handshake. Its type is `websocket`, so no request handler serves it."""
        path, raw_path, query = split_url(self.url)
        return {
            "type": "websocket", "http_version": version, "method": "GET", "scheme": self.scheme,
            "path": path, "raw_path": raw_path, "query_string": query, "root_path": "", "headers": self.headers,
            "server": self.server, "client": self.client, "state": {},
        }  # fmt: skip

    def follow_offer(self, rest: memoryview) -> None:
        """Handle `rest`, the bytes after a head with an offer."""
        try:
            while self._offered_head is not None:
                head, self._offered_head = self._offered_head, None
                self.new_parser()
                self.parser.feed_data(head)
                try:
                    self.parser.feed_data(rest)
                except httptools.HttpParserUpgrade as offer:
                    rest = rest[offer.args[0] :]
        except httptools.HttpParserError as error:
            self.reject(problem_of(error))
            return
        if self._socket is not None:
            self._socket.take_over(bytes(rest))

    def begin_handshake(self, version: str) -> RequestCycle:
        """Start the call of a handshake, and return its cycle."""
        raise NotImplementedError

    def reject(self, problem: Problem) -> None:
        """Send an error and close the connection."""
        raise NotImplementedError
