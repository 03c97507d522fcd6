"""Limits while the shared store is unavailable: each limit follows its outage mode (`local_share`, `open` or `closed`).

The share of a process is the limit divided by the number of members that were known when the outage began. Processes
that still reach the store hold this share back, but usage before the outage counts for one more window. During that
window this process uses only its part of the amount that remained. A share of zero admits no calls. The usage recorded
here is replayed to the store after the outage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from gateway.store.limit import NO_COSTS, NO_SLOT, US_PER_S, Costs, Limit, Refusal, Reservation, costs_of_kind
from gateway.store.member_scripts import OVERDUE_AFTER_S
from gateway.store.memory import MemoryLimiter, Window, steady_now
from gateway.store.script_args import PendingDecision
from gateway.store.settled_spend import SettledSpend
from gateway.store.window_usage import SlotUsage

MAX_REMEMBERED_LIMITS = 100_000
LEASES_HELD_US = 20 * US_PER_S
"""Time for which the store still counts the calls in flight of a process that lost its connection.

Leases last 30 s and are renewed every 10 s. For these 20 s, a process keeps as many concurrent calls as before.
"""
MIN_REMAINDER_DIVISOR = 20
"""Except for budgets, a remainder below 1/20 of the share counts as zero: between two calls, even a used-up limit has a small one."""
MIN_REMAINDER_DIVISOR_AFTER_LOSS = 5
"""The same divisor after a loss of data, when all processes use their parts at the same time."""
NOTICED_AFTER_US = int(OVERDUE_AFTER_S * US_PER_S)
"""Time until processes that still reach the store hold back the share of this process."""


class OutageLimiter:
    """Decides on the calls of one process during an outage."""

    def __init__(self, settled_spend: SettledSpend | None = None, now: Callable[[], int] = steady_now) -> None:
        """Create a limiter. `settled_spend` is used for budgets whose state the store never returned."""
        self._settled_spend = settled_spend if settled_spend is not None else SettledSpend()
        self._now = now
        self._local = MemoryLimiter(now)
        self._shares: dict[str, Limit] = {}
        self._statuses: dict[str, tuple[int, int]] = {}
        self._admitted: dict[str, tuple[Reservation, Reservation]] = {}
        self._used: dict[str, tuple[Limit, Window]] = {}
        self._refused: dict[str, tuple[int, int]] = {}
        """For each limit, the remaining amount at the last refusal by the store, and the time of that refusal."""
        self.members = 1
        """Number of processes by which limits are divided."""
        self._began = 0
        self._own_usage: Mapping[str, int] | None = None
        self._calls_before: dict[str, dict[str, Reservation | None]] = {}
        """For each concurrency limit, the local reservations of calls admitted before the outage, by call id."""
        self._call_counts_before: dict[str, int] = {}
        self.clock_offset_us = 0
        """Clock of the store minus the local clock."""
        self.decisions: dict[str, int] = {}
        """Number of decisions by mode: local_share, open, closed."""

    def record_status(self, limit: Limit, remaining: int, slot: int) -> None:
        """Record the state of a limit as the store returned it."""
        if len(self._statuses) < MAX_REMEMBERED_LIMITS or limit.key in self._statuses:
            self._statuses[limit.key] = (remaining, slot)

    def last_remaining(self, limit: Limit) -> int:
        """Return what remained of a limit when the store last returned its state, 0 if it is unknown."""
        return self._statuses.get(limit.key, (0, 0))[0]

    def record_statuses(self, decisions: Sequence[PendingDecision], reply: Sequence[Sequence[int]]) -> None:
        """Record the latest state of each limit in a reply of ADMIT."""
        seen: set[int] = set()
        recorded: set[str] = set()
        for decision, entry in zip(reversed(decisions), reversed(reply), strict=True):
            limits = decision.limits
            if id(limits) in seen or entry[0] < 0:
                continue
            seen.add(id(limits))
            for index, limit in enumerate(limits):
                if limit.key not in recorded:
                    recorded.add(limit.key)
                    self.record_status(limit, entry[3 * index + 2], entry[3 * index + 3])

    def record_refusal(self, limit: Limit, remaining: int) -> None:
        """Record a refusal by the store.

        If an outage begins soon afterwards, at most `remaining` of the limit counts as free. Slightly more may have
        become free by then, but other calls would soon use it.
        """
        if len(self._refused) < MAX_REMEMBERED_LIMITS or limit.key in self._refused:
            self._refused[limit.key] = (remaining, self._now())

    def begin(
        self, members: int, open_reservations: Iterable[Reservation] = (), own_usage: Mapping[str, int] | None = None
    ) -> None:
        """Begin an outage: divide limits by `members` until the outage ends. Calls with an open reservation still count.

        If the store is available but has lost data, all processes apply outage modes at the same time, for about a second.
        `own_usage` then maps the key of each window to the amount that this process has charged to it.
        """
        self._own_usage = own_usage
        self.members = max(1, members)
        self._local = MemoryLimiter(self._now)
        self._shares.clear()
        self._began = self._now()
        self._calls_before = {}
        for reservation in open_reservations:
            for limit in reservation.limits:
                if limit.slot == NO_SLOT:
                    self._calls_before.setdefault(limit.key, {})[reservation.id] = None
        self._call_counts_before = {key: len(ids) for key, ids in self._calls_before.items()}

    def call_ended(self, reservation: Reservation) -> None:
        """Handle the end of a call that the store admitted before the outage."""
        for limit in reservation.limits:
            counted = self._calls_before.get(limit.key, {}).pop(reservation.id, None)
            if counted is not None:
                self._local.settle(counted, NO_COSTS)

    def decide(self, limits: Sequence[Limit], costs: Costs, id: str) -> Reservation | Refusal:
        """Decide by outage modes and shares. A refusal names the full limit, not the share."""
        for limit in limits:
            if limit.outage == "closed":
                self._count("closed")
                return Refusal(limit, 1.0, degraded=True, unavailable=True)
        shared = [limit for limit in limits if limit.outage == "local_share"]
        self._count("local_share" if shared else "open")
        decision = self._local.decide([self._share(limit) for limit in shared], costs, id)
        if isinstance(decision, Refusal):
            real = next(limit for limit in shared if limit.key == decision.limit.key)
            if real.kind == "spend":  # the remaining budget is unknown until the store is available
                return Refusal(real, 1.0, degraded=True, unavailable=True)
            retry_after = decision.retry_after
            if self._own_usage is not None and retry_after is not None:
                retry_after = min(retry_after, 1.0)
            reset_s = next(status.reset_s for status in decision.statuses if status.limit is decision.limit) or None
            unavailable = self._shares[real.key].amount <= 0
            return Refusal(real, retry_after, degraded=True, unavailable=unavailable, reset_s=reset_s)
        slots = [limit.slot_at(decision.decided_at) if limit.kind == "spend" else NO_SLOT for limit in limits]
        reservation = Reservation(id, limits, costs, slots, (), decision.decided_at, degraded=True)
        self._admitted[id] = (reservation, decision)
        return reservation

    def settle(self, reservation: Reservation, actual: Costs) -> bool:
        """Settle a reservation made by this limiter. Return False if the reservation was made by the store."""
        admitted = self._admitted.pop(reservation.id, None)
        if admitted is None:
            return False
        self._local.settle(admitted[1], actual)
        for limit in reservation.limits:
            if limit.slot != NO_SLOT and limit.kind != "spend":  # spend is published as a total by BudgetSync, never replayed
                slot = limit.slot_at(reservation.decided_at)
                self._record_usage(limit, slot, getattr(reservation.costs, limit.kind), getattr(actual, limit.kind))
        return True

    def _record_usage(self, limit: Limit, admission_slot: int, reserved: int, used: int) -> None:
        """Record usage for the replay.

        If the call was admitted before this window, count only the excess over its reservation.
        """
        slot = limit.slot_at(self._now())
        window = self._used.setdefault(limit.key, (limit, Window(slot)))[1]
        slot = window.advance(slot, limit.slots)
        if admission_slot >= slot - limit.slots:
            window.low = min(window.low, admission_slot)
            window.add(min(admission_slot, slot), used)
        else:
            window.add(slot, max(0, used - reserved))

    def recover(self) -> tuple[list[SlotUsage], list[Reservation]]:
        """End the outage. Return the usage of each window to replay, and the open reservations, which the store takes over."""
        for limit, window in self._used.values():
            window.advance(limit.slot_at(self._now()), limit.slots)
        used = [SlotUsage(limit, window.slots) for limit, window in self._used.values() if window.sum]
        still_open = [reservation for reservation, _ in self._admitted.values()]
        self._used.clear()
        self._admitted.clear()
        return used, still_open

    def _count(self, mode: str) -> None:
        self.decisions[mode] = self.decisions.get(mode, 0) + 1

    def _concurrency_share(self, limit: Limit) -> Limit:
        """Return this process's share of a limit on concurrent calls.

        While the store still counts the calls from before the outage, the share is the number of these calls plus a
        part of the remaining amount. The result exceeds the regular share only if the number of these calls does. After
        that time, the regular share applies.
        """
        leases_ended = self._now() - self._began > LEASES_HELD_US
        share = self._shares.get(limit.key)
        if share is not None and (share.amount == limit.amount // self.members or not leases_ended):
            return share
        remaining = self._statuses.get(limit.key, (limit.amount, 0))[0]
        amount, calls_before = limit.amount // self.members, self._call_counts_before.get(limit.key, 0)
        if not leases_ended:
            amount = min(calls_before + max(0, remaining) // self.members, max(calls_before, amount))
        self._shares[limit.key] = new_share = limit.with_amount(amount)
        if share is None:
            reservations = self._calls_before.get(limit.key, {})
            for id in reservations:
                counted = self._local.decide([new_share], NO_COSTS, f"{limit.key} {id}", force=True)
                reservations[id] = counted if isinstance(counted, Reservation) else None
        return new_share

    def _share(self, limit: Limit) -> Limit:
        """Return this process's share of a limit, charged with its part of the usage before the outage."""
        if limit.slot == NO_SLOT:
            return self._concurrency_share(limit)
        share = self._shares.get(limit.key)
        if share is not None:
            return share
        amount = limit.amount // self.members
        share = self._shares[limit.key] = limit.with_amount(amount)
        remaining = self._remaining_before(limit)
        if remaining is not None:
            own_part, divisor = remaining // self.members, MIN_REMAINDER_DIVISOR
            if self._own_usage is not None and limit.kind != "spend":
                # the processes have read the remainders at different moments, but each knows its own usage exactly
                own_part, divisor = min(own_part, amount - self._own_usage.get(limit.key, 0)), MIN_REMAINDER_DIVISOR_AFTER_LOSS
            if limit.kind != "spend" and own_part * divisor < amount:
                own_part = 0
            # earlier usage counts for one more window after the other processes have noticed the outage
            at_time = None if limit.kind == "spend" else self._began + NOTICED_AFTER_US
            self._local.decide([share], costs_of_kind(limit, max(0, amount - own_part)), f"before:{limit.key}", force=True, at_time=at_time)
        return share

    def _remaining_before(self, limit: Limit) -> int | None:
        """Return the amount that remained of a limit when the outage began, or None if it is unknown."""
        seen = self._statuses.get(limit.key)
        if limit.kind == "spend":
            period = limit.slot_at(self._now())
            if seen is None:
                return max(0, limit.amount - self._settled_spend.total(limit.key, period))
            return max(0, seen[0]) if seen[1] >= period else None
        if seen is None or seen[1] + limit.slots < limit.slot_at(self._began + self.clock_offset_us):
            return None
        remaining, refused_at = self._refused.get(limit.key, (0, 0))
        return max(0, min(seen[0], remaining) if refused_at > self._began - NOTICED_AFTER_US else seen[0])
