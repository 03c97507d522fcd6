"""Passes one request of MCP (streamable HTTP) to its server: a message, a stream that the server may use, or the end of a session.

The caller and the server negotiate the version of the protocol themselves: the gateway passes the header
`MCP-Protocol-Version` and the messages of the negotiation unchanged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from msgspec import structs

from gateway.attempts.admission import Admission
from gateway.call import Attempt, Call
from gateway.errors import GatewayError, from_failure
from gateway.passthrough.caller import CallerBody, PassthroughCaller
from gateway.passthrough.headers import response_headers
from gateway.passthrough.mcp_messages import (
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
from gateway.passthrough.mcp_sessions import SESSION_HEADER, Sessions
from gateway.passthrough.rules import Rule
from gateway.passthrough.run import FIRST_ERROR_STATUS, MAX_TOTAL_S, Passthrough, check_call, end_attempt, passed_request
from gateway.response.headers import common_headers
from gateway.response.redaction import Mask, mask_headers
from gateway.upstream.transport import Deadlines, Response, UpstreamError
from providers.base import Failure, WireRequest

MAX_LIST_BYTES = 16 << 20
"""Maximum size of a list of tools that is filtered."""
_CREDENTIAL_REFUSED = (401, 403)
_BODY_HEADERS = frozenset({"content-encoding", "content-length"})


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
        sessions = Sessions(target)
        _set_session(call, request, sessions)
        attempt = Attempt(target, adjustments=adjustments)
        call.attempts.append(attempt)
        attempt.sent_at = time.monotonic()
        admission = Admission(call, attempt, health, self._target_limits)
        try:
            await self._enter(admission, attempt, rule)
            if call.trace is not None:
                call.trace.begin(attempt)
                call.trace.mark(request)
            response = await self._send(call, attempt, rule, request, None, _deadlines(call, rule))
            try:
                await self._relay_mcp(call, caller, rule, message, response, sessions)
            finally:
                response.close()
        except asyncio.CancelledError:
            if caller.has_gone:
                self._note_left(attempt)
            raise
        finally:
            end_attempt(attempt, admission)

    async def _relay_mcp(
        self, call: Call, caller: PassthroughCaller, rule: Rule, message: Message, response: Response, sessions: Sessions
    ) -> None:
        attempt = call.attempts[-1]
        attempt.outcome = "ok" if response.status < FIRST_ERROR_STATUS else str(response.status)
        if response.status in _CREDENTIAL_REFUSED:  # the client would try to sign in to the server
            raise self._refused(attempt, rule, response.status)
        call.answered_by, call.status = attempt, response.status
        theirs = mask_headers(response.headers, attempt.target)
        headers = _with_session(response_headers(theirs, common_headers(call), rule), call, sessions)
        tools = rule.mcp.tools if rule.mcp is not None else None
        kind = next((value.lower() for name, value in headers if name == b"content-type"), b"")
        if tools is not None and message.method == TOOLS_LIST and response.status < FIRST_ERROR_STATUS and b"json" in kind:
            return await self._send_list(call, caller, headers, tools, response)
        events = EventRelay(tools) if b"event-stream" in kind else None
        if events is not None:
            headers = [each for each in headers if each[0] != b"content-length"]  # events and heartbeats change the length
        call.first_byte_at = time.monotonic()
        await (caller.start_response if events is None else caller.start_events)(response.status, headers)
        mask = Mask(attempt.target) if response.status >= FIRST_ERROR_STATUS else None
        rest = await self._relay_body(call, caller, response, events or mask)
        if rest is not None:
            await caller.finish(rest)
            self._count_attempt(attempt)

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


def _set_session(call: Call, request: WireRequest, sessions: Sessions) -> None:
    """Replace the session id of the caller with that of the server, and remove the headers that describe the encoding and size of the body.

    Raise RpcError if the id does not have the mark of the key.
    """
    request.headers = [(name, value) for name, value in request.headers if name not in _BODY_HEADERS]
    for at, (name, value) in enumerate(request.headers):
        if name.encode() == SESSION_HEADER:
            id = sessions.for_server(_owner(call), value.encode("latin-1"))
            if id is None:
                message = "The session is unknown. Begin a new one with 'initialize'."
                raise RpcError(-32600, None, message, status=404, code="session_not_found")
            request.headers[at] = (name, id.decode("latin-1"))


def _with_session(headers: list[tuple[bytes, bytes]], call: Call, sessions: Sessions) -> list[tuple[bytes, bytes]]:
    """Return response headers with the session id for the caller."""
    owner = _owner(call)
    return [(name, sessions.for_caller(owner, value) if name == SESSION_HEADER else value) for name, value in headers]


def _deadlines(call: Call, rule: Rule) -> Deadlines:
    """Return the deadlines of a request. A stream that a caller opens may pause for as long as a call may last."""
    deadlines = structs.replace(rule.backend.deadlines, total=MAX_TOTAL_S)
    is_stream = call.passed is not None and call.passed.method == "GET"
    return structs.replace(deadlines, idle=MAX_TOTAL_S) if is_stream else deadlines
