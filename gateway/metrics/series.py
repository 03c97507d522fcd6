"""The series of one process, and the bound on how many there are.

A label set gets its cells when it is first counted. Once a family has as many as it may, or all of them together show as many lines as
`max_series`, a new label set is counted as `other`: whatever callers do, a scrape stays small.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping

from gateway.metrics import exemplars
from gateway.metrics.cells import Cells
from gateway.metrics.snapshot import ABSENT, Snapshot
from gateway.metrics.table import COUNTERS, GAUGES, HISTOGRAMS, MAX_ROWS, MAX_SERIES, MAX_VIEW_ROWS, MICRO, OTHER, SOURCES, Labels

Read = Callable[[], Mapping[Labels, float]]
_LABELS: dict[str, int] = {
    **{name: len(labels) for name, (_, labels) in COUNTERS.items()},
    **{name: len(labels) for name, (_, labels, _) in GAUGES.items()},
    **{name: len(source.labels) for name, source in SOURCES.items()},
}
_LABELS[exemplars.FAMILY] = _LABELS[exemplars.OF]
_WIDTHS = {**{name: len(source.buckets) + 2 for name, source in SOURCES.items()}, exemplars.FAMILY: exemplars.WIDTH}
"""Cells of a histogram's row: a count for each bucket, one above them all, and the sum."""
_VIEWS = {
    name: [
        ([source.labels.index(of) for _, of in view.labels], len(source.buckets) + 3) for view in HISTOGRAMS.values() if view.source == name
    ]
    for name, source in SOURCES.items()
}
"""What a source is shown as: which of its labels each view has, and how many lines one row of it takes."""


class Series:
    """Counters, gauges and histograms of one process."""

    def __init__(self, cells: Cells | None = None, max_series: int = MAX_SERIES) -> None:
        self._cells = cells or Cells()
        self.values = self._cells.values
        self._rows: dict[str, dict[Labels, int]] = {name: {} for name in _LABELS}
        self._others: dict[str, int] = {}
        self._shown: dict[str, list[set[Labels]]] = {name: [set() for _ in views] for name, views in _VIEWS.items()}
        self._reads: dict[str, Read] = {}
        share = max_series / MAX_SERIES
        self._most = max(1, int(MAX_ROWS * share))
        self._most_in_views = max(1, int(MAX_VIEW_ROWS * share))
        self.lines = sum(1 for name in _LABELS if name not in SOURCES) + sum(lines for views in _VIEWS.values() for _, lines in views)
        """Lines of a scrape, with room for an `other` in every family."""
        self._max_series = max_series
        for name, (_, labels) in COUNTERS.items():
            if not labels:
                self.at(name, ())

    def count(self, name: str, labels: Labels = (), by: int = 1) -> None:
        """Add to a counter of the table."""
        at = self._rows[name].get(labels)
        self.values[self.at(name, labels) if at is None else at] += by

    def read(self, name: str, read: Read) -> None:
        """A gauge, or a counter kept elsewhere, whose values `read` gives by label values when they are wanted."""
        self._reads[name] = read

    def at(self, name: str, labels: Labels) -> int:
        """Where a series' cells begin: its own, or those of `other` when there are too many."""
        rows = self._rows[name]
        at = rows.get(labels)
        if at is not None:
            return at
        views = _VIEWS.get(name)
        shown = [tuple(labels[index] for index in indices) for indices, _ in views] if views else []
        lines = self._new_lines(name, shown)
        most = self._most_in_views if views else self._most
        if len(labels) and (len(rows) >= most or self.lines + lines > self._max_series):
            return self._other(name)
        at = self._cells.take(name, labels, _WIDTHS.get(name, 1))
        if at < 0:
            return self._other(name)
        self.lines += lines if labels else 0
        for known, values in zip(self._shown.get(name, ()), shown, strict=True):
            known.add(values)
        rows[labels] = at
        return at

    def _new_lines(self, name: str, shown: list[Labels]) -> int:
        """How much longer a scrape gets by a new row."""
        if name not in _VIEWS:
            return 1
        each = zip(_VIEWS[name], self._shown[name], shown, strict=True)
        return sum(lines for (_, lines), known, values in each if values not in known)

    def _other(self, name: str) -> int:
        at = self._others.get(name)
        if at is None:
            labels = (OTHER,) * _LABELS[name]
            at = self._rows[name].get(labels)
            if at is None:
                at = self._rows[name][labels] = self._cells.take(name, labels, _WIDTHS.get(name, 1))
            self._others[name] = at
        return at

    def refresh(self) -> None:
        """Read what is kept elsewhere into the cells."""
        for name, read in self._reads.items():
            scale = MICRO if name in GAUGES else 1
            found: dict[int, int] = {}
            for labels, value in read().items():
                at = self.at(name, labels)
                found[at] = found.get(at, 0) + round(value * scale)
            for at in self._rows[name].values():
                self.values[at] = found.get(at, ABSENT if name in GAUGES else self.values[at])

    def snapshot(self) -> Snapshot:
        """Everything, as another process or a scraper takes it."""
        self.refresh()
        values = self.values
        return {
            name: {labels: values[at : at + _WIDTHS.get(name, 1)].tolist() for labels, at in rows.items()}
            for name, rows in self._rows.items()
            if rows
        }

    def add(self, snapshot: Snapshot) -> None:
        """Add what another process has; of gauges what several have become already."""
        values = self.values
        for name, rows in snapshot.items():
            if name in self._rows:
                for labels, cells in rows.items():
                    if name not in GAUGES or cells[0] != ABSENT:
                        at = self.at(name, labels)
                        if name == exemplars.FAMILY:
                            known = values[at : at + exemplars.WIDTH].tolist()
                            values[at : at + exemplars.WIDTH] = memoryview(array("q", exemplars.newest(known, cells)))
                            continue
                        for place, value in enumerate(cells, at):
                            values[place] += value

    def counter(self, name: str) -> dict[Labels, int]:
        """A counter's values other than 0."""
        return {labels: self.values[at] for labels, at in self._rows[name].items() if self.values[at]}


def bounded(snapshot: Snapshot, max_series: int) -> Snapshot:
    """The same with no more series than one process may have: each of several had names of its own."""
    whole = Series(max_series=max_series)
    whole.add(snapshot)
    return whole.snapshot()
