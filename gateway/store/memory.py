"""Limits of one process. Their usage is counted in memory, with the same slots and decisions as in the Redis scripts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from gateway.store.decision_waiter import DecisionWaiter
from gateway.store.limit import NO_SLOT, Costs, Limit, LimitStatus, LimitUsage, Refusal, Reservation, seconds_until
from gateway.store.settled_spend import Period, SettledSpend

_ANCHOR = time.time_ns() - time.monotonic_ns()
SWEEP_AFTER_ADMISSIONS = 10_000
"""Number of admissions after which expired windows are removed."""
BUSY_RETRY_S = 1.0
"""Retry-After of a refusal that lasts until a call in flight ends, which may happen at any time."""


def steady_now() -> int:
    """Return microseconds since 1970 from a monotonic clock, unaffected by changes of the system time."""
    return (_ANCHOR + time.monotonic_ns()) // 1000


class Window:
    """The slots of one limit: their sum, the lowest that may still count, the highest ever used, and the last with charges."""

    __slots__ = ("high", "last", "low", "slots", "sum")

    def __init__(self, slot: int) -> None:
        self.slots: dict[int, int] = {}
        self.sum = 0
        self.low = self.high = self.last = slot

    def advance(self, slot: int, count: int) -> int:
        """Drop slots that expired before `slot`. Return the slot to charge, which never decreases."""
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
        """Charge `amount` to a slot that still counts."""
        if not amount:
            return
        self.sum += amount
        if charged := self.slots.get(slot, 0) + amount:
            self.slots[slot] = charged
            if slot > self.last or len(self.slots) == 1:
                self.last = slot
        else:
            del self.slots[slot]
            if slot == self.last:
                self.last = max(self.slots, default=slot)

    def slot_freeing(self, amount: int) -> int:
        """Return the first slot at whose expiry at least `amount` of the limit has become free."""
        for slot in sorted(self.slots):
            amount -= self.slots[slot]
            if amount <= 0:
                return slot
        return self.high


class MemoryLimiter:
    """Enforces limits exactly, for one process.

    Counts are lost when the process ends, except for `settled_spend`, which the journal keeps.
    """

    def __init__(self, now: Callable[[], int] = steady_now, settled_spend: SettledSpend | None = None) -> None:
        self._now = now
        self.settled_spend = settled_spend if settled_spend is not None else SettledSpend()
        self._reserved: dict[Period, int] = {}
        self._windows: dict[str, tuple[Window, Limit]] = {}
        self._leases: dict[str, set[str]] = {}
        self._open: dict[str, Reservation] = {}
        self._until_sweep = SWEEP_AFTER_ADMISSIONS

    async def start(self) -> None:
        """Do nothing: there is no connection to open."""

    async def stop(self) -> None:
        """Do nothing: there is no connection to close."""

    async def admit(self, limits: Sequence[Limit], costs: Costs, id: str, *, force: bool = False) -> Reservation | Refusal:
        """Reserve `costs` under all limits or under none. With `force`, reserve even if a limit is exceeded."""
        return self.decide(limits, costs, id, force=force)

    def request(self, limits: Sequence[Limit], costs: Costs, id: str, waiter: DecisionWaiter) -> Reservation | Refusal:
        """Return the decision at once. `waiter` receives nothing."""
        return self.decide(limits, costs, id)

    def decide(
        self, limits: Sequence[Limit], costs: Costs, id: str, *, force: bool = False, at_time: int | None = None
    ) -> Reservation | Refusal:
        """Decide without waiting. `force` charges even if a limit is exceeded; `at_time` overrides the current time."""
        known = self._open.get(id)
        if known is not None:
            return known
        now = self._now() if at_time is None else at_time
        slots: list[int] = []
        statuses: list[LimitStatus] = []
        binding: Refusal | None = None
        waits: list[tuple[Limit, float | None]] = []
        for limit in limits:
            cost = getattr(costs, limit.kind)
            slot, remaining, retry_after, last = (self._check_budget if limit.kind == "spend" else self._check)(limit, cost, now)
            slots.append(slot)
            reset = limit.reset_s(last, now) if slot >= 0 and remaining < limit.amount else 0.0
            reserved = self._reserved.get((limit.key, slot), 0) if limit.kind == "spend" else None
            statuses.append(LimitStatus(limit, max(0, remaining), reset, reserved, -remaining if remaining < 0 else 0))
            if remaining < cost and not force:
                waits.append((limit, retry_after))
                if binding is None or is_longer(retry_after, binding.retry_after):
                    busy = limit.kind == "spend" and retry_after == BUSY_RETRY_S
                    binding = Refusal(limit, retry_after, statuses, now, busy=busy, waits=waits)
        if binding is not None:
            return binding
        reservation = Reservation(id, limits, costs, slots, statuses, now)
        for index, limit in enumerate(limits):
            statuses[index] = self._charge(limit, slots[index], getattr(costs, limit.kind), id, now)
        self._open[id] = reservation
        self._sweep(now)
        return reservation

    async def usage(self, limits: Sequence[Limit]) -> list[LimitUsage]:
        """Return the usage of limits without charging them."""
        now = self._now()
        usages: list[LimitUsage] = []
        for limit in limits:
            slot, remaining, _, last = self._check_budget(limit, 0, now) if limit.kind == "spend" else self._check(limit, 0, now)
            used = limit.amount - remaining
            reserved = self._reserved.get((limit.key, slot), 0) if limit.kind == "spend" else None
            reset = limit.reset_s(last, now) if slot != NO_SLOT and used else 0.0
            usages.append(LimitUsage(limit, used, reserved, reset))
        return usages

    def settle(self, reservation: Reservation, actual: Costs) -> None:
        """Replace the reserved amounts with the used amounts, once."""
        if self._open.pop(reservation.id, None) is None:
            return
        now = self._now()
        for index, limit in enumerate(reservation.limits):
            if limit.slot == NO_SLOT:
                self._leases[limit.key].discard(reservation.id)
                if not self._leases[limit.key]:
                    del self._leases[limit.key]
                continue
            if limit.kind == "spend":
                self._reserve((limit.key, reservation.slots[index]), -reservation.costs.spend)
                self.settled_spend.add(limit.key, reservation.slots[index], actual.spend)
                continue
            change = getattr(actual, limit.kind) - getattr(reservation.costs, limit.kind)
            if not change:
                continue
            slot, current = reservation.slots[index], limit.slot_at(now)
            entry = self._windows.get(limit.key)
            if entry is None:  # `_sweep` has removed the window
                entry = self._windows[limit.key] = (Window(current), limit)
            window = entry[0]
            current = window.advance(current, limit.slots)
            if slot >= window.low:
                window.add(slot, change)
            elif change > 0 and limit.slots:
                window.add(current, change)  # the slot of the admission has expired: charge the current slot

    def _check_budget(self, limit: Limit, cost: int, now: int) -> tuple[int, int, float | None, int]:
        """Check a budget like `_check`, counting the settled spend of the period and the reserved amounts."""
        period = max(limit.slot_at(now), self.settled_spend.latest.get(limit.key, 0))
        settled = self.settled_spend.total(limit.key, period)
        remaining = limit.amount - settled - self._reserved.get((limit.key, period), 0)
        if cost <= remaining or cost > limit.amount:
            return period, remaining, None, period
        wait_s = seconds_until(limit.slot_expiry(period), now) if settled + cost > limit.amount else BUSY_RETRY_S
        return period, remaining, wait_s, period

    def _reserve(self, period: Period, cost: int) -> None:
        reserved = self._reserved.get(period, 0) + cost
        if reserved:
            self._reserved[period] = reserved
        else:
            self._reserved.pop(period, None)

    def _check(self, limit: Limit, cost: int, now: int) -> tuple[int, int, float | None, int]:
        """Return the slot to charge, the remaining amount, the seconds until `cost` fits, and the last slot with charges.

        The wait is None if the cost fits now, or if it exceeds the limit and never fits. For a limit on concurrent
        calls, the wait is BUSY_RETRY_S, even if the call fits.
        """
        if limit.slot == NO_SLOT:
            return NO_SLOT, limit.amount - len(self._leases.get(limit.key, ())), BUSY_RETRY_S, NO_SLOT
        slot = limit.slot_at(now)
        entry = self._windows.get(limit.key)
        if entry is None:
            return slot, limit.amount, None, slot
        window = entry[0]
        slot = window.advance(slot, limit.slots)
        remaining = limit.amount - window.sum
        if cost <= remaining or cost > limit.amount:
            return slot, remaining, None, window.last
        return slot, remaining, seconds_until(limit.slot_expiry(window.slot_freeing(cost - remaining)), now), window.last

    def _charge(self, limit: Limit, slot: int, cost: int, id: str, now: int) -> LimitStatus:
        if limit.slot == NO_SLOT:
            holders = self._leases.setdefault(limit.key, set())
            holders.add(id)
            return LimitStatus(limit, max(0, limit.amount - len(holders)), 0.0)
        if limit.kind == "spend":
            period = (limit.key, slot)
            self._reserve(period, cost)
            remaining = limit.amount - self.settled_spend.total(*period) - self._reserved.get(period, 0)
            return LimitStatus(limit, max(0, remaining), limit.reset_s(slot, now) if remaining < limit.amount else 0.0)
        entry = self._windows.get(limit.key)
        if entry is None:
            entry = self._windows[limit.key] = (Window(slot), limit)
        window = entry[0]
        window.add(slot, cost)
        return LimitStatus(limit, max(0, limit.amount - window.sum), limit.reset_s(window.last, now) if window.sum else 0.0)

    def _sweep(self, now: int) -> None:
        """Remove expired windows periodically, because every user with a limit adds one."""
        self._until_sweep -= 1
        if self._until_sweep:
            return
        self._until_sweep = SWEEP_AFTER_ADMISSIONS
        expired = [key for key, (window, limit) in self._windows.items() if limit.slot_expiry(window.high) < now]
        for key in expired:
            del self._windows[key]
        self.settled_spend.drop_past(now)


def is_longer(wait_s: float | None, other_s: float | None) -> bool:
    """Return whether the first wait is longer than the second. None means infinite."""
    return other_s is not None and (wait_s is None or wait_s > other_s)
