"""The series of one process, and the limit on their number.

A label set gets its cells when it is first counted. Once a family has MAX_ROWS label sets (or the number for it in
MAX_ROWS_OF, or MAX_VIEW_ROWS for a histogram), or all families together fill `max_series` lines, new label sets are
counted as `other`. This keeps a scrape small, regardless of the names that callers send.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping

from gateway.metrics import exemplars
from gateway.metrics.cells import Cells
from gateway.metrics.declarations import (
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    MAX_ROWS,
    MAX_ROWS_OF,
    MAX_SERIES,
    MAX_VIEW_ROWS,
    MICRO,
    OTHER,
    SOURCES,
    Labels,
)
from gateway.metrics.snapshot import ABSENT, Snapshot

Read = Callable[[], Mapping[Labels, float]]
_LABEL_COUNTS: dict[str, int] = {
    **{name: len(labels) for name, (_, labels) in COUNTERS.items()},
    **{name: len(labels) for name, (_, labels, _) in GAUGES.items()},
    **{name: len(source.labels) for name, source in SOURCES.items()},
}
_LABEL_COUNTS[exemplars.FAMILY] = _LABEL_COUNTS[exemplars.SOURCE]
_WIDTHS = {**{name: len(source.buckets) + 2 for name, source in SOURCES.items()}, exemplars.FAMILY: exemplars.WIDTH}
"""Number of cells of a row of exemplars or of a histogram: one count per bucket, one for values above all buckets, and the sum."""
_VIEWS = {
    name: [
        ([source.labels.index(label) for _, label in view.labels], len(source.buckets) + 3)
        for view in HISTOGRAMS.values()
        if view.source == name
    ]
    for name, source in SOURCES.items()
}
"""The views of each source: the indices of the labels that a view shows, and the number of lines of one of its rows."""


class Series:
    """Counters, gauges and histograms of one process."""

    def __init__(self, cells: Cells | None = None, max_series: int = MAX_SERIES) -> None:
        self._cells = cells or Cells()
        self.values = self._cells.values
        self._rows: dict[str, dict[Labels, int]] = {name: {} for name in _LABEL_COUNTS}
        self._other_cells: dict[str, int] = {}
        self._shown: dict[str, list[set[Labels]]] = {name: [set() for _ in views] for name, views in _VIEWS.items()}
        self._reads: dict[str, Read] = {}
        share = max_series / MAX_SERIES
        self._max_rows = max(1, int(MAX_ROWS * share))
        self._max_rows_of = {name: max(1, int(rows * share)) for name, rows in MAX_ROWS_OF.items()}
        self._max_view_rows = max(1, int(MAX_VIEW_ROWS * share))
        view_lines = sum(lines for views in _VIEWS.values() for _, lines in views)
        self.lines = sum(1 for name in _LABEL_COUNTS if name not in SOURCES) + view_lines
        """Lines of a scrape, including one `other` row of every family."""
        self._max_series = max_series
        for name, (_, labels) in COUNTERS.items():
            if not labels:
                self.cell(name, ())

    def count(self, name: str, labels: Labels = (), by: int = 1) -> None:
        """Add `by` to a counter."""
        cell = self._rows[name].get(labels)
        self.values[self.cell(name, labels) if cell is None else cell] += by

    def read(self, name: str, read: Read) -> None:
        """Register a gauge, or a counter whose values are kept elsewhere. `read` returns the values by label values."""
        self._reads[name] = read

    def cell(self, name: str, labels: Labels) -> int:
        """Return the index of the first cell of a series. Create the series if it does not exist.

        If there is no room for a new series, return the index for the label values `other`.
        """
        rows = self._rows[name]
        cell = rows.get(labels)
        if cell is not None:
            return cell
        views = _VIEWS.get(name)
        shown = [tuple(labels[index] for index in indices) for indices, _ in views] if views else []
        lines = self._added_lines(name, shown)
        max_rows = self._max_view_rows if views else self._max_rows_of.get(name, self._max_rows)
        if len(labels) and (len(rows) >= max_rows or self.lines + lines > self._max_series):
            return self._other_cell(name)
        cell = self._cells.take(name, labels, _WIDTHS.get(name, 1))
        if cell < 0:
            return self._other_cell(name)
        self.lines += lines if labels else 0
        for known, values in zip(self._shown.get(name, ()), shown, strict=True):
            known.add(values)
        rows[labels] = cell
        return cell

    def _added_lines(self, name: str, shown: list[Labels]) -> int:
        """Return the number of lines that a new row adds to a scrape."""
        if name not in _VIEWS:
            return 1
        views = zip(_VIEWS[name], self._shown[name], shown, strict=True)
        return sum(lines for (_, lines), known, values in views if values not in known)

    def _other_cell(self, name: str) -> int:
        cell = self._other_cells.get(name)
        if cell is None:
            labels = (OTHER,) * _LABEL_COUNTS[name]
            cell = self._rows[name].get(labels)
            if cell is None:
                cell = self._rows[name][labels] = self._cells.take(name, labels, _WIDTHS.get(name, 1))
            self._other_cells[name] = cell
        return cell

    def refresh(self) -> None:
        """Read the registered gauges and counters into the cells."""
        for name, read in self._reads.items():
            scale = MICRO if name in GAUGES else 1
            sums: dict[int, int] = {}
            for labels, value in read().items():
                cell = self.cell(name, labels)
                sums[cell] = sums.get(cell, 0) + round(value * scale)
            for cell in self._rows[name].values():
                self.values[cell] = sums.get(cell, ABSENT if name in GAUGES else self.values[cell])

    def snapshot(self) -> Snapshot:
        """Return a copy of all series, for a scrape or for another process."""
        self.refresh()
        return self.rows(self._rows)

    def rows(self, names: Iterable[str]) -> Snapshot:
        """Return a copy of the series of these families. Gauges have the values of the last `refresh`."""
        values = self.values
        return {
            name: {labels: values[cell : cell + _WIDTHS.get(name, 1)].tolist() for labels, cell in rows.items()}
            for name in names
            if (rows := self._rows[name])
        }

    def add(self, snapshot: Snapshot) -> None:
        """Add a snapshot of several processes, in which gauges are already merged."""
        values = self.values
        for name, rows in snapshot.items():
            if name in self._rows:
                for labels, cells in rows.items():
                    if name not in GAUGES or cells[0] != ABSENT:
                        first = self.cell(name, labels)
                        if name == exemplars.FAMILY:
                            known = values[first : first + exemplars.WIDTH].tolist()
                            values[first : first + exemplars.WIDTH] = memoryview(
                                array("q", exemplars.newest(known, cells))
                            )
                            continue
                        for cell, value in enumerate(cells, first):
                            values[cell] += value

    def counter(self, name: str) -> dict[Labels, int]:
        """Return the values of a counter that are not 0, by label values."""
        return {labels: self.values[cell] for labels, cell in self._rows[name].items() if self.values[cell]}


def bounded(snapshot: Snapshot, max_series: int) -> Snapshot:
    """Reduce a merged snapshot to at most `max_series` lines.

    A merged snapshot can exceed the limit, because each process may have reached it with different names.
    """
    series = Series(max_series=max_series)
    series.add(snapshot)
    return series.snapshot()
