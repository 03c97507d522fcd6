"""Recent refusals, which are repeated without a command to Redis, so that a flood of refused calls causes few commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from gateway.store.limit import NO_SLOT, Costs, Limit, Refusal

REUSE_S = 1.0
"""Maximum time for which a refusal is repeated."""
BUSY_REUSE_S = 0.05
"""Maximum time for which a refusal that lasts until a call in flight ends is repeated."""
MAX_LIMITS = 10_000
MAX_CALLS = 16
"""Maximum number of different calls for which the refusals of one limit are kept."""

_Call = tuple[Costs, tuple[tuple[str, int], ...]]
"""The properties of a call on which its decision depends: its costs, and the keys and amounts of its limits."""


class RecentRefusals:
    """The recent refusals of one process.

    A refusal is repeated only for calls with the same costs and limits. A call with other costs has another wait, and a call of another key
    of the same team may have to wait for a limit of its own.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.by_limit: dict[str, dict[_Call, tuple[float, Refusal]]] = {}
        """For each limit that refuses calls, by key: the time from which a refusal is not repeated, and the refusal."""

    def find(self, limits: Sequence[Limit], costs: Costs) -> Refusal | None:
        """Return a refusal that applies to a call, or None."""
        call: _Call | None = None
        for limit in limits:
            refusals = self.by_limit.get(limit.key)
            if refusals is None:
                continue
            call = call or _call(limits, costs)
            until, refusal = refusals.get(call, (0.0, None))
            if refusal is None:
                continue
            left_s = until - self._now()
            if left_s > 0:
                return _aged(refusal, _reuse_s(refusal) - left_s)
            del refusals[call]
            if not refusals:
                del self.by_limit[limit.key]
        return None

    def add(self, limits: Sequence[Limit], costs: Costs, refusal: Refusal) -> None:
        """Remember the refusal of a call. `retry_after` must not be None."""
        key = refusal.limit.key
        if len(self.by_limit) >= MAX_LIMITS and key not in self.by_limit:
            self.by_limit.clear()
        refusals = self.by_limit.setdefault(key, {})
        if len(refusals) >= MAX_CALLS:
            refusals.clear()
        refusals[_call(limits, costs)] = self._now() + _reuse_s(refusal), refusal

    def forget(self, limits: Iterable[Limit]) -> None:
        """Forget the refusals of limits whose usage has changed."""
        for limit in limits:
            self.by_limit.pop(limit.key, None)

    def clear(self) -> None:
        """Forget all refusals."""
        self.by_limit.clear()


def _call(limits: Sequence[Limit], costs: Costs) -> _Call:
    return costs, tuple((limit.key, limit.amount) for limit in limits)


def _is_busy(refusal: Refusal) -> bool:
    """Return whether the refusal lasts until a call in flight ends."""
    return refusal.limit.slot == NO_SLOT or refusal.busy


def _reuse_s(refusal: Refusal) -> float:
    assert refusal.retry_after is not None
    return min(refusal.retry_after, BUSY_REUSE_S if _is_busy(refusal) else REUSE_S)


def _aged(refusal: Refusal, age_s: float) -> Refusal:
    """Return a refusal that is `age_s` old, with shorter times. A wait for the end of a call in flight stays the same."""
    assert refusal.retry_after is not None
    wait_s = refusal.retry_after if _is_busy(refusal) else max(refusal.retry_after - age_s, 0.001)
    statuses = [replace(status, reset_s=max(0.0, status.reset_s - age_s)) for status in refusal.statuses]
    waits = [(limit, wait - age_s if wait is not None and wait > REUSE_S else wait) for limit, wait in refusal.waits]
    return replace(refusal, retry_after=wait_s, statuses=statuses, waits=waits)
