"""Recent refusals by Redis, which apply to further calls for a short time, so that a flood of refused calls causes few commands."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from gateway.store.limit import NO_SLOT, Costs, Limit, Refusal

MAX_REFUSAL_REUSE_S = 1.0
"""Maximum time for which a refusal is repeated without asking Redis."""
BUSY_REFUSAL_REUSE_S = 0.05
"""Maximum time for which a refusal that lasts until a call in flight ends is repeated without asking Redis."""
MAX_REMEMBERED_REFUSALS = 10_000


class RecentRefusals:
    """The refusals that may still apply, by limit."""

    def __init__(self) -> None:
        self.by_key: dict[str, tuple[float, int, Refusal]] = {}
        """For each limit, the time until which its refusal is repeated, the refused amount, and the refusal."""

    @property
    def has_room(self) -> bool:
        """Whether another refusal can be remembered."""
        return len(self.by_key) < MAX_REMEMBERED_REFUSALS

    def add(self, refusal: Refusal, retry_after: float, cost: int) -> None:
        """Remember the refusal of a call that would have used `cost` of the limit."""
        limit = refusal.limit
        reuse_s = BUSY_REFUSAL_REUSE_S if limit.slot == NO_SLOT or refusal.busy else MAX_REFUSAL_REUSE_S
        self.by_key[limit.key] = (time.monotonic() + min(retry_after, reuse_s), cost, refusal)

    def find(self, limits: Sequence[Limit], costs: Costs) -> Refusal | None:
        """Return a recent refusal that still applies, or None."""
        now = time.monotonic()
        for limit in limits:
            known = self.by_key.get(limit.key)
            if known is None:
                continue
            if now >= known[0]:
                del self.by_key[limit.key]
            elif (cost := getattr(costs, limit.kind)) >= known[1]:
                refusal = known[2]
                if limit.slot != NO_SLOT and cost > limit.amount:
                    return msgspec.structs.replace(refusal, retry_after=None)  # the call alone exceeds the limit: waiting does not help
                if refusal.retry_after is None or limit.slot == NO_SLOT or refusal.busy:
                    return refusal
                age_s = min(refusal.retry_after, MAX_REFUSAL_REUSE_S) - (known[0] - now)
                statuses = [msgspec.structs.replace(status, reset_s=max(0.0, status.reset_s - age_s)) for status in refusal.statuses]
                return msgspec.structs.replace(refusal, retry_after=max(refusal.retry_after - age_s, 0.001), statuses=statuses)
        return None
