"""Settled spend of each budget as grow-only counters (a G-counter), one for each incarnation that settled an amount.

An incarnation is one run of a process. A process writes only its own counter and may publish it any number of times:
readers keep the larger amount. A store that was emptied or restored from an old backup is therefore complete again once
each process has published its counters, and nothing is counted twice. Keys are those of limits, periods are numbered as
in gateway.store.periods, and amounts are in nano-dollars.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gateway.store.limit import Costs, Reservation
from gateway.store.periods import KEPT_PERIODS, period_at

Period = tuple[str, int]
"""The key of a budget, and the number of a period."""


class SpendEntry(msgspec.Struct, frozen=True):
    """The amount that one incarnation of a process settled in one period of a budget."""

    incarnation: str
    key: str
    period: int
    amount: int


class SettledSpend:
    """The counters of this incarnation, and those inherited from earlier ones."""

    def __init__(self, incarnation: str = "") -> None:
        self.incarnation = incarnation
        self._own: dict[Period, int] = {}
        self._inherited: dict[Period, dict[str, int]] = {}
        self.latest: dict[str, int] = {}
        """The latest period in which this incarnation settled an amount, by key."""
        self.unpublished: set[Period] = set()
        """Periods changed since the last publication to the store."""
        self.unjournaled: set[Period] = set()
        """Periods changed since the last write to the journal."""

    def add(self, key: str, period: int, amount: int) -> None:
        """Add an amount that this incarnation settled."""
        if amount > 0:
            counter = (key, period)
            self._own[counter] = self._own.get(counter, 0) + amount
            self.latest[key] = max(period, self.latest.get(key, 0))
            self.unpublished.add(counter)
            self.unjournaled.add(counter)

    def add_usage(self, reservation: Reservation, actual: Costs) -> None:
        """Add what a call has spent. The store receives only the total, so each amount must be added exactly once."""
        for index, limit in enumerate(reservation.limits):
            if limit.kind == "spend":
                self.add(limit.key, reservation.slots[index], actual.spend)

    def own_amount(self, key: str, period: int) -> int:
        """Return the amount that this incarnation settled."""
        return self._own.get((key, period), 0)

    def total(self, key: str, period: int) -> int:
        """Return the amount that all known incarnations settled."""
        return self.own_amount(key, period) + sum(self._inherited.get((key, period), {}).values())

    def merge(self, entry: SpendEntry) -> None:
        """Inherit the counter of an incarnation that has ended. An older copy of the counter changes nothing."""
        inherited = self._inherited.setdefault((entry.key, entry.period), {})
        inherited[entry.incarnation] = max(inherited.get(entry.incarnation, 0), entry.amount)

    def entries_of(self, period: Period) -> list[SpendEntry]:
        """Return the counters of one budget and period, one per incarnation."""
        entries = [SpendEntry(incarnation, *period, amount) for incarnation, amount in self._inherited.get(period, {}).items()]
        if period in self._own:
            entries.append(SpendEntry(self.incarnation, *period, self._own[period]))
        return entries

    def own_entry(self, period: Period) -> SpendEntry:
        """Return the counter of this incarnation."""
        return SpendEntry(self.incarnation, *period, self._own.get(period, 0))

    def all_entries(self) -> Iterator[SpendEntry]:
        """Yield all counters."""
        for period in {**self._inherited, **self._own}:
            yield from self.entries_of(period)

    def current_entries(self, now: int) -> list[SpendEntry]:
        """Return the counters of the current period and of the KEPT_PERIODS before it."""
        return [entry for entry in self.all_entries() if entry.period >= period_at(entry.key, now) - KEPT_PERIODS]

    def drop_past(self, now: int) -> None:
        """Drop the counters of periods earlier than those that `current_entries` returns."""
        for kept in (self._own, self._inherited):
            for period in [period for period in kept if period[1] < period_at(period[0], now) - KEPT_PERIODS]:
                del kept[period]
