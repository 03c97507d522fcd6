"""The amounts that calls in flight reserve of each token limit, which distinguish a used-up limit from a reserved one."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from gateway.store.limit import TOKEN_KINDS, Costs, Limit, LimitStatus, Refusal, Reservation
from gateway.store.limit_set import limit_set
from gateway.store.limit_state import limit_state
from gateway.store.memory import is_longer

BUSY_RETRY_S = 1.0
"""Retry-After of a refusal that lasts until a call in flight ends, because a call may end at any time."""


class InFlight:
    """The reservations of this process, which are used if the store does not return the reservations of all processes."""

    def __init__(self) -> None:
        self._open: dict[str, dict[str, tuple[int, int]]] = {}
        """For each limit, the time and amount of each reservation by its id."""

    def add(self, reservation: Reservation) -> None:
        """Remember a reservation until it is settled."""
        for limit in limit_set(reservation.limits).tokens:
            held = self._open.get(limit.key)
            if held is None:
                held = self._open[limit.key] = {}
            held[reservation.id] = reservation.decided_at, getattr(reservation.costs, limit.kind)

    def remove(self, reservation: Reservation) -> None:
        """Forget a reservation that is settled."""
        for limit in limit_set(reservation.limits).tokens:
            if (held := self._open.get(limit.key)) is not None:
                held.pop(reservation.id, None)
                if not held:
                    del self._open[limit.key]

    def judge(self, refusal: Refusal, costs: Costs) -> Refusal:
        """Return the refusal, with a short wait if the call would be admitted without the reservations of calls in flight.

        If another limit refuses the call for longer, the refusal names that limit and its wait.
        """
        if refusal.unavailable or not self._waits_for_calls(refusal, refusal.limit, refusal.retry_after, costs):
            return refusal
        judged = structs.replace(refusal, retry_after=BUSY_RETRY_S, busy=True)
        for limit, wait in refusal.waits:
            if is_longer(wait, judged.retry_after) and not self._waits_for_calls(refusal, limit, wait, costs):
                judged = structs.replace(refusal, limit=limit, retry_after=wait)
        return judged

    def _waits_for_calls(self, refusal: Refusal, limit: Limit, wait_s: float | None, costs: Costs) -> bool:
        """Return whether a limit on tokens refuses a call only because of calls in flight, whose end shortens the wait."""
        if limit.kind not in TOKEN_KINDS or (wait_s or 0) <= BUSY_RETRY_S:
            return False
        status = next((status for status in refusal.statuses if status.limit is limit), LimitStatus(limit, 0, 0.0))
        cost: int = getattr(costs, limit.kind)
        return self._unspent(status, refusal.decided_at) >= cost

    def _unspent(self, status: LimitStatus, decided_at: int) -> int:
        """Return what would remain of a limit without the reservations of calls in flight: less than 0 if usage exceeds the limit."""
        return status.remaining - status.excess + (self.reserved(status, decided_at) or 0)

    def used_up(self, refusal: Refusal) -> Refusal | None:
        """Return the refusal by a limit on tokens or spend that is used up even without reservations, with the longest wait.

        Return None if calls in flight reserve the rest of all limits that refuse the call. The reservations of the
        refused call itself count as reservations of calls in flight.
        """
        statuses = {status.limit.key: status for status in refusal.statuses}
        found: Refusal | None = None
        for limit, wait in refusal.waits:
            status = statuses.get(limit.key)
            if status is not None and self._unspent(status, refusal.decided_at) > 0:
                continue
            if found is None or is_longer(wait, found.retry_after):
                found = structs.replace(refusal, limit=limit, retry_after=wait, busy=False)
        return found

    def reserved(self, status: LimitStatus, decided_at: int) -> int | None:
        """Return the amount of a limit that calls in flight reserve. Return None for limits on requests and concurrent calls."""
        limit = status.limit
        if status.reserved is not None or limit.kind not in TOKEN_KINDS:
            return status.reserved
        begin = decided_at - limit.slot * limit.slots  # older reservations no longer count in the window
        return sum(amount for decided_at, amount in self._open.get(limit.key, {}).values() if decided_at >= begin)

    def states(self, refusal: Refusal) -> list[dict[str, Any]]:
        """Return the states of all limits of a refused call as JSON values. The limit that refuses the call is marked. Money is in USD."""
        return [
            limit_state(status, self.reserved(status, refusal.decided_at), refused=status.limit is refusal.limit)
            for status in refusal.statuses
        ]
