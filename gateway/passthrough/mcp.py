"""Passes one request of MCP (streamable HTTP) to its server: a message, a stream that the server may use, or the end of a session.

The caller and the server negotiate the version of the protocol themselves: the gateway passes the header
`MCP-Protocol-Version` and the messages of the negotiation unchanged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from gateway.attempts.admission import Admission
from gateway.call import Attempt, Call
from gateway.errors import GatewayError, from_failure
from gateway.passthrough.caller import CallerBody, PassthroughCaller
from gateway.passthrough.headers import response_headers
from gateway.passthrough.mcp_deadlines import TimedResponse, deadlines_of
from gateway.passthrough.mcp_messages import (
    METHOD_HEADER,
    NAME_HEADER,
    TOOLS_LIST,
    EventRelay,
    Message,
    RpcError,
    allowed_tools,
    as_rpc_error,
    check_headers,
    check_message,
    read_message,
)
from gateway.passthrough.mcp_sessions import EVENT_HEADER, SESSION_HEADER, Sessions
from gateway.passthrough.rules import Rule
from gateway.passthrough.run import FIRST_ERROR_STATUS, Passthrough, check_call, end_attempt, passed_request
from gateway.response.headers import common_headers
from gateway.response.redaction import Mask, mask_headers
from gateway.upstream.transport import Response, UpstreamError
from providers.base import Failure, WireRequest

MAX_LIST_BYTES = 16 << 20
"""Maximum size of a list of tools that is filtered."""
_CREDENTIAL_REFUSED = (401, 403)
_BODY_HEADERS = frozenset({"content-encoding", "content-length"})
_CHECKED_HEADERS = frozenset(name.decode() for name in (EVENT_HEADER, METHOD_HEADER, NAME_HEADER, SESSION_HEADER))


class McpPassthrough(Passthrough):
    """Passes the calls of one configuration, including those to MCP servers."""

    async def run(self, call: Call, caller: PassthroughCaller, rule: Rule, raw_path: bytes) -> None:
        """Pass an authenticated call and relay the response. Raise GatewayError if there is no response."""
        if rule.mcp is None:
            return await super().run(call, caller, rule, raw_path)
        message = Message(b"")
        try:
            check_call(call, rule, raw_path)
            await self._admit(call)
            message = await self._read(call, caller, rule)
            await self._exchange(call, caller, rule, message)
        except RpcError:
            raise
        except GatewayError as error:
            raise as_rpc_error(error, message.id) from None

    async def _read(self, call: Call, caller: PassthroughCaller, rule: Rule) -> Message:
        """Read and check the message of a POST. For other methods, return an empty message."""
        assert call.passed is not None
        assert rule.mcp is not None
        body, pieces = CallerBody(caller, caller.headers, rule.max_body), []
        while piece := await body.read():
            pieces.append(piece)
        call.passed.request_bytes, call.read_at = body.size, time.monotonic()
        source = b"".join(pieces)
        if call.passed.method != "POST":
            return Message(b"")
        message = read_message(source)
        call.passed.rpc_method, call.passed.tool = message.method, message.tool
        if rule.mcp.tools is None:
            return message._replace(body=source)
        check_message(message, rule.mcp.tools, rule.mcp.name)
        check_headers(message, caller.headers)
        return message

    async def _exchange(self, call: Call, caller: PassthroughCaller, rule: Rule, message: Message) -> None:
        health = self._health.health_of(rule.backend.target)
        target = health.pick_credential(rule.backend.targets)
        caller.query = b""
        request, adjustments = passed_request(call, caller, rule, target, rule.path)
        request.body = message.body
        sessions = Sessions(target, rule.mcp_salt)
        session = _set_ids(call, request, sessions)
        attempt = Attempt(target, adjustments=adjustments)
        call.attempts.append(attempt)
        attempt.sent_at = time.monotonic()
        admission = Admission(call, attempt, health, self._target_limits)
        try:
            await self._enter(admission, attempt, rule)
            if call.trace is not None:
                call.trace.begin(attempt)
                call.trace.mark(request)
            assert call.passed is not None
            deadlines = deadlines_of(rule, call.passed.method, message.method)
            response = await self._send(call, attempt, rule, request, None, deadlines)
            try:
                await self._relay_mcp(call, caller, rule, message, response, sessions, session)
            finally:
                response.close()
        except asyncio.CancelledError:
            if caller.has_gone:
                self._note_left(attempt)
            raise
        finally:
            end_attempt(attempt, admission)

    async def _relay_mcp(
        self,
        call: Call,
        caller: PassthroughCaller,
        rule: Rule,
        message: Message,
        response: Response,
        sessions: Sessions,
        session: bytes,
    ) -> None:
        assert rule.mcp is not None
        attempt = call.attempts[-1]
        attempt.outcome = "ok" if response.status < FIRST_ERROR_STATUS else str(response.status)
        if response.status in _CREDENTIAL_REFUSED:  # the client would try to sign in to the server
            raise self._refused(attempt, rule, response.status)
        call.answered_by, call.status = attempt, response.status
        theirs = mask_headers(response.headers, attempt.target)
        headers = _with_session(response_headers(theirs, common_headers(call), rule), call, sessions)
        tools = rule.mcp.tools
        kind = next((value.lower() for name, value in headers if name == b"content-type"), b"")
        if b"event-stream" in kind:
            begun = next((value for name, value in response.headers if name == SESSION_HEADER), session)
            events = EventRelay(tools, partial(sessions.event_for_caller, _owner(call), begun))
            return await self._send_events(call, caller, headers, events, response)
        response = TimedResponse(response, rule.mcp.timeout, attempt.head_at - attempt.sent_at)
        if tools is not None and message.method == TOOLS_LIST and response.status < FIRST_ERROR_STATUS and b"json" in kind:
            return await self._send_list(call, caller, headers, tools, response)
        try:
            await response.begin()
        except UpstreamError as error:
            call.answered_by, call.status = None, 0
            raise self._failed(attempt, error) from None
        call.first_byte_at = time.monotonic()
        await caller.start_response(response.status, headers)
        mask = Mask(attempt.target) if response.status >= FIRST_ERROR_STATUS else None
        await self._send_rest(call, caller, await self._relay_body(call, caller, response, mask))

    async def _send_events(
        self, call: Call, caller: PassthroughCaller, headers: list[tuple[bytes, bytes]], events: EventRelay, response: Response
    ) -> None:
        kept = [each for each in headers if each[0] != b"content-length"]  # events and heartbeats change the length
        call.first_byte_at = time.monotonic()
        await caller.start_events(response.status, kept)
        await self._send_rest(call, caller, await self._relay_body(call, caller, response, events))

    async def _send_rest(self, call: Call, caller: PassthroughCaller, rest: bytes | None) -> None:
        if rest is not None:
            await caller.finish(rest)
            self._count_attempt(call.attempts[-1])

    async def _send_list(
        self, call: Call, caller: PassthroughCaller, headers: list[tuple[bytes, bytes]], tools: Sequence[str], response: Response
    ) -> None:
        """Send a list of tools without those that are not allowed."""
        attempt, passed = call.attempts[-1], call.passed
        assert passed is not None
        try:
            whole = await response.body(MAX_LIST_BYTES)
        except UpstreamError as error:
            call.answered_by, call.status = None, 0
            raise self._failed(attempt, error) from None
        body = allowed_tools(whole, tools)
        passed.response_bytes = len(whole)
        attempt.ended_at = call.first_byte_at = time.monotonic()
        kept = [(name, value) for name, value in headers if name != b"content-length"]
        await caller.respond(response.status, [*kept, (b"content-length", b"%d" % len(body))], body)
        self._count_attempt(attempt)

    def _refused(self, attempt: Attempt, rule: Rule, status: int) -> GatewayError:
        assert rule.mcp is not None
        attempt.outcome = str(status)
        self._count_attempt(attempt)
        failure = Failure("auth", f"the MCP server refused the credential of the configuration (status {status})", status)
        return from_failure(failure, attempt.target.name)

    def _count_attempt(self, attempt: Attempt) -> None:
        self._metrics.count("lockgate_attempts", (self._metrics.target_label(attempt.target), attempt.outcome))


def _owner(call: Call) -> str:
    return call.key.name if call.key is not None else ""


def _set_ids(call: Call, request: WireRequest, sessions: Sessions) -> bytes:
    """Replace the caller's ids of session and event with the server's. Return the server's id of the session, or b"" without a session.

    Remove the headers that describe the encoding and size of the body, and those that a server could take for a checked header.
    Raise RpcError if an id does not have the mark of the key.
    """
    owner, session = _owner(call), b""
    request.headers = [pair for pair in request.headers if pair[0] not in _BODY_HEADERS and not _is_look_alike(pair[0])]
    for at, (name, value) in enumerate(request.headers):
        if name.encode() == SESSION_HEADER:
            id = sessions.for_server(owner, value.encode("latin-1"))
            if id is None:
                message = "The session is unknown. Begin a new one with 'initialize'."
                raise RpcError(-32600, None, message, status=404, code="session_not_found")
            request.headers[at], session = (name, id.decode("latin-1")), id
    for at, (name, value) in enumerate(request.headers):
        if name.encode() == EVENT_HEADER:
            id = sessions.event_for_server(owner, session, value.encode("latin-1"))
            if id is None:
                message = (
                    "'Last-Event-ID' is not the id of an event that this key has received in this session. Send the id of the last event "
                    "that arrived, or open the stream without 'Last-Event-ID'."
                )
                raise RpcError(-32600, None, message, status=400, code="event_not_found")
            request.headers[at] = name, id.decode("latin-1")
    return session


def _is_look_alike(name: str) -> bool:
    """Return whether a server that treats `_` as `-` could take a header for one that the gateway checks."""
    return "_" in name and name.replace("_", "-") in _CHECKED_HEADERS


def _with_session(headers: list[tuple[bytes, bytes]], call: Call, sessions: Sessions) -> list[tuple[bytes, bytes]]:
    """Return response headers with the session id for the caller."""
    owner = _owner(call)
    return [(name, sessions.for_caller(owner, value) if name == SESSION_HEADER else value) for name, value in headers]
