"""The requests of one attempt to its target, and the state that the attempt needs until it ends."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from gateway.call import Attempt, Call, in_ms
from gateway.dialects.native_api import NativeApi
from gateway.emulate.adapt import AdaptedBody
from gateway.emulate.json_mode import JsonStream
from gateway.emulate.tool_calls import ToolCallStream
from gateway.http.caller import Caller
from gateway.metrics import Metrics
from gateway.response import upstream_answer
from gateway.response.trace_context import add_trace_headers
from gateway.targets.backend import Backend
from gateway.upstream.transport import Deadlines, Response
from providers.base import Body, StreamFailure, WireRequest
from providers.rules.places import callers_failure

MAX_ANSWER_BYTES = 64 << 20
MAX_ERROR_BYTES = 64 << 10


class UpstreamExchange:
    """One attempt in progress."""

    __slots__ = (
        "attempt", "backend", "begun", "call", "caller", "checked_streams", "deadlines",
        "goes_on_if_filtered", "json_validator", "logits_request", "metrics",
        "native", "on_begin", "options", "record", "rest", "sent_at", "stop_found", "target", "tool_calls",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        attempt: Attempt,
        caller: Caller,
        backend: Backend,
        adapted: AdaptedBody,
        deadlines: Deadlines,
        metrics: Metrics,
        *,
        native: NativeApi | None = None,
    ) -> None:
        """`native` is the caller's API if the request and its response are not translated."""
        self.call = call
        self.attempt = attempt
        self.caller = caller
        self.backend = backend
        self.target = attempt.target
        self.native = native
        self.options = adapted.options
        self.logits_request = adapted.logits_request
        self.json_validator = adapted.json_validator
        self.tool_calls = adapted.tool_calls
        self.checked_streams: list[JsonStream | ToolCallStream] = []
        """The filters of the attempt's streams. Each may add notes to the receipt when the answer is complete."""
        self.deadlines = deadlines
        self.metrics = metrics
        self.on_begin: Callable[[], None] | None = None
        """Called when a stream to the caller begins."""
        self.sent_at = time.monotonic()
        self.goes_on_if_filtered = False
        """Whether the next target is tried after an answer that a content filter withheld completely."""
        self.begun: Awaitable[Response] | None = None
        """The response to the first request, if the request has been sent already or the answer is cached."""
        self.record: Callable[[Response], Response] | None = None
        """Returns a response that is copied while it is read; None if the next response is not copied."""
        self.rest: Callable[[], Awaitable[None]] | None = None
        """Delivers what is left of a response that has been read at least in part, or raises the error that occurred meanwhile."""
        self.stop_found: str | None = None
        """The stop string that ended the latest JSON answer."""

    @property
    def upstream_calls(self) -> int:
        """The number of upstream requests into which the adjustments split this call."""
        return self.attempt.upstream_calls

    def claim_caller(self) -> None:
        """Claim the caller for this attempt, and set the format of its answer.

        Raise HedgeLostError if another attempt has already claimed the caller.
        """
        self.caller.claim()
        if self.native is not None:
            self.caller.pass_natively()

    def elapsed_ms(self) -> float:
        """Return the milliseconds since the request was ready to be sent."""
        return in_ms(time.monotonic() - self.sent_at)

    async def send(self, body: Body) -> Response:
        """Send a body and return the head of a successful response.

        Raise StreamFailure for an error, or if the requested stream is missing.
        """
        request = self.target.kind.encode(body, self.target, self.options)
        if self.call.hooks is not None:
            request.headers = self.call.hooks.arrange(request.headers)
        try:
            response = await self.transmit(request)
        finally:
            self.attempt.is_written = self.attempt.is_written or request.written
        self.attempt.head_at = time.monotonic()
        try:
            if response.status != 200:
                failure = await upstream_answer.read_failure(response, self.target, MAX_ERROR_BYTES)
                raise StreamFailure(callers_failure(body, failure))
            if self.call.stream and not upstream_answer.is_event_stream(response):
                raise StreamFailure(await upstream_answer.read_unstreamed(response, self.target, MAX_ANSWER_BYTES))
        except BaseException:
            response.close()
            raise
        if self.record is not None:
            response, self.record = self.record(response), None
        return response

    def transmit(self, request: WireRequest) -> Awaitable[Response]:
        """Pass one request to the transport, unless `begun` provides its response. Return the head of any response."""
        if self.begun is not None:
            begun, self.begun = self.begun, None
            return begun
        self.metrics.count_target("lockgate_upstream_requests", self.target)
        if self.call.headers is not None or self.call.trace is not None:
            add_trace_headers(self.call, self.target, request)
        return self.backend.transport.send(self.backend.origin, request, self.deadlines)
