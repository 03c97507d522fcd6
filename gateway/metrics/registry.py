"""The counters, gauges and histograms of one process, and the names that may become label values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from gateway.metrics.cells import Cells
from gateway.metrics.declarations import COUNTERS, MAX_SERIES, MICRO, Labels
from gateway.metrics.names import Names
from gateway.metrics.series import Read, Series, bounded
from gateway.metrics.snapshot import Snapshot, merge
from providers.base import Target


class Metrics:
    """The metrics of one process. gateway.metrics.declarations has the names of the counters and gauges."""

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
        """`models`, `targets`, `params`: names that may become label values. `types`: provider types by provider name."""
        self.max_series = max_series
        self.series = series = Series(cells, max_series)
        series.read("lockgate_series", lambda: {(): float(series.lines)})
        self._values = series.values
        self.names = Names(params)
        self._other_snapshots: Callable[[], Iterable[Snapshot]] = tuple
        self.add_names(models, targets, types)
        self.count = series.count
        """Add to a counter: `count("lockgate_retries", (label,))`; the third argument is the amount."""
        self._target_cells: dict[tuple[str, ...], int] = {}
        """The cells of `count_target` by counter, target and other labels."""
        self._in_flight = series.cell("lockgate_requests_in_flight", ())
        self._streams = series.cell("lockgate_streams_in_flight", ())
        self.model_label = self.names.model
        self.target_label = self.names.target
        self.target_named = self.names.target_named

    def add_discovered(self, targets: Mapping[str, str]) -> None:
        """Let models that providers list, and the target of each, become label values, up to a maximum number."""
        self.names.add_discovered(targets)

    def add_names(self, models: Iterable[str], targets: Iterable[str], types: Mapping[str, str] | None = None) -> None:
        """Allow more names as label values. Earlier names stay allowed, because their series stay."""
        self.names.add(models, targets, types or {})

    @property
    def in_flight(self) -> int:
        """Calls in flight."""
        return self._values[self._in_flight] // MICRO

    @in_flight.setter
    def in_flight(self, value: int) -> None:
        self._values[self._in_flight] = value * MICRO

    def count_target(self, name: str, target: Target, *labels: str) -> None:
        """Add 1 to a counter whose labels are a target and `labels`."""
        kind = (name, target.name, *labels)
        cell = self._target_cells.get(kind)
        if cell is None:
            label = self.names.target(target)
            cell = self.series.cell(name, (label, *labels))
            if label == target.name:
                self._target_cells[kind] = cell
        self._values[cell] += 1

    def begin(self) -> None:
        """Count a call as in flight."""
        self._values[self._in_flight] += MICRO

    def begin_stream(self) -> None:
        """Count a call in flight also as a stream in flight."""
        self._values[self._streams] += MICRO

    def end(self, *, stream: bool) -> None:
        """Count a call as finished; `stream` is true if `begin_stream` was called for it."""
        self._values[self._in_flight] -= MICRO
        if stream:
            self._values[self._streams] -= MICRO

    def gauge(self, name: str, read: Read) -> None:
        """Register a gauge, or a counter whose values are kept elsewhere. `read` returns the values at each scrape."""
        self.series.read(name, read)

    @property
    def counts(self) -> dict[str, dict[Labels, int]]:
        """All counter values that are not 0, by counter and label values."""
        return {name: self.series.counter(name) for name in COUNTERS}

    def refresh(self) -> None:
        """Read the registered gauges and counters into the cells."""
        self.series.refresh()

    def snapshot(self) -> Snapshot:
        """Return the series of this process alone."""
        return self.series.snapshot()

    def collect_from(self, source: Callable[[], Iterable[Snapshot]]) -> None:
        """Include the series of other processes: `source` returns their snapshots at each scrape."""
        self._other_snapshots = source

    def merged_snapshot(self) -> Snapshot:
        """Return the series of this process, merged with the snapshots from the source that `collect_from` set."""
        others = list(self._other_snapshots())
        return bounded(merge([self.snapshot(), *others]), self.max_series) if others else self.snapshot()

    def merged_rows(self, names: Collection[str]) -> Snapshot:
        """Return the series of a few families, merged with those of other processes. This is cheaper than merging whole snapshots."""
        others = [{name: rows for name, rows in other.items() if name in names} for other in self._other_snapshots()]
        return merge([self.series.rows(names), *others])

    def expose(self) -> bytes:
        """Return the merged series in the Prometheus text format."""
        from gateway.metrics import text

        return text.classic(self.merged_snapshot())
