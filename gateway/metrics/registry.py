"""What one call adds to the counters.

Looking labels up in prometheus-client costs 2 to 4 us for each update (measured). Here the calls of one sort share a plan: where in the
cells each of their numbers goes. A call looks its plan up once and adds plain integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from gateway.call import Aside, Call
from gateway.metrics.cells import Cells
from gateway.metrics.names import Names
from gateway.metrics.series import Read, Series, bounded
from gateway.metrics.snapshot import Snapshot, merge
from gateway.metrics.table import COUNTERS, MAX_SERIES, MICRO, NONE, OTHER, Labels
from gateway.telemetry.call_series import MOST_COST, Plan, believed

MOST_PLANS = 4096
_CLASSES = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}


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
        self._plans: dict[tuple[object, ...], Plan] = {}
        self.know(models, targets, types)
        self.count = series.count
        """Add to a counter: `count("lockgate_retries", (label,))`; the third argument is by how much."""
        self._in_flight = series.at("lockgate_requests_in_flight", ())
        self._streams = series.at("lockgate_streams_in_flight", ())
        self.model_label = self._names.model
        self.target_label = self._names.target
        self.target_named = self._names.target_named
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

    def begin(self) -> None:
        """A call is being answered."""
        self._values[self._in_flight] += MICRO

    def begin_stream(self) -> None:
        """It is a stream."""
        self._values[self._streams] += MICRO

    def end(self, *, stream: bool) -> None:
        """It is over."""
        self._values[self._in_flight] -= MICRO
        if stream:
            self._values[self._streams] -= MICRO

    def record(self, call: Call, ended: float) -> None:
        """Everything that one finished call adds."""
        target, key, usage, error = call.target, call.key, call.usage, call.error
        sort = (
            call.model,
            None if target is None else target.name,
            call.operation,
            call.abort_phase or call.status,
            None if error is None else error.code or "upstream",
            None if key is None else key.name,
            call.stream,
            usage is not None and usage.estimated,
        )
        plan = self._plans.get(sort) or self._new_plan(call, sort)
        plan.add(ended - call.started)
        if call.trace is not None and call.trace.id:
            plan.add_exemplar(call.trace.id, ended - call.started)
        if call.attempts:
            plan.add_attempts(call)
            if call.status == 200 and call.first_byte_at:
                plan.add_times(call)
            if usage is not None:
                plan.add_usage(call, usage)
        if call.adjustments and target is not None:
            for adjustment in call.adjustments:
                self.count("lockgate_adjustments", (target.provider, self.param_label(adjustment.param), adjustment.action))
        for aside in call.asides:
            self._record_aside(call, aside)
        if call.stream_end:
            self.count("lockgate_stream_end", (plan.target, call.stream_end))
        if call.abort_phase:
            self.count("lockgate_client_aborts", (call.abort_phase,))

    def _record_aside(self, call: Call, aside: Aside) -> None:
        """What an attempt used that did not answer the call: tokens and money at its own target."""
        both, usage = (self._names.model(call.model), self._names.target_named(aside.target)), aside.usage
        source = "estimated" if usage.estimated else "reported"
        key = self._names.key(call.key.name) if call.key is not None else ""
        for kind, tokens in (("prompt", usage.prompt_tokens), ("output", usage.completion_tokens)):
            self.count("lockgate_tokens", (*both, kind, source), believed(tokens))
            if key:
                self.count("lockgate_key_tokens", (key, kind), believed(tokens))
        if 0 < aside.cost < MOST_COST >> 20:
            self.count("lockgate_cost_usd", both, aside.cost)
            if key:
                self.count("lockgate_key_cost_usd", (key,), aside.cost)

    def _new_plan(self, call: Call, sort: tuple[object, ...]) -> Plan:
        names, target, key = self._names, call.target, call.key
        status, code = _CLASSES.get(call.status // 100, NONE), "ok"
        if call.abort_phase:
            status, code = "499", "client_closed"
        elif call.error is not None:
            code = names.code(call.error.code or "upstream")
        model, target_name = names.model(call.model), names.target(target)
        labels = (model, target_name, names.provider(target), call.operation, status, code)
        plan = Plan(self._series, names, call, labels, names.key(key.name) if key is not None else "")
        if model == call.model and (target is None or target_name == target.name) and code != OTHER:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            self._plans[sort] = plan  # names that are made up would crowd out the others
        return plan

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
