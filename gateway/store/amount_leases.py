"""Leases of amounts: a process reserves amounts of busy limits in advance, and then admits calls without asking the store.

A lease is a reservation for several calls that is requested together with the decision on one call. The store counts it like the
reservation of a call, so all processes together never exceed a limit. At the end of a lease, the calls in flight are reserved one by
one, and then the lease is settled with the usage of the calls that have ended. The store therefore never counts too little.

    when        HOT_CALLS calls under the same limits have followed each other, and at most MAX_TOGETHER calls share a command
    which       limits on requests and tokens that are not strict; only calls, not the charges of running calls
    how long    MAX_LEASE_S, but not beyond the slot that the store has charged: the calls of a slot are those admitted in it
    how much    at most 1/MAX_PART of a limit and 1/MAX_PART_LEFT of what remains of it, for the leases of all processes together

Other processes cannot use what is left of a lease while it lasts. During an outage, leases admit nothing, and the store counts them
until it decides again. Calls that are in flight then are charged to a later slot than that of their admission, so they count
longer. A stop returns all leases, also those that are granted afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Protocol

from gateway.store.limit import US_PER_S, Costs, Kind, Limit, LimitStatus, Refusal, Reservation
from gateway.store.limit_set import LimitSet, limit_set
from gateway.store.script_args import PendingDecision

MAX_LEASE_S = 0.1
SLOT_PART = 0.9
"""The part of the rest of a slot for which a lease lasts at most, because two clocks may run at different speeds."""
HOT_GAP_S = 0.01
"""Maximum time between two calls that count as following each other."""
HOT_CALLS = 8
"""Number of calls that follow another call before a lease is requested."""
MAX_TOGETHER = 4
"""Number of decisions in one command above which leases would save nothing."""
MIN_CALLS, MAX_CALLS = 8, 512
"""Minimum and maximum number of calls for which a lease has amounts."""
MAX_PART = 100
MAX_PART_LEFT = 8
MAX_LINES = 4096
"""Maximum number of sets of limits whose calls are watched."""
_KINDS: frozenset[Kind] = frozenset({"requests", "tokens", "prompt_tokens", "output_tokens"})


class Store(Protocol):
    """The part of a limiter that leases use."""

    instance: str
    decides: bool

    @property
    def members(self) -> int:
        """Number of processes that share the store."""
        ...

    def settle(self, reservation: Reservation, actual: Costs) -> None:
        """Replace the reserved amounts with the used amounts."""
        ...

    def reserve_open(self, calls: Sequence[Reservation]) -> None:
        """Reserve the amounts of calls in flight, even if limits are exceeded."""
        ...


class _Line:
    """The calls under one set of limits."""

    __slots__ = ("calls", "is_asked", "last", "lease", "size")

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.is_asked = False
        self.size = MIN_CALLS
        self.last = 0.0
        """Time of the last call on which the store decided, or of the end of the last lease."""
        self.calls = 0
        """Number of calls that followed another call."""

    def is_hot(self, now: float) -> bool:
        """Count a call on which the store decides. Return whether to request a lease."""
        self.calls = self.calls + 1 if now - self.last < HOT_GAP_S else 0
        self.last = now
        return self.calls >= HOT_CALLS and not self.is_asked and self.lease is None


class Lease:
    """A lease that the store has granted, and the calls that it has admitted."""

    __slots__ = ("_amounts", "_asked_at", "_left", "_used", "calls", "count", "ends", "line", "reservation", "timer")

    def __init__(self, line: _Line, reservation: Reservation, asked_at: float, ends: float) -> None:
        self.line = line
        self.reservation = reservation
        self._asked_at = asked_at
        self.ends = ends
        """Time from which it admits no calls."""
        self._amounts = limit_set(reservation.limits).amounts
        self._left: list[int] = [*self._amounts(reservation.costs)]
        self._used = (0, 0, 0)
        """The requests, prompt tokens and output tokens of the calls that have ended."""
        self.calls: dict[str, Reservation] = {}
        """The calls in flight, by their id."""
        self.count = 0
        """Number of admitted calls."""
        self.timer: asyncio.TimerHandle | None = None

    def admit(self, costs: Costs, id: str, now: float) -> Reservation | None:
        """Admit a call, or return None if what is left of the lease does not suffice."""
        lease, left = self.reservation, self._left
        amounts: tuple[int, ...] = self._amounts(costs)
        for index, amount in enumerate(amounts):
            if amount > left[index]:
                return None
        elapsed_s = now - self._asked_at
        statuses: list[LimitStatus] = []
        for index, status in enumerate(lease.statuses):
            left[index] -= amounts[index]
            statuses.append(LimitStatus(status.limit, status.remaining + left[index], max(0.0, status.reset_s - elapsed_s)))
        self.count += 1
        decided_at = lease.decided_at + int(elapsed_s * US_PER_S)
        call = self.calls[id] = Reservation(id, lease.limits, costs, lease.slots, tuple(statuses), decided_at)
        return call

    def settle(self, id: str, actual: Costs) -> bool:
        """Replace the amounts of a call with its usage. Return False if the calls have used more than the lease has.

        What the call has not used is available to the next calls.
        """
        call = self.calls.pop(id)
        requests, prompt, output = self._used
        self._used = requests + actual.requests, prompt + actual.prompt_tokens, output + actual.output_tokens
        left, reserved = self._left, self._amounts(call.costs)
        for index, amount in enumerate(self._amounts(actual)):
            # a part charged while the call was running makes the rest negative, but a lease never has more than it has reserved
            left[index] += reserved[index] - max(0, amount)
        return min(left) >= 0

    def used(self) -> Costs:
        """Return the usage of the calls that have ended."""
        return Costs(*self._used)

    @property
    def duration_s(self) -> float:
        """The time from the request for the lease to its end."""
        return self.ends - self._asked_at


class LeaseRequest:
    """Receives the decision on a lease."""

    __slots__ = ("_leases", "asked_at", "costs", "limits", "line")

    def __init__(self, leases: AmountLeases, line: _Line, limits: LimitSet, costs: Costs, asked_at: float) -> None:
        self._leases = leases
        self.line = line
        self.limits = limits
        self.costs = costs
        self.asked_at = asked_at

    def done(self) -> bool:
        """Return False: the decision is always needed."""
        return False

    def set_result(self, result: Reservation | Refusal | None, /) -> None:
        """Take the decision, None if there is none."""
        self._leases.take(self, result)


class AmountLeases:
    """The leases of one process."""

    def __init__(self, store: Store, remaining: Callable[[Limit], int], now: Callable[[], float] = monotonic) -> None:
        """`remaining` returns what remained of a limit at the last decision, 0 if it is unknown. `now` is a clock of seconds."""
        self._store = store
        self._remaining = remaining
        self._now = now
        self._number = 0
        self._lines: dict[LimitSet, _Line | None] = {}
        """The calls under each set of limits, None if there are no leases for these limits."""
        self._lent: dict[str, int] = {}
        """The amounts of requested and open leases, by the key of the limit."""
        self._asked: list[PendingDecision] = []
        self._leases: dict[Lease, None] = {}
        self._calls: dict[str, Lease] = {}
        """The leases of the calls in flight that leases have admitted, by the id of the call."""
        self._is_stopped = False
        self._closed: list[Lease] = []
        """Leases that have ended, but are not settled because the store does not decide."""
        self.granted = 0
        """Number of leases that have begun."""
        self.admitted = 0
        """Number of calls that leases have admitted."""

    def admit(self, limits: LimitSet, costs: Costs, id: str) -> Reservation | None:
        """Admit a call from a lease. Return None if the store must decide."""
        line = self._lines.get(limits)
        if line is None or (lease := line.lease) is None or not costs.requests:
            return None
        if id in self._calls:
            return self._calls[id].calls[id]
        now = self._now()
        if now >= lease.ends:
            self._on_time(lease)
            return None
        call = lease.admit(costs, id, now)
        if call is None:
            line.size, line.last = min(MAX_CALLS, 2 * line.size), now
            self._end(lease)
            return None
        self._calls[id] = lease
        self.admitted += 1
        return call

    def settle(self, call: Reservation, actual: Costs) -> bool:
        """Settle a call of an open lease. Return False if no open lease has admitted the call."""
        lease = self._calls.pop(call.id, None)
        if lease is None:
            return False
        if not lease.settle(call.id, actual) and lease in self._leases:
            self._end(lease)  # so that the store learns at once that more was used than reserved
        return True

    def watch(self, limits: LimitSet, costs: Costs) -> None:
        """Count a call on which the store decides. Request a lease if such calls follow each other quickly."""
        if not costs.requests:
            return
        line = self._lines.get(limits)
        if line is None and (limits in self._lines or (line := self._add_line(limits)) is None):
            return
        now = self._now()
        if not line.is_hot(now):
            return
        calls = min(line.size, *(self._most_calls(limit, getattr(costs, limit.kind)) for limit in limits))
        if calls < MIN_CALLS:
            return
        self._number += 1
        lent = Costs(calls * costs.requests, calls * costs.prompt_tokens, calls * costs.output_tokens)
        self._lend(limits, lent)
        line.is_asked = True
        id = f"{self._store.instance}:{self._number}"
        self._asked.append(PendingDecision(limits, lent, id, LeaseRequest(self, line, limits, lent, now)))

    def add_asked(self, queued: Mapping[str, list[PendingDecision]]) -> None:
        """Add the requests for leases to the decisions that are about to be sent: last, so that a lease refuses no call.

        Drop the requests if many calls are decided together.
        """
        asked, self._asked = self._asked, []
        for each in asked:
            decisions = queued[limit_set(each.limits).side]
            if len(decisions) > MAX_TOGETHER or self._is_stopped:
                each.future.set_result(None)
            else:
                decisions.append(each)

    def take(self, request: LeaseRequest, decision: Reservation | Refusal | None) -> None:
        """Begin a lease, if the store has granted it."""
        line = request.line
        line.is_asked = False
        if not isinstance(decision, Reservation):
            line.calls = 0
            self._lend(request.limits, request.costs, -1)
            return
        now = decision.decided_at
        left_s = min((limit.slot_at(now) + 1) * limit.slot - now for limit in decision.limits) / US_PER_S
        lease = Lease(line, decision, request.asked_at, request.asked_at + min(MAX_LEASE_S, SLOT_PART * left_s))
        self._leases[lease] = None
        line.lease = lease
        scarce = any(each.remaining < (MAX_PART_LEFT - 1) * getattr(request.costs, each.limit.kind) for each in decision.statuses)
        if scarce or self._is_stopped or not self._store.decides:
            line.calls = 0
            self._end(lease)
            return
        self.granted += 1
        lease.timer = asyncio.get_running_loop().call_later(max(0.0, lease.ends - self._now()), self._on_time, lease)

    def end_under(self, limits: Collection[Limit]) -> None:
        """End the leases under any of these limits."""
        keys = {limit.key for limit in limits}
        if not keys.isdisjoint(self._lent):
            for lease in list(self._leases):
                if any(limit.key in keys for limit in lease.reservation.limits):
                    self._end(lease)

    def end_all(self) -> None:
        """End all leases."""
        for lease in list(self._leases):
            self._end(lease)

    def stop(self) -> None:
        """End all leases, and those that are granted from now on at once. No further ones are requested."""
        self._is_stopped = True
        self.end_all()

    def settle_closed(self) -> None:
        """Settle the leases that have ended. Call this when the store decides again after an outage."""
        closed, self._closed = self._closed, []
        for lease in closed:
            for id in lease.calls:
                del self._calls[id]
            self._store.reserve_open(list(lease.calls.values()))
            self._store.settle(lease.reservation, lease.used())

    def _add_line(self, limits: LimitSet) -> _Line | None:
        if len(self._lines) >= MAX_LINES:
            self._lines = {each: line for each, line in self._lines.items() if line is not None and (line.lease or line.is_asked)}
        line = _Line() if all(limit.kind in _KINDS and not limit.strict for limit in limits) else None
        self._lines[limits] = line
        return line

    def _most_calls(self, limit: Limit, cost: int) -> int:
        """Return the number of calls for which a lease may have amounts of a limit."""
        if cost <= 0:
            return MAX_CALLS
        most = min(limit.amount // MAX_PART, self._remaining(limit) // MAX_PART_LEFT) // self._store.members
        return max(0, most - self._lent.get(limit.key, 0)) // cost

    def _lend(self, limits: Sequence[Limit], costs: Costs, sign: int = 1) -> None:
        for limit in limits:
            lent = self._lent.get(limit.key, 0) + sign * getattr(costs, limit.kind)
            if lent:
                self._lent[limit.key] = lent
            else:
                self._lent.pop(limit.key, None)

    def _on_time(self, lease: Lease) -> None:
        """End a lease whose time is over. The next one has amounts for as many calls as followed each other, and as many again."""
        line, whole = lease.line, int(lease.count * MAX_LEASE_S / lease.duration_s)
        line.size = max(MIN_CALLS, min(line.size, 2 * whole))
        line.last = lease.ends
        if whole < MIN_CALLS:
            line.calls = 0
        self._end(lease)

    def _end(self, lease: Lease) -> None:
        if lease.timer is not None:
            lease.timer.cancel()
            lease.timer = None
        del self._leases[lease]
        lease.line.lease = None
        self._lend(lease.reservation.limits, lease.reservation.costs, -1)
        self._closed.append(lease)
        if self._store.decides:
            self.settle_closed()
