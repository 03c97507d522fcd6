"""What a process tells the store of budgets, as often as it likes: what it settled of each, and what its calls hold reserved."""

from __future__ import annotations

from typing import Any

from gateway.store import script_args as encode
from gateway.store.limit import Reservation
from gateway.store.members import Run
from gateway.store.memory import steady_now
from gateway.store.script_args import cut, side_of
from gateway.store.scripts import PUBLISH
from gateway.store.settled_spend import Period, SettledSpend, Share, period_at

ShareAndReserved = tuple[Share, int]
"""A share, and what is held reserved of it: -1 leaves that as it is."""


class BudgetSync:
    """One process's word on budgets."""

    def __init__(self, run: Run, spent: SettledSpend) -> None:
        self._run = run
        self._spent = spent
        self._held: dict[Period, int] = {}
        self.held_unsure = False
        """The store may hold something else reserved for this process than it does."""

    def hold(self, reservation: Reservation, sign: int = 1) -> None:
        """A call reserved of budgets; with -1 it does no more."""
        for at, limit in enumerate(reservation.limits):
            if limit.kind == "spend":
                period = (limit.key, reservation.slots[at])
                self._held[period] = self._held.get(period, 0) + sign * reservation.costs.spend

    def settled(self) -> None:
        """Tell what was settled since the last time."""
        if self._spent.unsaid:
            unsaid, self._spent.unsaid = self._spent.unsaid, set()
            self._say([(share, -1) for at in unsaid for share in self._spent.shares(at)])

    def everything(self) -> None:
        """Tell all that was settled and may still count: by this process, and by those whose counters it took over."""
        self._spent.unsaid.clear()
        self._say([(share, -1) for share in self._spent.current(steady_now())])
        self.held_unsure = True

    def held(self) -> None:
        """Tell what is held reserved. Only while no decision is under way, as it would be forgotten."""
        self.held_unsure = False
        now = steady_now()
        self._spent.forget(now)
        self._held = {at: held for at, held in self._held.items() if held or at[1] >= period_at(at[0], now) - 1}
        self._say([(Share(self._spent.incarnation, *at, self._spent.mine(*at)), held) for at, held in self._held.items()])

    @property
    def holds(self) -> bool:
        """Anything was reserved of a budget lately."""
        return bool(self._held)

    def _say(self, told: list[ShareAndReserved]) -> None:
        sides: dict[str, list[ShareAndReserved]] = {}
        for one in told:
            sides.setdefault(side_of(one[0].key), []).append(one)
        for side in sides.values():
            for part in cut(side):
                self._run(PUBLISH, *encode.publish(part), self._reader(part))

    def _reader(self, part: list[ShareAndReserved]) -> Any:
        def said(reply: Any) -> None:
            if isinstance(reply, Exception):
                self._spent.unsaid.update((share.key, share.period) for share, _ in part)

        return said
