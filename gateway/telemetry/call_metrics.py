"""Adds finished calls to the counters of the process.

A label lookup in prometheus-client costs 2 to 4 us for each update (measured). Here, calls of the same kind share one
CallSeries, which holds the cell index of each number: recording a call is one lookup and a few integer additions.
"""

from __future__ import annotations

from gateway.accounting import unanswered_usages
from gateway.call import Attempt, Call
from gateway.metrics.declarations import NONE, OTHER, Labels
from gateway.metrics.registry import Metrics
from gateway.telemetry.call_series import MAX_COST_NANO, CallSeries, plausible_tokens
from providers.base import Target, Usage

MAX_KINDS = 4096
_STATUS_CLASSES = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}


class CallMetrics:
    """Records the finished calls of one configuration."""

    def __init__(self, metrics: Metrics) -> None:
        self._series, self._names, self._count = metrics.series, metrics.names, metrics.count
        self._by_kind: dict[tuple[object, ...], CallSeries] = {}

    def record(self, call: Call, ended: float) -> None:
        """Add one finished call to every counter and histogram that it concerns."""
        attempt, key, error = call.answered_by or call.final_attempt, call.key, call.error
        target = attempt.target if attempt is not None else None
        usage = attempt.usage if attempt is not None else None
        kind = (
            call.model,
            None if target is None else target.name,
            call.operation,
            call.abort_phase or call.status,
            None if error is None else error.code or "upstream",
            None if key is None else (key.name, key.team),
            call.stream,
            usage is not None and usage.estimated,
        )
        series = self._by_kind.get(kind) or self._new_series(call, target, usage, kind)
        series.add(ended - call.started)
        if call.trace is not None and call.trace.id:
            series.add_exemplar(call.trace.id, ended - call.started)
        if attempt is not None:
            series.add_attempts(call)
            if call.status == 200 and call.first_byte_at and attempt.cache != "hit":
                series.add_times(call, attempt)
            if usage is not None:
                series.add_usage(attempt, usage)
            for adjustment in attempt.adjustments:
                labels = (attempt.target.provider, self._names.param(adjustment.param), adjustment.action)
                self._count("lockgate_adjustments", labels)
        if len(call.attempts) > 1 or call.answered_by is None:
            for other, billed, cost in unanswered_usages(call):
                self._record_billed_attempt(call, other, billed, cost)
        if call.stream_end:
            self._count("lockgate_stream_end", (series.target, call.stream_end))
        if call.abort_phase:
            self._count("lockgate_client_aborts", (call.abort_phase,))

    def _record_billed_attempt(self, call: Call, attempt: Attempt, usage: Usage, cost: int | None) -> None:
        """Count tokens and cost of an attempt that did not answer the call, under the target of that attempt."""
        labels = (self._names.model(call.model), self._names.target_named(attempt.target.name))
        source = "estimated" if usage.estimated else "reported"
        owner = self._owner(call)
        for kind, tokens in (("prompt", usage.prompt_tokens), ("output", usage.completion_tokens)):
            self._count("lockgate_tokens", (*labels, kind, source), plausible_tokens(tokens))
            if owner:
                self._count("lockgate_key_tokens", (*owner, kind), plausible_tokens(tokens))
        for kind, part in (("cached", usage.cached_tokens), ("reasoning", usage.reasoning_tokens)):
            if part > 0:
                self._count("lockgate_tokens", (*labels, kind, source), plausible_tokens(part))
        if cost is None:
            self._count("lockgate_unpriced_usages", labels)
        elif 0 < cost < MAX_COST_NANO >> 20:
            self._count("lockgate_cost_usd", labels, cost)
            if owner:
                self._count("lockgate_key_cost_usd", owner, cost)

    def _owner(self, call: Call) -> Labels:
        """Return the label values of the call's key and its team, or none if the call has no key."""
        key = call.key
        return (self._names.key(key.name), self._names.team(key.team)) if key is not None else ()

    def _new_series(
        self, call: Call, target: Target | None, usage: Usage | None, kind: tuple[object, ...]
    ) -> CallSeries:
        names = self._names
        status, code = _STATUS_CLASSES.get(call.status // 100, NONE), "ok"
        if call.abort_phase:
            status, code = "499", "client_closed"
        elif call.error is not None:
            code = names.code(call.error.code or "upstream")
        model, target_name = names.model(call.model), names.target(target)
        labels = (model, target_name, names.provider(target), call.operation, status, code)
        series = CallSeries(self._series, names, call, usage, labels, self._owner(call))
        # kinds whose labels became `other` are not kept: names invented by callers would fill the table
        if model == call.model and (target is None or target_name == target.name) and code != OTHER:
            if len(self._by_kind) >= MAX_KINDS:
                self._by_kind.clear()
            self._by_kind[kind] = series
        return series
