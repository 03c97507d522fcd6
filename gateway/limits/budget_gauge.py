"""How far each budget is used: what the latest decision on it left, for the gauge that says so before calls are refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from gateway.store.limit import LimitStatus


class BudgetGauge:
    """The budgets of keys, teams, models and providers; those of users are too many to be shown."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[str, tuple[float, float]] = {}
        """By owner: the share that is used, and when the budget begins anew."""

    def record(self, standings: Sequence[LimitStatus]) -> None:
        """Remember what a decision found."""
        for one in standings:
            limit = one.limit
            if limit.kind == "spend" and not limit.owner.startswith("user:"):
                self._seen[limit.owner] = 1 - one.remaining / limit.amount if limit.amount else 1.0, self._now() + one.reset_s

    def values(self) -> dict[tuple[str, ...], float]:
        """By kind and name of the owner; what calls in flight may still take counts as used."""
        now = self._now()
        found: dict[tuple[str, ...], float] = {}
        for owner, (used, until) in self._seen.items():
            kind, _, name = owner.partition(":")
            found[kind, name] = used if now < until else 0.0
        return found
