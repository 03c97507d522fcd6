"""What one call adds to the counters.

Looking labels up in prometheus-client costs 2 to 4 us for each update (measured). Here the calls of one sort (model, target, answer, key)
share a plan: where in the cells each of their numbers goes. A call looks its plan up once and adds plain integers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping

from gateway.call import Call
from gateway.metrics.cells import Cells
from gateway.metrics.names import Names
from gateway.metrics.series import Read, Series, bounded
from gateway.metrics.snapshot import Snapshot, merge
from gateway.metrics.table import COUNTERS, MAX_CODES, MAX_SERIES, MICRO, OTHER, SOURCES, Labels
from providers.base import Usage

MOST_PLANS = 4096
MOST_TOKENS = 10**9
"""Of one answer; an upstream that says more is not believed."""
MOST_COST = 1 << 62
NANO = 10**9
_CLASSES = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
_OPERATIONS = {"completions": "text_completion"}
"""Operations whose name in the GenAI conventions is another."""
_DURATION, _FIRST_TOKEN, _PER_TOKEN, _OVERHEAD, _ATTEMPT, _USAGE = (SOURCES[name].buckets for name in SOURCES)
_KINDS = ("prompt", "output", "cached", "reasoning")


class _Plan:
    """The calls of one sort: their labels, and the cells that were needed so far. -1: not yet."""

    __slots__ = (
        "attempts", "both", "call_labels", "cost", "duration", "estimated", "first_token", "input", "key", "key_cost", "key_output",
        "key_prompt", "key_requests", "output", "overhead", "per_token", "reported", "requests",
    )  # fmt: skip

    def __init__(self, both: Labels, call_labels: Labels, key: str, requests: int, duration: int) -> None:
        self.both = both
        self.call_labels = call_labels
        self.key = key
        self.requests = requests
        self.duration = duration
        self.first_token = self.per_token = self.overhead = self.cost = self.input = self.output = -1
        self.key_requests = self.key_prompt = self.key_output = self.key_cost = -1
        self.reported = [-1] * len(_KINDS)
        self.estimated = [-1] * len(_KINDS)
        self.attempts: dict[tuple[str, str], int] = {}


class Metrics:
    """One process's counters."""

    def __init__(
        self,
        models: Iterable[str] = (),
        targets: Iterable[str] = (),
        types: Mapping[str, str] | None = None,
        *,
        params: Iterable[str] = (),
        cells: Cells | None = None,
        max_series: int = MAX_SERIES,
    ) -> None:
        """`models`, `targets` and `params` are the names that may become label values; `types` are the providers' types by name."""
        self.max_series = max_series
        self._series = series = Series(cells, max_series)
        series.read("lockgate_series", lambda: {(): float(series.lines)})
        self._values = series.values
        self._names = Names(params)
        self._others: Callable[[], Iterable[Snapshot]] = tuple
        self._plans: dict[tuple[object, ...], _Plan] = {}
        self.know(models, targets, types)
        self.count = series.count
        """Add to a counter: `count("lockgate_retries", (label,))`; the third argument is by how much."""
        self._in_flight = series.at("lockgate_requests_in_flight", ())
        self._streams = series.at("lockgate_streams_in_flight", ())
        self.model_label = self._names.model
        self.target_label = self._names.target
        self.param_label = self._names.param

    def know(self, models: Iterable[str], targets: Iterable[str], types: Mapping[str, str] | None = None) -> None:
        """More names that may become label values: a new generation's. Those of older ones stay, as their series do."""
        self._names.know(models, targets, types or {})
        self._plans.clear()

    @property
    def in_flight(self) -> int:
        """Calls that are being answered."""
        return self._values[self._in_flight] // MICRO

    @in_flight.setter
    def in_flight(self, value: int) -> None:
        self._values[self._in_flight] = value * MICRO

    @property
    def streams(self) -> int:
        """Streams that are being answered."""
        return self._values[self._streams] // MICRO

    @streams.setter
    def streams(self, value: int) -> None:
        self._values[self._streams] = value * MICRO

    def record(self, call: Call, ended: float) -> None:
        """Everything that one finished call adds."""
        plan = self._plan(call)
        values = self._values
        values[plan.requests] += 1
        self._observe(plan.duration, _DURATION, ended - call.started)
        if plan.key_requests >= 0:
            values[plan.key_requests] += 1
        if call.status == 200 and call.first_byte_at:
            self._record_times(plan, call)
        if call.usage is not None:
            self._record_usage(plan, call, call.usage)
        if call.attempts:
            self._record_attempts(plan, call)
        if call.adjustments and call.target is not None:
            for adjustment in call.adjustments:
                self.count("lockgate_adjustments", (call.target.provider, self.param_label(adjustment.param), adjustment.action))
        if call.stream_end:
            self.count("lockgate_stream_end", (plan.both[1], call.stream_end))
        if call.abort_phase:
            self.count("lockgate_client_aborts", (call.abort_phase,))

    def _plan(self, call: Call) -> _Plan:
        names, target, key = self._names, call.target, call.key
        if call.abort_phase:
            status, code = "499", "client_closed"
        else:
            status = _CLASSES.get(call.status // 100, "none")
            code = "ok" if call.error is None else names.code(call.error.code or "upstream")
        model, key_name = names.model(call.model), names.key(key.name) if key is not None else ""
        sort = (model, target.name if target is not None else "", call.operation, status, code, key_name)
        plan = self._plans.get(sort)
        return plan if plan is not None else self._new_plan(sort, names.target(target), names.provider(target))

    def _new_plan(self, sort: tuple[str, ...], target: str, provider: str) -> _Plan:
        model, target_name, operation, status, code, key = sort
        at = self._series.at
        error = "" if code == "ok" else status  # a histogram has many lines: its errors are few
        labels = (model, target, provider, self._names.system(provider), _OPERATIONS.get(operation, operation), error)
        requests = at("lockgate_requests", (model, target, provider, operation, status, code))
        plan = _Plan((model, target), labels, key, requests, at("duration", labels))
        if key:
            plan.key_requests = at("lockgate_key_requests", (key,))
        if len(self._plans) >= MOST_PLANS:
            self._plans.clear()
        if target_name == target or not target_name:  # names that callers make up would crowd out the others
            self._plans[sort] = plan
        return plan

    def _observe(self, at: int, buckets: tuple[float, ...], seconds: float) -> None:
        values = self._values
        values[at + bisect_left(buckets, seconds)] += 1
        values[at + len(buckets) + 1] += int(seconds * NANO)

    def _record_times(self, plan: _Plan, call: Call) -> None:
        """How long the parts of an answer took; the overhead only where one attempt was made, as waits between them are wanted."""
        at = self._series.at
        if call.stream:
            if plan.first_token < 0:
                plan.first_token, plan.per_token = at("first_token", plan.call_labels), at("per_token", plan.call_labels)
            self._observe(plan.first_token, _FIRST_TOKEN, call.first_byte_at - call.started)
            tokens = call.usage.completion_tokens if call.usage is not None else 0
            if tokens > 1 and call.upstream_end > call.first_byte_at:
                self._observe(plan.per_token, _PER_TOKEN, (call.upstream_end - call.first_byte_at) / (tokens - 1))
        if len(call.attempts) == 1 and call.upstream_end:
            if plan.overhead < 0:
                plan.overhead = at("overhead", plan.call_labels)
            after = 0.0 if call.stream else call.first_byte_at - call.upstream_end
            self._observe(plan.overhead, _OVERHEAD, max(0.0, call.sent_at - call.read_at + after))

    def _record_usage(self, plan: _Plan, call: Call, usage: Usage) -> None:
        at, values = self._series.at, self._values
        numbers = [
            tokens if 0 <= tokens <= MOST_TOKENS else 0
            for tokens in (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens)
        ]
        cells = plan.estimated if usage.estimated else plan.reported
        for kind, tokens in enumerate(numbers):
            if tokens > 0:
                if cells[kind] < 0:
                    cells[kind] = at("lockgate_tokens", (*plan.both, _KINDS[kind], "estimated" if usage.estimated else "reported"))
                values[cells[kind]] += tokens
        if call.target is not None:
            if plan.input < 0:
                labels = (self._names.upstream_model(call.target), *plan.call_labels[3:5])
                plan.input, plan.output = at("usage", (*labels, "input")), at("usage", (*labels, "output"))
            self._add(plan.input, _USAGE, numbers[0])
            self._add(plan.output, _USAGE, numbers[1])
        if plan.key:
            self._record_key(plan, numbers[0], numbers[1])
        if call.cost > 0:
            if plan.cost < 0:
                plan.cost = at("lockgate_cost_usd", plan.both)
                plan.key_cost = at("lockgate_key_cost_usd", (plan.key,)) if plan.key else -1
            for cell in (plan.cost, plan.key_cost):
                if cell >= 0:
                    values[cell] = min(values[cell] + call.cost, MOST_COST)

    def _record_key(self, plan: _Plan, prompt: int, output: int) -> None:
        at, values, key = self._series.at, self._values, plan.key
        if plan.key_prompt < 0:
            plan.key_prompt, plan.key_output = at("lockgate_key_tokens", (key, "prompt")), at("lockgate_key_tokens", (key, "output"))
        values[plan.key_prompt] += prompt
        values[plan.key_output] += output

    def _add(self, at: int, buckets: tuple[float, ...], number: int) -> None:
        values = self._values
        values[at + bisect_left(buckets, number)] += 1
        values[at + len(buckets) + 1] += number

    def _record_attempts(self, plan: _Plan, call: Call) -> None:
        """How long each attempt took, by the model's name upstream."""
        for attempt in call.attempts:
            sort = (attempt.target, attempt.outcome)
            at = plan.attempts.get(sort)
            if at is None:
                at = self._attempt(sort, plan.call_labels[4])
                if len(plan.attempts) < MAX_CODES:
                    plan.attempts[sort] = at
            self._observe(at, _ATTEMPT, attempt.ms / 1000)

    def _attempt(self, sort: tuple[str, str], operation: str) -> int:
        target, outcome = sort
        names = self._names
        provider, _, model = names.target_named(target).partition("/")
        error = "" if outcome == "ok" else f"{outcome[0]}xx" if outcome.isdecimal() else outcome
        return self._series.at("attempt", (model or OTHER, names.system(provider), operation, error))

    def gauge(self, name: str, read: Read) -> None:
        """A gauge of the table, or a counter kept elsewhere: `read` gives its values, by label values, when they are wanted."""
        self._series.read(name, read)

    @property
    def counts(self) -> dict[str, dict[Labels, int]]:
        """Every counter's values other than 0."""
        return {name: self._series.counter(name) for name in COUNTERS}

    def refresh(self) -> None:
        """Bring what is kept elsewhere up to date."""
        self._series.refresh()

    def snapshot(self) -> Snapshot:
        """This process's series at this moment."""
        return self._series.snapshot()

    def collect_from(self, source: Callable[[], Iterable[Snapshot]]) -> None:
        """Show the series of other processes too: `source` gives theirs at each scrape."""
        self._others = source

    def whole(self) -> Snapshot:
        """The series of this process and of those that it answers for."""
        others = list(self._others())
        return bounded(merge([self.snapshot(), *others]), self.max_series) if others else self.snapshot()

    def expose(self) -> bytes:
        """The text that Prometheus scrapes."""
        from gateway.metrics import text

        return text.classic(self.whole())
