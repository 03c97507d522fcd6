"""Publishes to Redis the settled and the reserved amount of each budget of one process.

Publishing the same amount again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.store import script_args
from gateway.store.limit import Reservation
from gateway.store.members import RunScript
from gateway.store.memory import steady_now
from gateway.store.periods import KEPT_PERIODS, period_at
from gateway.store.script_args import batches, side_of
from gateway.store.scripts import PUBLISH
from gateway.store.settled_spend import Period, SettledSpend, SpendEntry

EntryAndReserved = tuple[SpendEntry, int]
"""Settled spend, and the reserved amount in nano-dollars; -1 leaves the stored reserved amount unchanged."""


class BudgetSync:
    """Publishes the settled and the reserved budget amounts of one process."""

    def __init__(self, run: RunScript, settled_spend: SettledSpend) -> None:
        self._run = run
        self._settled_spend = settled_spend
        self._reserved: dict[Period, int] = {}
        self.reserved_uncertain = False
        """Whether the reserved amounts in Redis may differ from those of this process."""

    def track(self, reservation: Reservation, sign: int = 1) -> None:
        """Add the amounts that a call reserves from its budgets, or remove them with `sign=-1`."""
        for index, limit in enumerate(reservation.limits):
            if limit.kind == "spend":
                period = (limit.key, reservation.slots[index])
                self._reserved[period] = self._reserved.get(period, 0) + sign * reservation.costs.spend

    def publish_settled(self) -> None:
        """Publish the settled amounts that have changed since the last publication."""
        if self._settled_spend.unpublished:
            changed, self._settled_spend.unpublished = self._settled_spend.unpublished, set()
            self._publish([(entry, -1) for period in changed for entry in self._settled_spend.entries_of(period)])

    def publish_all(self) -> None:
        """Publish all settled spend of current and recent periods, including counters inherited from earlier processes."""
        self._settled_spend.unpublished.clear()
        self._publish([(entry, -1) for entry in self._settled_spend.current_entries(steady_now())])
        self.reserved_uncertain = True

    def publish_reserved(self) -> None:
        """Publish the reserved amounts.

        Call this only while no decision is in flight, because publishing would overwrite the decision's reservation.
        """
        self.reserved_uncertain = False
        now = steady_now()
        settled = self._settled_spend
        settled.drop_past(now)
        self._reserved = {
            period: reserved
            for period, reserved in self._reserved.items()
            if reserved or period[1] >= period_at(period[0], now) - KEPT_PERIODS
        }
        self._publish([(settled.own_entry(period), reserved) for period, reserved in self._reserved.items()])

    @property
    def has_reserved(self) -> bool:
        """Whether this process has reserved amounts to publish, including amounts of zero in recent periods."""
        return bool(self._reserved)

    def _publish(self, entries: list[EntryAndReserved]) -> None:
        sides: dict[str, list[EntryAndReserved]] = {}
        for entry in entries:
            sides.setdefault(side_of(entry[0].key), []).append(entry)
        for side in sides.values():
            for batch in batches(side):
                self._run(PUBLISH, *script_args.publish_args(batch), self._on_reply(batch))

    def _on_reply(self, batch: list[EntryAndReserved]) -> Callable[[Any], None]:
        def on_reply(reply: Any) -> None:
            if isinstance(reply, Exception):
                self._settled_spend.unpublished.update((entry.key, entry.period) for entry, _ in batch)

        return on_reply
