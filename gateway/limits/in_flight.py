"""The amounts that calls in flight reserve of each token limit, to tell a used-up limit from one that is only reserved."""

from __future__ import annotations

from msgspec import structs

from gateway.store.limit import TOKEN_KINDS, Costs, Refusal, Reservation

BUSY_RETRY_S = 1.0
"""Retry-After of a refusal that lasts until a call in flight ends, which may happen at any time."""


class InFlight:
    """The reservations of this process. Those of other processes are unknown, so their share counts as used."""

    def __init__(self) -> None:
        self._open: dict[str, dict[str, tuple[int, int]]] = {}
        """For each limit, the time and amount of each reservation by its id."""

    def add(self, reservation: Reservation) -> None:
        """Remember a reservation until it is settled."""
        for limit in reservation.limits:
            if limit.kind in TOKEN_KINDS:
                amount = getattr(reservation.costs, limit.kind)
                self._open.setdefault(limit.key, {})[reservation.id] = reservation.decided_at, amount

    def remove(self, reservation: Reservation) -> None:
        """Forget a reservation that is settled."""
        for limit in reservation.limits:
            if limit.kind in TOKEN_KINDS and (held := self._open.get(limit.key)) is not None:
                held.pop(reservation.id, None)
                if not held:
                    del self._open[limit.key]

    def judge(self, refusal: Refusal, costs: Costs) -> Refusal:
        """Return the refusal with a short wait if the call would fit without the reservations of calls in flight."""
        limit = refusal.limit
        if limit.kind not in TOKEN_KINDS or refusal.unavailable or (refusal.retry_after or 0) <= BUSY_RETRY_S:
            return refusal
        begin = refusal.decided_at - limit.slot * limit.slots  # older reservations no longer count in the window
        held = sum(amount for decided_at, amount in self._open.get(limit.key, {}).values() if decided_at >= begin)
        remaining = next((status.remaining for status in refusal.statuses if status.limit is limit), 0)
        if remaining + held < getattr(costs, limit.kind):
            return refusal
        return structs.replace(refusal, retry_after=BUSY_RETRY_S, busy=True)
