"""What a process tells the store of budgets, as often as it likes: what it settled of each, and what its calls hold reserved."""

from __future__ import annotations

from typing import Any

from gateway.store import script_args as encode
from gateway.store.limit import Reservation
from gateway.store.members import RunScript
from gateway.store.memory import steady_now
from gateway.store.script_args import batches, side_of
from gateway.store.scripts import PUBLISH
from gateway.store.settled_spend import Period, SettledSpend, SpendEntry, period_at

EntryAndReserved = tuple[SpendEntry, int]
"""A share, and what is held reserved of it: -1 leaves that as it is."""


class BudgetSync:
    """One process's word on budgets."""

    def __init__(self, run: RunScript, settled_spend: SettledSpend) -> None:
        self._run = run
        self._settled_spend = settled_spend
        self._reserved: dict[Period, int] = {}
        self.reserved_uncertain = False
        """The store may hold something else reserved for this process than it does."""

    def track(self, reservation: Reservation, sign: int = 1) -> None:
        """A call reserved of budgets; with -1 it does no more."""
        for at, limit in enumerate(reservation.limits):
            if limit.kind == "spend":
                period = (limit.key, reservation.slots[at])
                self._reserved[period] = self._reserved.get(period, 0) + sign * reservation.costs.spend

    def publish_settled(self) -> None:
        """Tell what was settled since the last time."""
        if self._settled_spend.unpublished:
            unsaid, self._settled_spend.unpublished = self._settled_spend.unpublished, set()
            self._publish([(share, -1) for at in unsaid for share in self._settled_spend.entries_of(at)])

    def publish_all(self) -> None:
        """Tell all that was settled and may still count: by this process, and by those whose counters it took over."""
        self._settled_spend.unpublished.clear()
        self._publish([(share, -1) for share in self._settled_spend.current_entries(steady_now())])
        self.reserved_uncertain = True

    def publish_reserved(self) -> None:
        """Tell what is held reserved. Only while no decision is under way, as it would be forgotten."""
        self.reserved_uncertain = False
        now = steady_now()
        self._settled_spend.drop_past(now)
        self._reserved = {at: held for at, held in self._reserved.items() if held or at[1] >= period_at(at[0], now) - 1}
        self._publish([(SpendEntry(self._settled_spend.incarnation, *at, self._settled_spend.own_amount(*at)), held) for at, held in self._reserved.items()])

    @property
    def has_reserved(self) -> bool:
        """Anything was reserved of a budget lately."""
        return bool(self._reserved)

    def _publish(self, told: list[EntryAndReserved]) -> None:
        sides: dict[str, list[EntryAndReserved]] = {}
        for one in told:
            sides.setdefault(side_of(one[0].key), []).append(one)
        for side in sides.values():
            for part in batches(side):
                self._run(PUBLISH, *encode.publish_args(part), self._on_reply(part))

    def _on_reply(self, part: list[EntryAndReserved]) -> Any:
        def said(reply: Any) -> None:
            if isinstance(reply, Exception):
                self._settled_spend.unpublished.update((share.key, share.period) for share, _ in part)

        return said
