"""While the shared store is out of reach, each limit's declared mode decides: this process's share of it, no limit, or nothing.

Shares are the limit divided by the instances that were seen last. Until a window has passed since the store holds that share back from
those who can still ask it, only a part of what remained then may be used. A budget of less than one per instance is closed. What is used
here is told to the store when it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from gateway.store.limit import NO_COSTS, NO_SLOT, US_PER_S, Costs, Limit, Refusal, Reservation, costs_of_kind
from gateway.store.member_scripts import OVERDUE_AFTER_S
from gateway.store.memory import MemoryLimiter, Window, steady_now
from gateway.store.settled_spend import SettledSpend
from gateway.store.usage_replay import SlotUsage

MAX_REMEMBERED_LIMITS = 100_000
LEASES_HELD_US = 20 * US_PER_S
"""How long calls of before the outage are sure to be held in the store, where leases of 30 s are renewed every 10: for so long a process
goes on with as many as it had.
"""
MIN_REMAINDER_DIVISOR = 20
"""A remainder of less than a twentieth of a share is none: it is what a limit in full use leaves between two calls."""
NOTICED_AFTER_US = int(OVERDUE_AFTER_S * US_PER_S)
"""Microseconds until those who can ask the store are held to the rest."""


class OutageLimiter:
    """Decides for one process while the store is away."""

    def __init__(self, settled_spend: SettledSpend | None = None, now: Callable[[], int] = steady_now) -> None:
        """`spent` is what is known of budgets that the store was never asked about."""
        self._settled_spend = settled_spend if settled_spend is not None else SettledSpend()
        self._now = now
        self._local = MemoryLimiter(now)
        self._shares: dict[str, Limit] = {}
        self._statuses: dict[str, tuple[int, int]] = {}
        self._admitted: dict[str, tuple[Reservation, Reservation]] = {}
        self._used: dict[str, tuple[Limit, Window]] = {}
        self._refused: dict[str, tuple[int, int]] = {}
        """What remained, and when, as the store refused last."""
        self._members = 1
        self._began = 0
        self._calls_before: dict[str, dict[str, Reservation | None]] = {}
        """The calls of before the outage that are open, by each limit on concurrency, as far as they were counted here."""
        self._call_counts_before: dict[str, int] = {}
        self.clock_offset_us = 0
        """By how much the store's clock is ahead of ours."""
        self.decisions: dict[str, int] = {}
        """Decisions by what was decided: local_share, open, closed."""

    def record_status(self, limit: Limit, remaining: int, slot: int) -> None:
        """Remember what the store said last."""
        if len(self._statuses) < MAX_REMEMBERED_LIMITS or limit.key in self._statuses:
            self._statuses[limit.key] = (remaining, slot)

    def record_refusal(self, limit: Limit, remaining: int) -> None:
        """The store refused: a little later there may be more again, but not for long."""
        if len(self._refused) < MAX_REMEMBERED_LIMITS or limit.key in self._refused:
            self._refused[limit.key] = (remaining, self._now())

    def begin(self, members: int, open_: Iterable[Reservation] = ()) -> None:
        """The store is gone: divide by the instances known now until it is back. The calls that are `open_` still count."""
        self._members = max(1, members)
        self._local = MemoryLimiter(self._now)
        self._shares.clear()
        self._began = self._now()
        self._calls_before = {}
        for one in open_:
            for limit in one.limits:
                if limit.slot == NO_SLOT:
                    self._calls_before.setdefault(limit.key, {})[one.id] = None
        self._call_counts_before = {key: len(ids) for key, ids in self._calls_before.items()}

    def call_ended(self, reservation: Reservation) -> None:
        """A call that the store had admitted before ended."""
        for limit in reservation.limits:
            counted = self._calls_before.get(limit.key, {}).pop(reservation.id, None)
            if counted is not None:
                self._local.settle(counted, NO_COSTS)

    def decide(self, limits: Sequence[Limit], costs: Costs, id: str) -> Reservation | Refusal:
        """Admit by shares. Refused limits name the real limit, not the share."""
        for limit in limits:
            if limit.outage == "closed":
                self._count("closed")
                return Refusal(limit, 1.0, degraded=True, unavailable=True)
        shared = [limit for limit in limits if limit.outage == "local_share"]
        self._count("local_share" if shared else "open")
        found = self._local.decide([self._share(limit) for limit in shared], costs, id)
        if isinstance(found, Refusal):
            real = next(limit for limit in shared if limit.key == found.limit.key)
            if real.kind == "spend":  # what is left of it, nobody knows: closed until the store is back
                return Refusal(real, 1.0, degraded=True, unavailable=True)
            return Refusal(real, found.retry_after, degraded=True, unavailable=self._shares[real.key].amount <= 0)
        slots = [limit.slot_at(found.decided_at) if limit.kind == "spend" else NO_SLOT for limit in limits]
        whole = Reservation(id, limits, costs, slots, (), found.decided_at, degraded=True)
        self._admitted[id] = (whole, found)
        return whole

    def settle(self, reservation: Reservation, actual: Costs) -> bool:
        """Settle what was admitted here; False when it was not."""
        held = self._admitted.pop(reservation.id, None)
        if held is None:
            return False
        self._local.settle(held[1], actual)
        for limit in reservation.limits:
            if limit.slot != NO_SLOT and limit.kind != "spend":  # money is told as a sum, never added
                self._record_usage(limit, limit.slot_at(reservation.decided_at), getattr(reservation.costs, limit.kind), getattr(actual, limit.kind))
        return True

    def _record_usage(self, limit: Limit, at: int, reserved: int, used: int) -> None:
        """Note what the store is to be told; of a call from before this window only what went beyond its reservation."""
        slot = limit.slot_at(self._now())
        window = self._used.setdefault(limit.key, (limit, Window(slot)))[1]
        slot = window.advance(slot, limit.slots)
        if at >= slot - limit.slots:
            window.low = min(window.low, at)
            window.add(min(at, slot), used)
        else:
            window.add(slot, max(0, used - reserved))

    def recover(self) -> tuple[list[SlotUsage], list[Reservation]]:
        """The store is back: what was used of each limit within its window, and the open reservations, from now on the store's."""
        for limit, window in self._used.values():
            window.advance(limit.slot_at(self._now()), limit.slots)
        used = [SlotUsage(limit, window.slots) for limit, window in self._used.values() if window.sum]
        held = [whole for whole, _ in self._admitted.values()]
        self._used.clear()
        self._admitted.clear()
        return used, held

    def _count(self, mode: str) -> None:
        self.decisions[mode] = self.decisions.get(mode, 0) + 1

    def _concurrency_share(self, limit: Limit) -> Limit:
        """This process's part of a limit on calls at the same time: those that it has, and its part of the others.

        At first that is what it had, and up to its share a part of what was left; later it is the share.
        """
        late = self._now() - self._began > LEASES_HELD_US
        share = self._shares.get(limit.key)
        if share is not None and (share.amount == limit.amount // self._members or not late):
            return share
        left = self._statuses.get(limit.key, (limit.amount, 0))[0]
        amount, had = limit.amount // self._members, self._call_counts_before.get(limit.key, 0)
        if not late:
            amount = min(had + max(0, left) // self._members, max(had, amount))
        self._shares[limit.key] = again = _with_amount(limit, amount)
        if share is None:
            for id in (before := self._calls_before.get(limit.key, {})):
                counted = self._local.decide([again], NO_COSTS, f"{limit.key} {id}", force=True)
                before[id] = counted if isinstance(counted, Reservation) else None
        return again

    def _share(self, limit: Limit) -> Limit:
        """This process's part of a limit, charged with what was used of it before."""
        if limit.slot == NO_SLOT:
            return self._concurrency_share(limit)
        share = self._shares.get(limit.key)
        if share is not None:
            return share
        amount = limit.amount // self._members
        share = self._shares[limit.key] = _with_amount(limit, amount)
        left = self._remaining_before(limit)
        if left is not None:
            mine = left // self._members
            if limit.kind != "spend" and mine * MIN_REMAINDER_DIVISOR < amount:
                mine = 0
            at = None if limit.kind == "spend" else self._began + NOTICED_AFTER_US  # what was used elsewhere slides out a window after that
            self._local.decide([share], costs_of_kind(limit, max(0, amount - mine)), f"before:{limit.key}", force=True, at=at)
        return share

    def _remaining_before(self, limit: Limit) -> int | None:
        """What remained of a limit when the outage began; None when nobody knows."""
        seen = self._statuses.get(limit.key)
        if limit.kind == "spend":
            period = limit.slot_at(self._now())
            if seen is None:
                return max(0, limit.amount - self._settled_spend.total(limit.key, period))
            return max(0, seen[0]) if seen[1] >= period else None
        if seen is None or seen[1] + limit.slots < limit.slot_at(self._began + self.clock_offset_us):
            return None
        left, since = self._refused.get(limit.key, (0, 0))
        return max(0, min(seen[0], left) if since > self._began - NOTICED_AFTER_US else seen[0])


def _with_amount(limit: Limit, amount: int) -> Limit:
    """The same limit with another amount, counted under the same name."""
    share = Limit(limit.owner, limit.kind, amount, limit.window, outage=limit.outage)
    share.key = limit.key
    return share
