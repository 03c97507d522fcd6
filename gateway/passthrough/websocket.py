"""Passes WebSocket connections: the handshake, its refusal, and the connection until both sides close it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from gateway.attempts.admission import Admission
from gateway.call import Attempt, Call
from gateway.catalog.prices import price_of
from gateway.errors import Forbidden, GatewayError, Headers
from gateway.http.caller import CallerDeadlines, Send
from gateway.http.handshake import CallerSocket
from gateway.http.json_body import CallerDisconnectedError, Receive
from gateway.keys.authenticate import api_key
from gateway.limits.running_charges import RunningCharges
from gateway.passthrough.caller import PassthroughCaller
from gateway.passthrough.headers import response_headers
from gateway.passthrough.hooked import hook_passed_target
from gateway.passthrough.mcp import McpPassthrough
from gateway.passthrough.rules import Rule
from gateway.passthrough.run import check_call, end_attempt, passed_request, upstream_id
from gateway.passthrough.tunnel import End, Tunnel
from gateway.passthrough.usage import RESPONSE_DONE, usage_of_response
from gateway.response.headers import common_headers
from gateway.response.redaction import Mask, mask_headers
from gateway.streams.frames import FrameReader, MessageReader
from gateway.upstream.transport import UpstreamError
from gateway.upstream.websocket import SWITCHING_PROTOCOLS, UpstreamSocket

PROTOCOLS = b"sec-websocket-protocol"
KEY_PROTOCOL = b"openai-insecure-api-key."
"""The beginning of the subprotocol in which OpenAI's clients in browsers send their key, because browsers cannot set headers."""
_HANDSHAKE = (b"sec-websocket-key", b"sec-websocket-version")
_REFRAMED = frozenset({b"content-length", b"sec-websocket-accept"})
_MODEL_PARAMETERS = ("model", "deployment")


class WebSocketCaller(PassthroughCaller):
    """The caller of one WebSocket connection."""

    __slots__ = ("protocols", "socket", "tunnel")

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send, deadlines: CallerDeadlines) -> None:
        """A key among the subprotocols is used as the `x-api-key` header, unless a header already contains a key."""
        super().__init__(scope, receive, send, deadlines)
        self.reading_body = False
        self.socket: CallerSocket = scope["socket"]
        self.tunnel: Tunnel | None = None
        self.protocols, key = read_protocols(self.headers)
        if key is not None and api_key(self.headers) is None:
            self.headers = [*self.headers, (b"x-api-key", key)]

    @property
    def write_stall(self) -> float:
        """Maximum seconds for which a side accepts no data."""
        return self._deadlines.write_stall

    def sweep(self, now: float) -> None:
        """Check the deadlines of the handshake, or of the tunnel."""
        if self.tunnel is not None:
            self.tunnel.sweep(now)
        else:
            super().sweep(now)


class WebSocketPassthrough(McpPassthrough):
    """Passes the WebSocket connections of one configuration."""

    async def run_socket(self, call: Call, caller: WebSocketCaller, rule: Rule, raw_path: bytes) -> None:
        """Pass an authenticated handshake and the connection that follows. Raise GatewayError if there is no response."""
        check_call(call, rule, raw_path)
        if call.hooks is not None and call.hooks.set.refuses_unreadable:
            raise Forbidden("The hooks of this gateway cannot read WebSocket messages. Use an API over HTTP.", code="content_unreadable")
        await self._admit(call)
        health = self._health.health_of(rule.backend.target)
        target = health.pick_credential(rule.backend.targets)
        request, adjustments = passed_request(call, caller, rule, target, raw_path)
        if call.hooks is not None:
            adjustments += await hook_passed_target(call.hooks, request, target)
        request.headers.extend(handshake_headers(caller))
        attempt = Attempt(target, adjustments=adjustments)
        call.attempts.append(attempt)
        call.read_at = attempt.sent_at = time.monotonic()
        admission = Admission(call, attempt, health, self._target_limits)
        socket: UpstreamSocket | None = None
        try:
            await self._enter(admission, attempt, rule)
            if call.trace is not None:
                call.trace.begin(attempt)
                call.trace.mark(request)
            self._metrics.count("lockgate_upstream_requests", (self._metrics.target_label(target),))
            try:
                assert rule.sockets is not None
                socket = await rule.sockets.open_socket(rule.origin, request, rule.backend.deadlines)
            except UpstreamError as error:
                raise self._failed(attempt, error) from None
            finally:
                attempt.is_written = request.written
            attempt.head_at = time.monotonic()
            await self._answer(call, caller, rule, socket, admission)
        except asyncio.CancelledError:
            if caller.has_gone and not attempt.head_at:
                self._note_left(attempt)
            raise
        finally:
            if socket is not None:
                socket.abort()
            end_attempt(attempt, admission)

    async def _answer(
        self, call: Call, caller: WebSocketCaller, rule: Rule, socket: UpstreamSocket, admission: Admission
    ) -> None:
        """Answer the handshake as the provider did, and relay the connection if there is one."""
        attempt = call.attempts[-1]
        call.answered_by, call.status = attempt, socket.status
        theirs = mask_headers(socket.headers, attempt.target)
        attempt.upstream_id = upstream_id(theirs)
        headers = response_headers(theirs, common_headers(call), rule)
        call.first_byte_at = time.monotonic()
        if socket.status != SWITCHING_PROTOCOLS:
            await self._refuse(call, caller, socket, headers)
            return
        charges = RunningCharges(self._limits, call, attempt, admission.reservation)
        tunnel = self._join(call, caller, rule, socket, headers, charges)
        try:
            await tunnel.run()
        finally:
            charges.stop()
            assert call.passed is not None
            call.passed.request_bytes, call.passed.response_bytes = tunnel.caller.size, tunnel.upstream.size
            attempt.ended_at = time.monotonic()
            self._record_end(call, caller, tunnel)

    async def _refuse(self, call: Call, caller: WebSocketCaller, socket: UpstreamSocket, headers: Headers) -> None:
        attempt, mask = call.attempts[-1], Mask(call.attempts[-1].target)  # an error may repeat the provider's key
        attempt.outcome = str(socket.status)
        body = mask.feed(socket.body) + mask.end()
        kept = [(name, value) for name, value in headers if name not in _REFRAMED]
        assert call.passed is not None
        call.passed.response_bytes = len(body)
        self._metrics.count("lockgate_attempts", (self._metrics.target_label(attempt.target), attempt.outcome))
        await caller.respond(socket.status, [*kept, (b"content-length", b"%d" % len(body))], body)

    def _join(
        self,
        call: Call,
        caller: WebSocketCaller,
        rule: Rule,
        socket: UpstreamSocket,
        headers: Headers,
        charges: RunningCharges,
    ) -> Tunnel:
        """Answer 101 and connect the two sides."""
        assert socket.transport is not None
        if caller.disconnected or caller.socket.transport.is_closing():
            raise CallerDisconnectedError
        if socket.transport.is_closing():
            error = UpstreamError("closed_pre", "the upstream closed the connection after its handshake")
            raise self._failed(call.attempts[-1], error)
        headers = [header for header in headers if header[0] != b"content-length"]
        attempt, price = call.attempts[-1], _price(rule, caller.query)

        def add_usage(event: bytes) -> None:
            usage = usage_of_response(event)
            if usage is not None:
                attempt.usage = usage if attempt.usage is None else attempt.usage.plus(usage)
                attempt.price = price
                charges.update()

        tunnel = Tunnel(rule.websocket_idle, caller.write_stall)

        def close(error: GatewayError) -> None:
            call.error = error
            tunnel.go_away("limit", error.message)

        charges.on_used_up = close
        theirs = End(tunnel, socket.transport, MessageReader(RESPONSE_DONE.encode(), add_usage), socket.connection_lost)
        ours = End(tunnel, caller.socket.transport, FrameReader(), caller.socket.connection_lost)
        tunnel.join(ours, theirs)
        caller.close()  # from now on, the tunnel detects a disconnect
        caller.head_sent = True
        caller.tunnel = tunnel
        early = caller.socket.accept(headers, ours)
        caller.socket.on_shutdown = tunnel.go_away
        for end, data in ((theirs, socket.switch(theirs)), (ours, early)):
            if data:
                end.data_received(data)
        if caller.socket.is_shutting_down:
            tunnel.go_away()
        return tunnel

    def _record_end(self, call: Call, caller: WebSocketCaller, tunnel: Tunnel) -> None:
        """Record how the connection ended."""
        attempt, outcome = call.attempts[-1], tunnel.outcome
        label = self._metrics.target_label(attempt.target)
        caller.finished = True
        if outcome in ("truncated", "reset", "stalled"):
            messages = {
                "truncated": "the upstream closed the WebSocket connection without a close frame",
                "reset": "the upstream reset the WebSocket connection",
                "stalled": "the upstream stopped reading",
            }
            call.error, call.stream_end = self._failed(attempt, UpstreamError(outcome, messages[outcome])), outcome
            return
        if outcome in ("caller", "caller_stalled"):
            attempt.outcome = "left"
            caller.finished, caller.disconnected, caller.stalled = False, True, outcome == "caller_stalled"
        else:
            call.stream_end = outcome or "drain"
        self._metrics.count("lockgate_attempts", (label, attempt.outcome))


def read_protocols(headers: Headers) -> tuple[list[bytes], bytes | None]:
    """Return the offered subprotocols without the one that contains a key, and that key or None."""
    offered = [part.strip() for name, value in headers if name == PROTOCOLS for part in value.split(b",")]
    keys = [part[len(KEY_PROTOCOL) :] for part in offered if part.startswith(KEY_PROTOCOL)]
    return [part for part in offered if part and not part.startswith(KEY_PROTOCOL)], next(filter(None, keys), None)


def handshake_headers(caller: WebSocketCaller) -> list[tuple[str, str]]:
    """Return the headers of a caller's handshake that are sent to the provider.

    Extensions are not offered to the provider, so that frames are not compressed. The transport always sends
    `accept-encoding: identity`, so that the body of a refusal is not compressed either.
    """
    found = [(name.decode(), value.strip().decode("latin-1")) for name, value in caller.headers if name in _HANDSHAKE]
    if caller.protocols:
        found.append((PROTOCOLS.decode(), b", ".join(caller.protocols).decode("latin-1")))
    return found


def _price(rule: Rule, query: bytes) -> Any:
    """Return the price of the model that the query names, else that of the pattern."""
    named = [value for name, value in parse_qsl(query.decode("latin-1")) if name in _MODEL_PARAMETERS]
    return (price_of(rule.provider, named[0]) if named else None) or rule.backend.price
