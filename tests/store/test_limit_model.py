"""Memory and the scripts of Redis decide as a plain model does, in random sequences of calls at random times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.store import script_args
from gateway.store.decision_reply import read_decision
from gateway.store.limit import NO_COSTS, TOKEN_KINDS, US_PER_S, Costs, Limit, Refusal, Reservation
from gateway.store.limit_usage import _read_reply, _usage_args
from gateway.store.memory import MemoryLimiter
from gateway.store.periods import DAY_US
from gateway.store.script_args import PendingDecision
from gateway.store.scripts import ADMIT, PUBLISH, SETTLE
from gateway.store.settled_spend import SettledSpend, SpendEntry
from gateway.store.usage_script import READ_USAGE
from tests.store.frozen_scripts import NO_RUN, run_at
from tests.store.limit_model import START, Course, Model, Verdict
from tests.support.search import examples

STEPS = 40
LEASE = 10**15


class MemoryStore:
    """The limiter in memory with the clock of a course."""

    def __init__(self, course: Course) -> None:
        self.limiter = MemoryLimiter(lambda: course.now)
        self._open: dict[str, Reservation] = {}

    def decide(self, limits: Sequence[Limit], costs: Costs, id: str, now: int) -> Reservation | Refusal:
        """Admit or refuse a call."""
        found = self.limiter.decide(limits, costs, id)
        if isinstance(found, Reservation):
            self._open[id] = found
            assert self.limiter.decide(limits, costs, id) is found
        return found

    def settle(self, id: str, actual: Costs, now: int) -> None:
        """Settle a call, twice."""
        held = self._open.pop(id)
        for _ in range(2):
            self.limiter.settle(held, actual)

    async def used(self, limits: Sequence[Limit], now: int) -> list[int]:
        """Return the used amounts."""
        return [usage.used for usage in await self.limiter.usage(limits)]

    async def resets(self, limits: Sequence[Limit], now: int) -> list[float]:
        """Return the seconds until each limit is reset."""
        return [usage.reset_s for usage in await self.limiter.usage(limits)]


class ScriptStore:
    """The scripts in a real Redis, with a clock that the test sets."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._client.flushall()
        self._open: dict[str, Reservation] = {}
        self._spent = SettledSpend("me")

    def _run(self, script: str, keys: list[str], arguments: list[Any], now: int) -> Any:
        return run_at(self._client, script, keys, arguments, now)

    def decide(self, limits: Sequence[Limit], costs: Costs, id: str, now: int) -> Reservation | Refusal:
        """Admit or refuse a call."""
        asked = PendingDecision(limits, costs, id, object())
        entry = self._run(ADMIT, *script_args.admit_args([asked], self._spent, LEASE, NO_RUN), now)[0]
        assert entry[1] == now
        assert entry[0] in (0, 1)
        found = read_decision(asked, entry, 0)
        if isinstance(found, Reservation):
            self._open[id] = found
        return found

    def settle(self, id: str, actual: Costs, now: int) -> None:
        """Settle a call, twice."""
        held = self._open.pop(id)
        for index, limit in enumerate(held.limits):
            if limit.kind == "spend":
                self._spent.add(limit.key, held.slots[index], actual.spend)
        for count in (1, 0):
            assert self._run(SETTLE, *script_args.settle_args([(held, actual)], self._spent, NO_RUN), now) == count

    async def used(self, limits: Sequence[Limit], now: int) -> list[int]:
        """Return the used amounts."""
        reply = self._run(READ_USAGE, *_usage_args(limits, self._spent), now)
        return [usage.used for usage in _read_reply(limits, reply)]

    async def resets(self, limits: Sequence[Limit], now: int) -> list[float]:
        """Return the seconds until each limit is reset."""
        reply = self._run(READ_USAGE, *_usage_args(limits, self._spent), now)
        return [usage.reset_s for usage in _read_reply(limits, reply)]


def compare(found: Reservation | Refusal, verdict: Verdict, limits: Sequence[Limit], *, in_memory: bool) -> None:
    """Compare a decision with the model's. The store in memory does not report the tokens that calls in flight reserve."""
    assert isinstance(found, Reservation) == verdict.admitted, verdict
    assert [status.remaining for status in found.statuses] == verdict.remaining
    assert [status.reset_s for status in found.statuses] == pytest.approx([reset / US_PER_S for reset in verdict.resets])
    if isinstance(found, Reservation):
        charged = [index for index, limit in enumerate(limits) if getattr(found.costs, limit.kind)]
        assert [found.slots[index] for index in charged] == [verdict.slots[index] for index in charged]
        return
    for status, reserved in zip(found.statuses, verdict.reserved, strict=True):
        assert status.reserved == reserved or (status.reserved is None and status.limit.kind in TOKEN_KINDS and in_memory)
    assert found.limit is limits[verdict.refusing]
    assert found.busy == verdict.busy
    expected = None if verdict.wait is None else verdict.wait / US_PER_S
    assert found.retry_after == pytest.approx(expected), verdict


async def run(course: Course, store: MemoryStore | ScriptStore) -> None:
    """Run a course with a store and with the model."""
    model, draw = Model(), course.draw
    held: dict[str, list[Limit]] = {}
    for step in range(STEPS):
        course.step()
        if course.goes_back:  # a budget records a later period only if something was settled in it
            for id in list(held):
                _settle(course, store, model, id, held)
        limits, costs, id = course.limits_of_call(), course.costs(), f"c{step}"
        verdict = model.decide(limits, costs, id, course.now)
        compare(store.decide(limits, costs, id, course.now), verdict, limits, in_memory=isinstance(store, MemoryStore))
        if verdict.admitted:
            held[id] = limits
            if course.goes_back:
                _settle(course, store, model, id, held, least=1)
        while held and draw.random() < 0.5:
            _settle(course, store, model, draw.choice(list(held)), held)
        if draw.random() < 0.2:
            expected = [limit.amount - model._remaining(limit, course.now)[1] for limit in course.limits]
            assert await store.used(course.limits, course.now) == expected
            resets = [model.reset(limit, course.now) / US_PER_S for limit in course.limits]
            assert await store.resets(course.limits, course.now) == pytest.approx(resets)


def _settle(course: Course, store: MemoryStore | ScriptStore, model: Model, id: str, held: dict[str, list[Limit]], least: int = 0) -> None:
    actual = course.costs()
    actual = Costs(actual.requests, actual.prompt_tokens, actual.output_tokens, max(least, actual.spend), actual.cached_tokens)
    model.settle(held.pop(id), id, actual, course.now)
    store.settle(id, actual, course.now)


@pytest.mark.search
async def test_memory_decides_as_the_model() -> None:
    for seed in range(examples(400)):
        course = Course(seed)  # the clock of a course never goes back
        await run(course, MemoryStore(course))


@pytest.mark.search
@pytest.mark.parametrize("goes_back", [False, True])
async def test_the_scripts_decide_as_the_model(client: Any, goes_back: bool) -> None:
    for seed in range(examples(48)):
        await run(Course(seed, goes_back=goes_back), ScriptStore(client))


async def test_a_stored_budget_opens_again_in_the_next_period(client: Any) -> None:
    course = Course(1)
    store, day = ScriptStore(client), Limit("k", "spend", 100, "day")
    assert isinstance(store.decide([day], Costs(spend=100), "a", course.now), Reservation)
    store.settle("a", Costs(spend=100), course.now)
    assert isinstance(store.decide([day], Costs(spend=1), "b", course.now), Refusal)
    course.now += DAY_US
    found = store.decide([day], Costs(spend=100), "c", course.now)
    assert isinstance(found, Reservation)
    store.settle("c", Costs(spend=40), course.now)
    assert await store.used([day], course.now) == [40]
    assert await store.used([day], course.now - DAY_US) == [40]  # setting the clock back reopens no window
    assert await store.used([day], course.now + DAY_US) == [0]


async def test_a_smaller_or_older_sum_that_arrives_late_changes_nothing(client: Any) -> None:
    now = Course(1).now
    day, total = Limit("k", "spend", 1000, "day"), Limit("k", "spend", 1000, "total")
    for limit in (day, total):
        store, period = ScriptStore(client), limit.slot_at(now)

        def publish(instance: str, amount: int, at: int = period, store: ScriptStore = store, limit: Limit = limit) -> None:
            keys, arguments = script_args.publish_args([(SpendEntry(instance, limit.key, at, amount), -1)])
            store._run(PUBLISH, keys, arguments, now)

        for instance, amount, used in (("x", 50, 50), ("x", 30, 50), ("x", 50, 50), ("y", 7, 57), ("x", 51, 58), ("y", 0, 58)):
            publish(instance, amount)
            assert await store.used([limit], now) == [used], (instance, amount)
        if limit is day:
            publish("z", 500, period - 1)
            assert await store.used([limit], now) == [58]
            publish("z", 5, period + 1)  # the clock of another process is ahead
            assert await store.used([limit], now) == [5]
        assert (client.pttl(limit.key) > 0) is (limit is day)  # a budget in total never expires


async def test_late_spend_of_a_local_day_that_is_behind_utc_is_kept(client: Any) -> None:
    store, day = ScriptStore(client), Limit("k", "spend", 1000, "day", timezone="Etc/GMT+11")
    now = START // DAY_US * DAY_US + 3600 * US_PER_S  # 01:00 UTC, the day before at UTC-11
    keys, arguments = script_args.publish_args([(SpendEntry("x", day.key, day.slot_at(now), 50), -1)])
    store._run(PUBLISH, keys, arguments, now)
    assert await store.used([day], now) == [50]


async def test_an_admission_that_arrives_after_its_cancellation_charges_nothing(client: Any) -> None:
    now, limits = Course(1).now, [Limit("k", "tokens", 100, "day"), Limit("k", "spend", 100, "day"), Limit("k", "concurrent", 5)]
    store, costs = ScriptStore(client), Costs(prompt_tokens=30, spend=7)
    unanswered = Reservation("late", limits, costs, (), (), 0)
    for _ in range(2):
        assert store._run(SETTLE, *script_args.settle_args([(unanswered, NO_COSTS)], store._spent, NO_RUN), now) == 0
    late = PendingDecision(limits, costs, "late")
    assert store._run(ADMIT, *script_args.admit_args([late], store._spent, LEASE, NO_RUN), now) == [[-1, now]]
    assert await store.used(limits, now) == [0, 0, 0]
    assert isinstance(store.decide(limits, costs, "other", now), Reservation)
    assert await store.used(limits, now) == [30, 7, 1]
    executed = Reservation("other", limits, costs, (), (), 0)  # executed, but the reply was lost
    assert store._run(SETTLE, *script_args.settle_args([(executed, NO_COSTS)], store._spent, NO_RUN), now) == 1
    assert await store.used(limits, now) == [0, 0, 0]
