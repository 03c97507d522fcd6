"""What was settled of each budget: counters that only grow, one for each process that ever settled something (a G-counter).

A process writes its own counter alone, and says it as often as it likes: whoever reads keeps the larger number. So a store that was
emptied, or restored from an old copy, is whole again after each process told it once, and nothing is counted twice. Keys are those of
limits, periods the number of a UTC day or month, amounts nano-dollars.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gateway.store.limit import US_PER_S, month_number

Period = tuple[str, int]
"""A budget's key and the number of a day or month."""
_DAY = 86_400 * US_PER_S


class SpendEntry(msgspec.Struct, frozen=True):
    """What one incarnation of a process settled of a budget in a period."""

    incarnation: str
    key: str
    period: int
    amount: int


class SettledSpend:
    """The counters of this incarnation, and those that earlier ones left behind."""

    def __init__(self, incarnation: str = "") -> None:
        self.incarnation = incarnation
        self._own: dict[Period, int] = {}
        self._inherited: dict[Period, dict[str, int]] = {}
        self.latest: dict[str, int] = {}
        """The last period in which this incarnation settled something, by key."""
        self.unpublished: set[Period] = set()
        """Changed since a store was told."""
        self.unjournaled: set[Period] = set()
        """Changed since the journal had it."""

    def add(self, key: str, period: int, amount: int) -> None:
        """This incarnation settled so much more."""
        if amount > 0:
            at = (key, period)
            self._own[at] = self._own.get(at, 0) + amount
            self.latest[key] = max(period, self.latest.get(key, 0))
            self.unpublished.add(at)
            self.unjournaled.add(at)

    def own_amount(self, key: str, period: int) -> int:
        """What this incarnation settled."""
        return self._own.get((key, period), 0)

    def total(self, key: str, period: int) -> int:
        """What all incarnations known here settled."""
        return self.own_amount(key, period) + sum(self._inherited.get((key, period), {}).values())

    def merge(self, share: SpendEntry) -> None:
        """Take over the counter of an incarnation that is no more; an older copy of it changes nothing."""
        left = self._inherited.setdefault((share.key, share.period), {})
        left[share.incarnation] = max(left.get(share.incarnation, 0), share.amount)

    def entries_of(self, at: Period) -> list[SpendEntry]:
        """What is known of one budget's period, by incarnation."""
        found = [SpendEntry(one, *at, amount) for one, amount in self._inherited.get(at, {}).items()]
        if at in self._own:
            found.append(SpendEntry(self.incarnation, *at, self._own[at]))
        return found

    def own_entry(self, at: Period) -> SpendEntry:
        """This incarnation's counter."""
        return SpendEntry(self.incarnation, *at, self._own.get(at, 0))

    def all_entries(self) -> Iterator[SpendEntry]:
        """Everything that is known."""
        for at in {**self._inherited, **self._own}:
            yield from self.entries_of(at)

    def current_entries(self, now: int) -> list[SpendEntry]:
        """What may still count at `now`, by clocks that differ by less than a period."""
        return [share for share in self.all_entries() if share.period >= period_at(share.key, now) - 1]

    def drop_past(self, now: int) -> None:
        """Drop the periods that are over for good."""
        for kept in (self._own, self._inherited):
            for at in [at for at in kept if at[1] < period_at(at[0], now) - 1]:
                del kept[at]


def period_at(key: str, now: int) -> int:
    """The number of the period that `now` is in, of the budget with this key."""
    return month_number(now) if key.endswith(":month") else now // _DAY
