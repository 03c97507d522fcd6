"""Limits of one process, counted in memory: the same slots and the same decisions as the Redis script."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from gateway.store.limit import NO_SLOT, Costs, Limit, LimitStatus, Refusal, Reservation, seconds_until
from gateway.store.settled_spend import Period, SettledSpend

_ANCHOR = time.time_ns() - time.monotonic_ns()
SWEEP_AFTER_ADMISSIONS = 10_000
"""Admissions between two looks for windows that nobody uses any more."""
BUSY_RETRY_S = 1.0
"""Seconds after which a caller over a limit on concurrency is told to try again: nobody knows when a call will end."""


def steady_now() -> int:
    """Microseconds since 1970 that no step of the machine's clock moves back."""
    return (_ANCHOR + time.monotonic_ns()) // 1000


class Window:
    """The slots of one limit: their sum, the lowest that may still count, and the highest ever used."""

    __slots__ = ("high", "low", "slots", "sum")

    def __init__(self, slot: int) -> None:
        self.slots: dict[int, int] = {}
        self.sum = 0
        self.low = self.high = slot

    def advance(self, slot: int, count: int) -> int:
        """Forget what no window that ends in `slot` covers; the slot to charge, which never goes back."""
        slot = max(slot, self.high)
        if slot - count > self.high:
            self.slots.clear()
            self.sum = 0
        else:
            for old in range(self.low, slot - count):
                self.sum -= self.slots.pop(old, 0)
        self.low = max(self.low, slot - count)
        self.high = slot
        return slot

    def add(self, slot: int, amount: int) -> None:
        """Charge a slot that counts."""
        self.slots[slot] = self.slots.get(slot, 0) + amount
        self.sum += amount

    def slot_freeing(self, amount: int) -> int:
        """The slot with whose end at least `amount` comes free."""
        for slot in sorted(self.slots):
            amount -= self.slots[slot]
            if amount <= 0:
                return slot
        return self.high


class MemoryLimiter:
    """Exact within one process; of what it counts only `spent` can outlive it, in a journal."""

    def __init__(self, now: Callable[[], int] = steady_now, settled_spend: SettledSpend | None = None) -> None:
        """`now` gives microseconds since 1970."""
        self._now = now
        self.settled_spend = settled_spend if settled_spend is not None else SettledSpend()
        self._reserved: dict[Period, int] = {}
        self._windows: dict[str, tuple[Window, Limit]] = {}
        self._leases: dict[str, set[str]] = {}
        self._open: dict[str, Reservation] = {}
        self._until_sweep = SWEEP_AFTER_ADMISSIONS

    async def start(self) -> None:
        """Nothing to reach."""

    async def stop(self) -> None:
        """Nothing to let go of."""

    async def admit(self, limits: Sequence[Limit], costs: Costs, id: str) -> Reservation | Refusal:
        """Reserve `costs` in all limits, or in none."""
        return self.decide(limits, costs, id)

    def decide(
        self, limits: Sequence[Limit], costs: Costs, id: str, *, force: bool = False, at: int | None = None
    ) -> Reservation | Refusal:
        """The same without waiting; `force` charges what was already used elsewhere, over the limit or not; `at` for another moment."""
        known = self._open.get(id)
        if known is not None:
            return known
        now = self._now() if at is None else at
        slots: list[int] = []
        standings: list[LimitStatus] = []
        binding: Refusal | None = None
        for limit in limits:
            cost = getattr(costs, limit.kind)
            slot, remaining, retry = (self._check_budget if limit.kind == "spend" else self._check)(limit, cost, now)
            slots.append(slot)
            reset = seconds_until(limit.slot_expiry(slot), now) if slot >= 0 and remaining < limit.amount else 0.0
            standings.append(LimitStatus(limit, max(0, remaining), reset))
            if remaining < cost and not force and (binding is None or _is_longer(retry, binding.retry_after)):
                binding = Refusal(limit, retry, standings, now, busy=limit.kind == "spend" and retry == BUSY_RETRY_S)
        if binding is not None:
            return binding
        reservation = Reservation(id, limits, costs, slots, standings, now)
        for at, limit in enumerate(limits):
            standings[at] = self._charge(limit, slots[at], getattr(costs, limit.kind), id, now)
        self._open[id] = reservation
        self._sweep(now)
        return reservation

    def settle(self, reservation: Reservation, actual: Costs) -> None:
        """Replace what was reserved by what was used, once."""
        if self._open.pop(reservation.id, None) is None:
            return
        now = self._now()
        for at, limit in enumerate(reservation.limits):
            if limit.slot == NO_SLOT:
                self._leases[limit.key].discard(reservation.id)
                if not self._leases[limit.key]:
                    del self._leases[limit.key]
                continue
            if limit.kind == "spend":
                self._reserve((limit.key, reservation.slots[at]), -reservation.costs.spend)
                self.settled_spend.add(limit.key, reservation.slots[at], actual.spend)
                continue
            change = getattr(actual, limit.kind) - getattr(reservation.costs, limit.kind)
            found = self._windows.get(limit.key)
            if not change or found is None:
                continue
            window, slot = found[0], reservation.slots[at]
            current = window.advance(limit.slot_at(now), limit.slots)
            if slot >= window.low:
                window.add(slot, change)
            elif change > 0 and limit.slots:
                window.add(current, change)  # used, and its slot is past: a debt of the present

    def _check_budget(self, limit: Limit, cost: int, now: int) -> tuple[int, int, float | None]:
        """The same for a budget: what was settled in its period counts, and what calls in flight hold reserved."""
        period = max(limit.slot_at(now), self.settled_spend.latest.get(limit.key, 0))
        settled = self.settled_spend.total(limit.key, period)
        remaining = limit.amount - settled - self._reserved.get((limit.key, period), 0)
        if cost <= remaining or cost > limit.amount:
            return period, remaining, None
        return period, remaining, seconds_until(limit.slot_expiry(period), now) if settled + cost > limit.amount else BUSY_RETRY_S

    def _reserve(self, period: Period, cost: int) -> None:
        held = self._reserved.get(period, 0) + cost
        if held:
            self._reserved[period] = held
        else:
            self._reserved.pop(period, None)

    def _check(self, limit: Limit, cost: int, now: int) -> tuple[int, int, float | None]:
        """The slot to charge, what remains, and the seconds until `cost` fits if it does not. Charges nothing."""
        if limit.slot == NO_SLOT:
            return NO_SLOT, limit.amount - len(self._leases.get(limit.key, ())), BUSY_RETRY_S
        slot = limit.slot_at(now)
        found = self._windows.get(limit.key)
        if found is None:
            return slot, limit.amount, None
        window = found[0]
        slot = window.advance(slot, limit.slots)
        remaining = limit.amount - window.sum
        if cost <= remaining or cost > limit.amount:
            return slot, remaining, None
        return slot, remaining, seconds_until(limit.slot_expiry(window.slot_freeing(cost - remaining)), now)

    def _charge(self, limit: Limit, slot: int, cost: int, id: str, now: int) -> LimitStatus:
        if limit.slot == NO_SLOT:
            holders = self._leases.setdefault(limit.key, set())
            holders.add(id)
            return LimitStatus(limit, max(0, limit.amount - len(holders)), 0.0)
        if limit.kind == "spend":
            period = (limit.key, slot)
            self._reserve(period, cost)
            left = limit.amount - self.settled_spend.total(*period) - self._reserved.get(period, 0)
            return LimitStatus(limit, max(0, left), seconds_until(limit.slot_expiry(slot), now))
        found = self._windows.get(limit.key)
        if found is None:
            found = self._windows[limit.key] = (Window(slot), limit)
        found[0].add(slot, cost)
        return LimitStatus(limit, max(0, limit.amount - found[0].sum), seconds_until(limit.slot_expiry(slot), now))

    def _sweep(self, now: int) -> None:
        """Forget windows that are empty: there may be one for every user there ever was."""
        self._until_sweep -= 1
        if self._until_sweep:
            return
        self._until_sweep = SWEEP_AFTER_ADMISSIONS
        past = [key for key, (window, limit) in self._windows.items() if limit.slot_expiry(window.high) < now]
        for key in past:
            del self._windows[key]
        self.settled_spend.drop_past(now)


def _is_longer(one: float | None, other: float | None) -> bool:
    """Whether the first wait is the longer one; None is for ever."""
    return other is not None and (one is None or one > other)
