"""The conditions under which a notification is due: thresholds of budgets by period, targets that go down and recover."""

from __future__ import annotations

import math
from typing import Any

import providers
from gateway.config.notify import NotifyConfig
from gateway.config.provider import CooldownConfig, ProviderConfig
from gateway.config.secret import Secret
from gateway.notify.events import Notification
from gateway.notify.marks import Marks
from gateway.notify.watch import BudgetWatch, TargetWatch
from gateway.store.limit import NANO_PER_USD, Limit, LimitUsage
from gateway.targets.health import TargetHealth
from gateway.targets.registry import TargetRegistry
from providers.base import Failure, Target

BUDGET = Limit("key:search", "spend", 10 * NANO_PER_USD, "month")
TARGET = Target("p/m", "p", providers.get("openai"), "m", "http://localhost/v1", "one")
BROKEN = Failure("server_error", "no", 500)


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1_767_225_600.0

    def __call__(self) -> float:
        return self.now


def settings(**more: Any) -> NotifyConfig:
    """Return notify settings."""
    return NotifyConfig(Secret("https://hooks.example.com"), **more)


def spent(dollars: float, limit: Limit = BUDGET, reserved: float = 0.0, reset_s: float = 86_400.0) -> LimitUsage:
    """Return a usage."""
    return LimitUsage(limit, round((dollars + reserved) * NANO_PER_USD), round(reserved * NANO_PER_USD), reset_s)


class Budgets:
    """A watch of budgets, and the notifications that it sent."""

    def __init__(self, **more: Any) -> None:
        self.sent: list[Notification] = []
        self.clock = Clock()
        self._watch = BudgetWatch(Marks(now=self.clock), self.sent.append, self.clock)
        self._settings = settings(**more)

    async def see(self, *usages: LimitUsage, refused: tuple[LimitUsage, ...] = ()) -> list[float | str | None]:
        """Check these usages. For each notification sent, return its threshold, or its event if it has none."""
        self.sent.clear()
        await self._watch.check(self._settings, usages, refused)
        return [(one.budget and one.budget.threshold) or one.event for one in self.sent]


async def test_each_threshold_is_sent_once_per_period() -> None:
    budgets = Budgets()
    seen = [await budgets.see(spent(dollars)) for dollars in (4.9, 5, 6, 7.9, 8, 8, 10, 11)]
    assert seen == [[], [0.5], [], [], [0.8], [], [1.0], []]


async def test_a_jump_over_several_thresholds_sends_only_the_highest() -> None:
    budgets = Budgets()
    assert [await budgets.see(spent(9)), await budgets.see(spent(9.5)), await budgets.see(spent(10))] == [[0.8], [], [1.0]]


async def test_reserved_amounts_do_not_count_as_spent() -> None:
    budgets = Budgets()
    assert await budgets.see(spent(4, reserved=6)) == []


async def test_a_new_period_sends_again_and_a_late_reading_of_the_old_one_does_not() -> None:
    budgets = Budgets()
    assert await budgets.see(spent(8, reset_s=3600)) == [0.8]
    budgets.clock.now += 3599
    assert await budgets.see(spent(8, reset_s=1)) == []
    budgets.clock.now += 2
    assert await budgets.see(spent(0, reset_s=86_399)) == []
    assert await budgets.see(spent(5, reset_s=86_399)) == [0.5]


async def test_a_total_budget_sends_once_for_ever() -> None:
    limit = Limit("key:search", "spend", 10 * NANO_PER_USD, "total")
    budgets = Budgets()
    assert await budgets.see(spent(5, limit, reset_s=math.inf)) == [0.5]
    budgets.clock.now += 90 * 86_400
    assert await budgets.see(spent(5, limit, reset_s=math.inf)) == []


async def test_a_raised_budget_has_thresholds_of_its_own() -> None:
    budgets = Budgets()
    assert await budgets.see(spent(10)) == [1.0]
    raised = BUDGET.with_amount(20 * NANO_PER_USD)
    assert [await budgets.see(spent(10, raised)), await budgets.see(spent(16, raised))] == [[0.5], [0.8]]


async def test_budgets_of_several_owners_are_apart() -> None:
    other = Limit("team:search", "spend", 10 * NANO_PER_USD, "month")
    assert await Budgets().see(spent(5), spent(8, other)) == [0.5, 0.8]


async def test_a_refusal_is_sent_once_per_period() -> None:
    budgets = Budgets()
    assert await budgets.see(refused=(spent(10),)) == ["budget_refused"]
    assert await budgets.see(refused=(spent(10),)) == []


async def test_events_that_are_not_wanted_and_budgets_of_zero_are_not_sent() -> None:
    assert await Budgets(events=("target_down",)).see(spent(10), refused=(spent(10),)) == []
    none = Limit("key:search", "spend", 0, "month")
    assert await Budgets().see(spent(0, none), refused=(spent(0, none),)) == []


class Targets:
    """A watch of the target p/m, and the notifications that it sent."""

    def __init__(self, **more: Any) -> None:
        self.clock = Clock()
        self.registry = TargetRegistry(self.clock)
        self.registry.configure({"p": ProviderConfig(name="p", cooldown=CooldownConfig(failures=1, time=5, max=5))})
        self.sent: list[Notification] = []
        self.marks = Marks(now=self.clock)
        self._watch = TargetWatch(self.registry, self.marks, self.sent.append)
        self._settings = settings(down_after=30.0, **more)

    @property
    def health(self) -> TargetHealth:
        """Return the health of the target."""
        return self.registry.health_of(TARGET)

    async def after(self, seconds: float) -> list[str]:
        """Check once a second. Return the events that were sent."""
        self.sent.clear()
        for _ in range(round(seconds)):
            self.clock.now += 1
            await self._watch.check(self._settings)
        return [one.event for one in self.sent]

    async def fail_for(self, seconds: int, failure: Failure = BROKEN) -> list[str]:
        """Fail one call a second. Return the events that were sent."""
        events = []
        for _ in range(seconds):
            self.health.record_failure(TARGET, failure, probe=self.health.ejected)
            events += await self.after(1)
        return events


async def test_a_target_that_stays_down_is_sent_once_and_once_when_it_answers_again() -> None:
    targets = Targets()
    assert await targets.fail_for(25) == []
    assert await targets.fail_for(1000) == ["target_down"]
    targets.health.record_success(TARGET, targets.clock.now)
    assert await targets.after(5) == ["target_recovered"]
    assert await targets.fail_for(40) == ["target_down"]


async def test_a_short_outage_is_not_sent() -> None:
    targets = Targets()
    await targets.fail_for(20)
    targets.health.record_success(TARGET, targets.clock.now)
    assert await targets.after(60) == []


async def test_a_cooldown_after_a_429_is_no_outage() -> None:
    targets = Targets()
    assert await targets.fail_for(100, Failure("rate_limit", "slow down", 429, retry_after=300.0)) == []


async def test_the_end_of_a_cooldown_without_an_answer_is_no_recovery() -> None:
    targets = Targets()
    targets.health.record_failure(TARGET, Failure("auth", "no", 401))
    assert await targets.after(700) == ["target_down"]
    assert targets.health.state == "live"
    assert await targets.after(60) == []
    targets.health.record_failure(TARGET, Failure("auth", "no", 401))
    assert await targets.after(60) == []
    targets.health.record_success(TARGET, targets.clock.now)
    assert await targets.after(2) == ["target_recovered"]


async def test_body_names_the_reason_and_the_time() -> None:
    targets = Targets()
    targets.health.record_failure(TARGET, Failure("quota", "spent", 429, retry_after=300.0))
    await targets.after(32)
    body = targets.sent[0].target
    assert body is not None
    assert (body.name, body.seconds, body.reason, body.last_failure) == ("p/m", 30, "quota", "quota")


async def test_events_that_are_not_wanted_are_not_sent() -> None:
    targets = Targets(events=("target_down",))
    assert await targets.fail_for(40) == ["target_down"]
    targets.health.record_success(TARGET, targets.clock.now)
    assert await targets.after(5) == []


async def test_a_removed_target_is_forgotten_without_a_notification() -> None:
    targets = Targets()
    assert await targets.fail_for(40) == ["target_down"]
    targets.registry.configure({})
    assert await targets.after(5) == []
    assert not await targets.marks.release("down:p/m")


async def test_a_second_process_does_not_repeat_an_outage_that_the_first_one_sent() -> None:
    first, second = Targets(), Targets()
    shared = first.marks
    second._watch._marks = shared
    assert await first.fail_for(40) == ["target_down"]
    assert await second.fail_for(40) == []
    for targets in (first, second):
        targets.health.record_success(TARGET, targets.clock.now)
    assert [await second.after(2), await first.after(2)] == [["target_recovered"], []]
