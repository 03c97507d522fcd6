"""The used share of each budget, for the gauge `lockgate_budget_used_ratio`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from gateway.store.limit import LimitStatus


class BudgetGauge:
    """Usage of the budgets of keys, teams, models and providers. Users are left out: there are too many for a metric."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._used: dict[tuple[str, str], tuple[float, float]] = {}
        """For each owner and budget, the used share and the time at which the budget's next period begins."""

    def record(self, statuses: Sequence[LimitStatus]) -> None:
        """Record the state of budgets that the latest decision reports."""
        for status in statuses:
            limit = status.limit
            if limit.kind == "spend" and not limit.owner.startswith("user:"):
                share = 1 - status.remaining / limit.amount if limit.amount else 1.0
                self._used[limit.owner, limit.key] = share, self._now() + status.reset_s

    def values(self) -> dict[tuple[str, ...], float]:
        """Return the used share by kind and name of the owner: the largest share if it has several budgets.

        Amounts reserved by calls in flight count as used.
        """
        now = self._now()
        shares: dict[tuple[str, ...], float] = {}
        for (owner, _), (share, until) in self._used.items():
            kind, _, name = owner.partition(":")
            shares[kind, name] = max(shares.get((kind, name), 0.0), share if now < until else 0.0)
        return shares
