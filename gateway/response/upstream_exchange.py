"""One attempt while it lasts: what it needs, its request to the upstream, and the head of the answer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.call import Attempt, Call, in_ms
from gateway.dialects import goodfire
from gateway.emulate import json_mode, logits
from gateway.emulate.stops import StopStream
from gateway.http.caller import Caller
from gateway.metrics import Metrics
from gateway.response import time_info
from gateway.response import upstream_answer as answer
from gateway.streams.relay import Relay
from gateway.streams.resumed import ResumedStream
from gateway.targets.backend import Backend
from gateway.upstream.transport import Deadlines, Response
from providers.base import TIMES, Body, Options, StreamDecoder, StreamFailure, WireRequest

MAX_ANSWER_BYTES = 64 << 20
"""Bytes of one JSON answer that we take from an upstream."""
MAX_ERROR_BYTES = 64 << 10
SLACK, SPARE = 1.1, 64
"""A stream may have its output limit times one, and some, content events: one that has more will not end by itself."""


class UpstreamExchange:
    """Everything that one attempt needs while it lasts."""

    __slots__ = (
        "attempt", "backend", "call", "caller", "deadlines", "json_streams", "json_validator", "logits_request", "metrics", "on_begin",
        "options", "sent_at", "target",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        attempt: Attempt,
        caller: Caller,
        backend: Backend,
        options: Options,
        deadlines: Deadlines,
        metrics: Metrics,
        logits_request: logits.LogitsRequest | None = None,
        json_validator: json_mode.JsonValidator | None = None,
    ) -> None:
        """`asked` are probabilities that this provider has no call for; `watch` looks at answers in JSON mode."""
        self.logits_request = logits_request
        self.json_validator = json_validator
        self.json_streams: list[json_mode.JsonStream] = []
        self.call = call
        self.attempt = attempt
        self.caller = caller
        self.backend = backend
        self.target = attempt.target
        self.options = options
        self.deadlines = deadlines
        self.metrics = metrics
        self.on_begin: Callable[[], None] | None = None
        """Called when a stream to the caller begins."""
        self.sent_at = time.monotonic()

    @property
    def upstream_calls(self) -> int:
        """How many upstream calls the adjustments make of this one."""
        for adjustment in self.attempt.adjustments:
            if adjustment.action == "fan_out":
                return int(adjustment.from_)
        return 1

    def elapsed_ms(self) -> float:
        """Milliseconds since the request was ready to be sent."""
        return in_ms(time.monotonic() - self.sent_at)

    async def send(self, body: Body) -> Response:
        """The head of a good answer; StreamFailure for an error, or for no stream where one was asked for."""
        request = self.target.kind.encode(body, self.target, self.options)
        try:
            response = await self.transmit(request)
        finally:
            self.attempt.is_written = self.attempt.is_written or request.written
        self.attempt.head_at = time.monotonic()
        try:
            if response.status != 200:
                raise StreamFailure(await answer.read_failure(response, self.target, MAX_ERROR_BYTES))
            if self.call.stream and not answer.is_event_stream(response):
                raise StreamFailure(await answer.read_unstreamed(response, self.target, MAX_ANSWER_BYTES))
        except BaseException:
            response.close()
            raise
        return response

    def transmit(self, request: WireRequest) -> Awaitable[Response]:
        """Give one request to the transport; the head of whatever answer it gets."""
        self.metrics.count("lockgate_upstream_requests", (self.metrics.target_label(self.target),))
        if self.call.trace is not None:
            self.call.trace.mark(request)
        return self.backend.transport.send(self.backend.origin, request, self.deadlines)

    def new_relay(self, body: Body, *, usage_asked: bool) -> tuple[Relay, StopStream | None]:
        """The state of the stream that answers `body`; with stops, what ends it at one of them."""
        call, target = self.call, self.target
        decoder: StreamDecoder | None = target.kind.decoder(target, self.options)
        stops = None
        if call.stops or self.json_validator is not None:
            assert call.body is not None
            choices = 1 if self.upstream_calls > 1 else call.body.get("n") or 1
            if call.stops:
                decoder = stops = StopStream(decoder, call.stops, choices, keep=call.keeps_stop)
            if self.json_validator is not None:
                decoder = watched = json_mode.JsonStream(decoder, self.json_validator, choices)
                self.json_streams.append(watched)
        if call.path.startswith(goodfire.PATH_PREFIX):
            decoder = goodfire.GoodfireStream(decoder)
        if call.transcript is not None and call.transcript.handovers:
            decoder = ResumedStream(decoder, call.transcript)
        relay = Relay(
            decoder=decoder,
            usage_asked=usage_asked,
            read_usage=answer.read_usage,
            fail=lambda data: answer.inband_failure(target, data),
            max_events=_most_events(body),
            choices=body.get("n") or 1,
        )
        self.attempt.relays.append(relay)
        return relay, stops

    def times(self) -> dict[str, Any] | None:
        """How long the parts of the only upstream call took, where its decoder knows."""
        times = self.options.memo.get(TIMES) if self.upstream_calls == 1 else None
        return time_info.from_provider(times) if times else None


def _most_events(body: Body) -> float:
    """How many content events may come for an adapted body: about one a token, and some slack. No bound where the body has none."""
    cap = body.get("max_completion_tokens") or body.get("max_tokens")
    if type(cap) is not int:
        return float("inf")
    return (cap * SLACK + SPARE) * (body.get("n") or 1)
