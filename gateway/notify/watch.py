"""Decides which notifications are due: budgets that reached a threshold or refused a call, and targets that went down or recovered."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

import msgspec

from gateway.config.notify import NotifyConfig
from gateway.notify.events import Notification, budget_reached, budget_refused, spent_share, target_down, target_recovered
from gateway.notify.marks import Marks
from gateway.store.limit import LimitUsage
from gateway.targets.health import TargetHealth
from gateway.targets.registry import TargetRegistry

PERIOD_MARGIN_S = 86_400.0
"""Time for which a mark outlives its period, because clocks differ."""
TOTAL_MARK_S = 400 * 86_400.0
"""Lifetime of the mark of a budget that is never reset."""
DOWN_MARK_S = 600.0
"""Lifetime of the mark of a target that is down. It is renewed while the target is down, and expires if all processes end."""
RENEW_AFTER_S = 120.0
_PERIOD_STEP_S = 900
"""All periods end at multiples of this number of seconds since 1970, in every time zone."""

Send = Callable[[Notification], None]


class BudgetWatch:
    """Notifies when a budget reaches a threshold or refuses a call, at most once per period for each threshold and for refusals."""

    def __init__(self, marks: Marks, send: Send, now: Callable[[], float] = time.time) -> None:
        self._marks = marks
        self._send = send
        self._now = now

    async def check(self, config: NotifyConfig, usages: Iterable[LimitUsage], refused: Iterable[LimitUsage]) -> None:
        """Send the notifications that are due. `refused` are the budgets that refused a call."""
        if "budget" in config.events:
            for usage in usages:
                if usage.limit.amount:
                    await self._check_thresholds(config.budget_thresholds, usage)
        if "budget_refused" in config.events:
            for usage in refused:
                if usage.limit.amount and await self._claim(usage, "refused"):
                    self._send(budget_refused(usage.limit))

    async def _check_thresholds(self, thresholds: Iterable[float], usage: LimitUsage) -> None:
        """Notify once of the highest threshold that is reached.

        Mark the lower thresholds as well, so that no notifications of the lower thresholds follow.
        """
        share = spent_share(usage)
        reached = sorted((threshold for threshold in thresholds if share >= threshold), reverse=True)
        is_new = [await self._claim(usage, f"{threshold:g}") for threshold in reached]
        if is_new and is_new[0]:
            self._send(budget_reached(usage, reached[0], self._now()))

    async def _claim(self, usage: LimitUsage, what: str) -> bool:
        """Mark an event of a budget in its period. Return whether the event is new.

        After a change of the amount, every event is new again.
        """
        limit = usage.limit
        if usage.reset_s == math.inf:
            return await self._marks.claim(f"{limit.key}:{limit.amount}:{what}", TOTAL_MARK_S)
        end = round((self._now() + usage.reset_s) / _PERIOD_STEP_S)
        return await self._marks.claim(f"{limit.key}:{end}:{limit.amount}:{what}", usage.reset_s + PERIOD_MARGIN_S)


class _Outage(msgspec.Struct):
    """The outage of a target. `marked_at` is the time at which the target's mark was last set or renewed.

    Times are those of the registry's clock.
    """

    since: float
    reason: str | None = None
    marked_at: float | None = None


class TargetWatch:
    """Notifies once when a target has been down for `down_after`, and once when it answers again."""

    def __init__(self, registry: TargetRegistry, marks: Marks, send: Send) -> None:
        self._registry = registry
        self._marks = marks
        self._send = send
        self._outages: dict[str, _Outage] = {}

    async def check(self, config: NotifyConfig) -> None:
        """Send the notifications that are due."""
        now = self._registry.clock()
        targets = {health.name: health for health in self._registry.all()}
        for name, health in targets.items():
            if health.is_down:
                await self._check_outage(config, health, self._outages.setdefault(name, _Outage(now)), now)
        for name, outage in list(self._outages.items()):
            target = targets.get(name)
            if target is None or has_recovered(target):
                del self._outages[name]
                await self._end(config, name, outage, now, is_removed=target is None)

    async def _check_outage(self, config: NotifyConfig, health: TargetHealth, outage: _Outage, now: float) -> None:
        outage.reason = health.cooldown.reason or outage.reason
        if outage.marked_at is None:
            if now - outage.since < config.down_after:
                return
            outage.marked_at = now
            if await self._marks.claim(_mark(health.name), DOWN_MARK_S) and "target_down" in config.events:
                self._send(target_down(health.name, now - outage.since, outage.reason, health.last_failure))
        elif now - outage.marked_at > RENEW_AFTER_S:
            outage.marked_at = now
            await self._marks.renew(_mark(health.name), DOWN_MARK_S)

    async def _end(self, config: NotifyConfig, name: str, outage: _Outage, now: float, *, is_removed: bool) -> None:
        if outage.marked_at is None:
            return
        is_first = await self._marks.release(_mark(name))
        if is_first and not is_removed and "target_recovered" in config.events:
            self._send(target_recovered(name, now - outage.since))


def has_recovered(health: TargetHealth) -> bool:
    """Return whether a target answers again.

    The end of a cooldown proves this only after a rate limit: after other failures, a call or probe must succeed.
    """
    return not health.is_down and health.cooldown.reason in (None, "rate_limit")


def _mark(name: str) -> str:
    return f"down:{name}"
