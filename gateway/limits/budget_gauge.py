"""The spent and the reserved share of each budget, for the gauges `lockgate_budget_*_ratio`.

A decision or settlement only notes the budget. The usage of a noted budget is read from the store before the gauges are
shown. The usage is read again as long as calls in flight reserve a part of the budget, because other processes settle calls too.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Literal, TypeAlias

import msgspec

from gateway.store.errors import StoreUnavailableError
from gateway.store.limit import Limit, Limiter, LimitUsage, Refusal
from gateway.store.limit_set import limit_set
from gateway.store.memory import BUSY_RETRY_S

MAX_READ = 500
"""Maximum number of budgets that one refresh reads. The remaining budgets are read by later refreshes."""
READ_TIMEOUT_S = 1.0
MAX_BUDGETS = 5000
"""Maximum number of budgets whose shares are kept.

The number of budgets needs a limit, because every caller with a token may have its own budget.
"""
Declared: TypeAlias = Callable[[Collection[str]], Iterable[Limit]]


class BudgetShares(msgspec.Struct, frozen=True):
    """The spent and the reserved share of a budget, valid until the next period begins."""

    used: float
    reserved: float
    until: float


class BudgetGauge:
    """Usage of the budgets of keys, teams, models, providers and targets.

    Budgets of users are left out, because there are too many users for a metric.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._noted: dict[str, Limit] = {}
        """Budgets to read from the store, by key."""
        self._being_read: dict[str, Limit] = {}
        """Budgets whose usage the store has not returned yet, by key."""
        self._shares: dict[tuple[str, str], BudgetShares] = {}
        """Shares by owner and key of the budget."""
        self._news: dict[str, LimitUsage] = {}
        """Usage read since the last call of `take_news`, by key."""
        self._refusals: dict[str, LimitUsage] = {}
        """Budgets that refused a call since the last call of `take_news`, by key."""
        self._unchecked: dict[str, str] = {}
        """Owners of budgets that may have another amount now, or may no longer exist, by key of the budget."""
        self._successor: BudgetGauge | None = None

    def hand_over(self, successor: BudgetGauge) -> None:
        """Let the gauge of a new configuration take over the known budgets, and those that calls in flight still settle."""
        self.recheck()
        successor._unchecked |= self._unchecked
        successor._refusals |= self._refusals
        self._successor = successor

    def recheck(self) -> None:
        """Let the next refresh find out which of the known budgets still exist, and their amounts."""
        noted = (*self._noted.values(), *self._being_read.values())
        self._unchecked |= {limit.key: limit.owner for limit in noted} | {key: owner for owner, key in self._shares}

    def note(self, limits: Sequence[Limit]) -> None:
        """Note the budgets among these limits, because a decision or settlement has changed their usage."""
        if not limit_set(limits).needs.has_budgets:
            return
        if self._successor is not None:
            self._successor._inherit(limits)
            return
        for limit in limits:
            if limit.kind == "spend" and not limit.owner.startswith("user:"):
                if len(self._noted) >= MAX_BUDGETS and limit.key not in self._noted:
                    continue
                self._noted[limit.key] = limit

    def _inherit(self, limits: Sequence[Limit]) -> None:
        """Note budgets that a call of a replaced configuration has changed. Their amounts are those of that configuration."""
        if self._successor is not None:
            self._successor._inherit(limits)
        elif len(self._unchecked) < MAX_BUDGETS:
            self._unchecked |= {limit.key: limit.owner for limit in limits if limit.kind == "spend"}

    def _check_known(self, declared: Declared) -> None:
        """Note the unchecked budgets that are declared, and forget the others, except those of callers with tokens."""
        unchecked, self._unchecked = self._unchecked, {}
        found = {limit.key: limit for limit in declared(dict.fromkeys(unchecked.values())) if limit.key in unchecked}
        gone = unchecked.keys() - found.keys()
        self._shares = {at: shares for at, shares in self._shares.items() if at[1] not in gone or _may_have_token(at[0])}
        self._noted = {key: limit for key, limit in self._noted.items() if key not in gone or _may_have_token(limit.owner)}
        self.note(list(found.values()))

    def note_refusal(self, refusal: Refusal) -> None:
        """Note each budget that refused a call, unless calls in flight reserve the rest of it or the call alone exceeds it.

        A refusal that was decided without the store is not noted either.
        """
        if self._successor is not None:
            self._successor.note_refusal(refusal)
            return
        if refusal.unavailable or refusal.degraded:
            return
        own_wait_s = BUSY_RETRY_S if refusal.busy else refusal.retry_after
        for limit, wait_s in refusal.waits or ((refusal.limit, own_wait_s),):
            has_room = len(self._refusals) < MAX_BUDGETS or limit.key in self._refusals
            is_used_up = wait_s is not None and wait_s != BUSY_RETRY_S
            if is_used_up and has_room and limit.kind == "spend" and not limit.owner.startswith("user:"):
                self._refusals[limit.key] = LimitUsage(limit, limit.amount, 0, wait_s or 0.0)

    def take_news(self) -> tuple[list[LimitUsage], list[LimitUsage]]:
        """Return the budgets whose usage was read, and those that refused a call, since the last call of this method."""
        news, self._news = self._news, {}
        refusals, self._refusals = self._refusals, {}
        return list(news.values()), list(refusals.values())

    async def refresh(self, limiter: Limiter, declared: Declared = lambda owners: ()) -> None:
        """Read the usage of the noted budgets. If the store fails or is slow, keep the known shares, and read the usage next time.

        `declared` returns the limits that some owners have now. It is called only after a change of the configuration or of run-time keys.
        """
        if self._unchecked:
            self._check_known(declared)
        if not self._noted:
            return
        asked = dict(islice(self._noted.items(), MAX_READ))
        for key in asked:
            del self._noted[key]
        self._being_read |= asked
        usages: list[LimitUsage] = []
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                usages = await limiter.usage(list(asked.values()))
        except (StoreUnavailableError, TimeoutError):
            pass
        finally:
            for key in asked:
                self._being_read.pop(key, None)
            # a budget that was noted meanwhile may have a new amount, so it is not replaced
            settled = {usage.limit.key for usage in usages if not usage.reserved}
            self._noted |= {key: limit for key, limit in asked.items() if key not in settled and key not in self._noted}
        self.record(usages)

    def record(self, usages: Iterable[LimitUsage]) -> None:
        """Record the usage of budgets."""
        now = self._now()
        for usage in usages:
            limit, reserved = usage.limit, usage.reserved or 0
            if limit.amount:
                used, share = (usage.used - reserved) / limit.amount, reserved / limit.amount
                shares = BudgetShares(used, share, now + usage.reset_s)
            else:
                shares = BudgetShares(1.0, 0.0, math.inf)
            key = (limit.owner, limit.key)
            if len(self._shares) >= MAX_BUDGETS and key not in self._shares:
                self._shares = {key: shares for key, shares in self._shares.items() if shares.until > now}
            if len(self._shares) < MAX_BUDGETS or key in self._shares:
                self._shares[key] = shares
            if len(self._news) < MAX_BUDGETS or limit.key in self._news:
                self._news[limit.key] = usage

    def values(self, share: Literal["used", "reserved"]) -> dict[tuple[str, ...], float]:
        """Return the share of each owner, by kind and name: the largest share if the owner has several budgets."""
        now = self._now()
        values: dict[tuple[str, ...], float] = {}
        for (owner, _), shares in self._shares.items():
            kind, _, name = owner.partition(":")
            value: float = getattr(shares, share) if now < shares.until else 0.0
            values[kind, name] = max(values.get((kind, name), 0.0), value)
        return values


def _may_have_token(owner: str) -> bool:
    """Return whether an owner may be a caller with a token (ISSUER/SUBJECT), whose budgets are not declared under its name."""
    return owner.startswith("key:") and "/" in owner
