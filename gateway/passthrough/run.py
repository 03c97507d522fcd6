"""Passes one call to its provider: checks, limits, one request, and its response piece by piece.

There are no retries and no fallbacks: a request body is read once, and a path has a meaning only at its provider.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from msgspec import structs

from gateway.attempts.admission import Admission, NotAdmittedError
from gateway.attempts.hook_points import send_held
from gateway.call import Attempt, Call, in_ms
from gateway.catalog.prices import price_of
from gateway.errors import Forbidden, GatewayError, Headers, from_failure
from gateway.http.json_body import CallerDisconnectedError
from gateway.keys.virtual_key import may_pass
from gateway.limits.enforce import Limits
from gateway.metrics import Metrics
from gateway.passthrough.caller import CallerBody, PassthroughCaller
from gateway.passthrough.headers import request_headers, response_headers
from gateway.passthrough.hooked import AnswerFilter, answer_filter, hook_passed_request, hooked_headers
from gateway.passthrough.paths import METHOD_PARAMETER, check_path, upstream_path, without_credentials
from gateway.passthrough.rules import Rule
from gateway.passthrough.usage import AnswerCopy, copy_for
from gateway.response.headers import common_headers, linked_id
from gateway.response.redaction import Mask, mask_headers
from gateway.store.limit import has_strict_limit
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import Deadlines, Response, UpstreamError
from providers.base import Adjustment, Failure, Target, WireRequest

FIRST_ERROR_STATUS = 400
MAX_TOTAL_S = 24 * 3600.0
"""Maximum time for one passed call. A long upload or download ends earlier only if it stalls."""
_BODILESS = frozenset({204, 304})


class BodyChange(Protocol):
    """Changes the bytes of a body as they pass."""

    def feed(self, piece: bytes) -> bytes:
        """Return the bytes to send now."""
        ...

    def end(self) -> bytes:
        """Return the bytes that were held back."""
        ...


class Passthrough:
    """Passes the calls of one configuration."""

    def __init__(self, metrics: Metrics, limits: Limits | None, health: TargetRegistry) -> None:
        self._metrics = metrics
        self._limits = limits
        self._target_limits = limits if limits is not None and limits.has_target_limits else None
        self._health = health

    async def run(self, call: Call, caller: PassthroughCaller, rule: Rule, raw_path: bytes) -> None:
        """Pass an authenticated call and relay the response. Raise GatewayError if there is no response."""
        check_call(call, rule, raw_path)
        body = CallerBody(caller, caller.headers, rule.max_body)
        await self._admit(call)
        health = self._health.health_of(rule.backend.target)
        target = health.pick_credential(rule.backend.targets)
        request, adjustments = passed_request(call, caller, rule, target, raw_path)
        if call.hooks is not None:
            adjustments += await hook_passed_request(call.hooks, request, body, target)
        attempt = Attempt(target, adjustments=adjustments)
        call.attempts.append(attempt)
        call.read_at = attempt.sent_at = time.monotonic()
        admission = Admission(call, attempt, health, self._target_limits)
        try:
            await self._enter(admission, attempt, rule)
            if call.trace is not None:
                call.trace.begin(attempt)
                call.trace.mark(request)
            deadlines = structs.replace(rule.backend.deadlines, total=MAX_TOTAL_S)
            response = await self._send(call, attempt, rule, request, body, deadlines)
            try:
                await self._relay(call, caller, rule, response)
            finally:
                response.close()
        except (asyncio.CancelledError, CallerDisconnectedError) as error:
            if caller.has_gone or isinstance(error, CallerDisconnectedError):
                self._note_left(attempt, is_sent=body.is_complete)
            raise
        finally:
            assert call.passed is not None
            call.passed.request_bytes = body.size
            end_attempt(attempt, admission)

    async def _admit(self, call: Call) -> None:
        """Reserve the call under its caller's limits. Raise Forbidden if a limit on tokens or spend is strict."""
        if self._limits is None or not (limits := self._limits.of_caller(call, "")):
            return
        if has_strict_limit(limits):
            message = "A strict limit cannot bound the usage of a passed call. Use a key without strict limits."
            raise Forbidden(message, code="path_not_allowed")
        await self._limits.admit(call, limits, ())

    async def _enter(self, admission: Admission, attempt: Attempt, rule: Rule) -> None:
        try:
            await admission.enter(None, rule.provider.max_wait)
        except NotAdmittedError as error:
            label = self._metrics.target_label(attempt.target)
            attempt.outcome = "limit" if error.is_limit else error.failure.kind
            if error.is_shed:
                self._metrics.count("lockgate_shed", (label,))
            raise from_failure(error.failure, attempt.target.name) from None
        attempt.sent_at = admission.began

    async def _send(
        self, call: Call, attempt: Attempt, rule: Rule, request: WireRequest, body: CallerBody | None, deadlines: Deadlines
    ) -> Response:
        """Send the request and return the head of any response. If `body` is None or the call has hooks, send the body of `request`."""
        self._metrics.count("lockgate_upstream_requests", (self._metrics.target_label(attempt.target),))
        backend = rule.backend
        try:
            response = await backend.transport.send(backend.origin, request, deadlines, body if call.hooks is None else None)
        except UpstreamError as error:
            raise self._failed(attempt, error) from None
        finally:
            attempt.is_written = request.written
        attempt.head_at = time.monotonic()
        return response

    def _note_left(self, attempt: Attempt, *, is_sent: bool = True) -> None:
        """Record that the caller disconnected. `is_sent` states whether the caller had sent its request completely."""
        attempt.outcome, label = "left", self._metrics.target_label(attempt.target)
        if not attempt.is_written:
            return
        self._metrics.count("lockgate_attempts", (label, "left"))
        if is_sent and not attempt.head_at:
            self._metrics.count("lockgate_unanswered_disconnects", (label,))

    def _failed(self, attempt: Attempt, error: UpstreamError) -> GatewayError:
        """Record a failed attempt, and return the error for the caller."""
        attempt.outcome, label = error.kind, self._metrics.target_label(attempt.target)
        self._metrics.count("lockgate_attempts", (label, error.kind))
        self._metrics.count("lockgate_upstream_errors", (label, error.kind))
        if error.kind == "overloaded":  # the gateway's own limit on connections
            self._metrics.count("lockgate_shed", (label,))
        return from_failure(Failure(error.kind, error.message), attempt.target.name)

    async def _relay(self, call: Call, caller: PassthroughCaller, rule: Rule, response: Response) -> None:
        """Relay the response."""
        attempt, passed = call.attempts[-1], call.passed
        assert passed is not None
        call.answered_by, call.status = attempt, response.status
        attempt.outcome = "ok" if response.status < FIRST_ERROR_STATUS else str(response.status)
        theirs = mask_headers(response.headers, attempt.target)
        attempt.upstream_id = upstream_id(theirs)
        copy = copy_for(passed.method, response.status, response.headers)
        call.first_byte_at = time.monotonic()
        hooked = answer_filter(call.hooks, response.headers, response.status) if passed.method != "HEAD" else None
        sent_headers: Headers = response_headers(theirs, common_headers(call), rule)
        if hooked is not None and call.hooks is not None:
            call.hooks.rest = hooked.broken
            sent_headers = hooked_headers(sent_headers)
        if hooked is None or not hooked.is_whole:
            await caller.start_response(response.status, sent_headers)
        mask = Mask(attempt.target) if response.status >= FIRST_ERROR_STATUS else None  # an error may repeat the provider's key
        rest = await self._relay_body(call, caller, response, mask, copy, hooked)
        if rest is None:
            return
        if not caller.head_sent:
            await caller.start_response(response.status, [*sent_headers, (b"content-length", b"%d" % len(rest))])
        await caller.finish(rest)
        self._metrics.count("lockgate_attempts", (self._metrics.target_label(attempt.target), attempt.outcome))
        if copy is not None and (reported := copy.reported()) is not None:
            attempt.usage = reported.usage
            own_price = price_of(rule.provider, reported.model) if reported.model else None
            attempt.price = own_price or rule.backend.price

    async def _relay_body(
        self,
        call: Call,
        caller: PassthroughCaller,
        response: Response,
        change: BodyChange | None,
        copy: AnswerCopy | None = None,
        hooked: AnswerFilter | None = None,
    ) -> bytes | None:
        """Relay the body as it arrives, changed by `change` and then by `hooked`. Return the rest, with which the body ends.

        If the server breaks off its response, break off the caller's response as well, and return None.
        """
        attempt, passed = call.attempts[-1], call.passed
        assert passed is not None
        try:
            while piece := await response.read():
                passed.response_bytes += len(piece)
                if copy is not None:
                    copy.add(piece)
                sent = piece if change is None else change.feed(piece)
                if hooked is not None:
                    sent = await hooked.feed(sent)
                if sent:
                    await caller.write(sent)
        except UpstreamError as error:
            if caller.has_left:
                raise CallerDisconnectedError from None
            call.error, call.stream_end = self._failed(attempt, error), error.kind
            call.error = await send_held(call, caller, call.error)
            caller.abort()
            return None
        attempt.ended_at = time.monotonic()
        rest = b"" if change is None else change.end()
        return rest if hooked is None else await hooked.end(rest)


def end_attempt(attempt: Attempt, admission: Admission) -> None:
    """Record the duration of an attempt, and release its admission."""
    if admission.began:
        attempt.ms = in_ms(time.monotonic() - attempt.sent_at)
    else:  # the call never reached the target
        attempt.sent_at = time.monotonic()
    admission.leave(attempt)


def check_call(call: Call, rule: Rule, raw_path: bytes) -> None:
    """Raise GatewayError if the key may not use the rule, or if the path or the method is not allowed."""
    if not may_pass(call.key, rule.pattern):
        name = call.key.name if call.key is not None else ""
        message = f"The key '{name}' may not use the path {rule.pattern}. Its setting 'passthrough' lists the paths it may use."
        raise Forbidden(message, code="path_not_allowed")
    check_path(raw_path)
    assert call.passed is not None
    if call.passed.method not in rule.methods:
        allowed = ", ".join(sorted(rule.methods))
        raise GatewayError(
            f"{call.passed.method} is not allowed on {rule.pattern}. Use {allowed}.",
            status=405,
            code="method_not_allowed",
            type="invalid_request_error",
            headers=((b"allow", allowed.encode()),),
        )


def passed_request(
    call: Call, caller: PassthroughCaller, rule: Rule, target: Target, raw_path: bytes
) -> tuple[WireRequest, list[Adjustment]]:
    """Return the request for the provider, and an adjustment for each parameter removed from the query."""
    assert call.passed is not None
    query, removed = without_credentials(caller.query)
    ids = [value for name, value in caller.headers if name == b"x-request-id"]
    call.client_id = linked_id(ids[-1]) if ids else None
    headers = request_headers(caller.headers, target, is_traced=call.trace is not None)
    request = WireRequest(upstream_path(rule, raw_path, query), headers, b"", call.passed.method)
    return request, [Adjustment(name, "drop", why=_why_removed(name)) for name in removed]


def _why_removed(name: str) -> str:
    return "the query must not set another method" if name == METHOD_PARAMETER else "keys in the URL are not passed on"


def upstream_id(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Return the provider's request id, or None if the response has none."""
    ids = [value for name, value in headers if name in (b"x-request-id", b"request-id", b"apim-request-id")]
    return ids[0][:128].decode("latin-1") if ids else None
