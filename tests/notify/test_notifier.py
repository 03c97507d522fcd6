"""The notifier of a process: it runs only while notifications are configured, and checks once more before it stops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from gateway.config.notify import NotifyConfig
from gateway.config.secret import Secret
from gateway.metrics import Metrics
from gateway.notify.marks import Marks
from gateway.notify.notifier import Notifier
from gateway.notify.sender import Sender
from gateway.store.limit import NANO_PER_USD, Limit, LimitUsage
from gateway.targets.registry import TargetRegistry
from tests.faults.behaviours import canned
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import eventually

BUDGET = Limit("key:search", "spend", 10 * NANO_PER_USD, "month")


@pytest.fixture
async def hook() -> AsyncIterator[FaultUpstream]:
    """Return a webhook."""
    async with FaultUpstream() as server:
        server.on(lambda request: True, canned(b"ok"))
        yield server


class Budgets:
    """Usages to read, and the number of times that they were read."""

    def __init__(self) -> None:
        self.usages: list[LimitUsage] = []
        self.reads = 0

    async def read(self) -> tuple[list[LimitUsage], list[LimitUsage]]:
        """Return the usages once."""
        self.reads += 1
        usages, self.usages = self.usages, []
        return usages, []


def notifier_of(budgets: Budgets, interval_s: float) -> Notifier:
    """Return a notifier."""
    return Notifier(TargetRegistry(), Marks(), Sender(Metrics([], [], {}, params=[]), lambda line: None), budgets.read, interval_s)


async def test_nothing_is_read_without_settings(hook: FaultUpstream) -> None:
    budgets = Budgets()
    notifier = notifier_of(budgets, 0.001)
    await notifier.configure(None)
    await asyncio.sleep(0.02)
    assert budgets.reads == 0
    await notifier.configure(NotifyConfig(Secret(hook.origin)))
    await eventually(lambda: budgets.reads > 2)
    await notifier.configure(None)
    reads = budgets.reads
    await asyncio.sleep(0.02)
    assert budgets.reads == reads
    await notifier.stop(0.0)


class HeldMarks(Marks):
    """Marks whose replies are held until they are released."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.released = asyncio.Event(), asyncio.Event()

    async def claim(self, name: str, ttl_s: float) -> bool:
        """Set the mark, and return once replies are released."""
        is_own = await super().claim(name, ttl_s)
        self.asked.set()
        await self.released.wait()
        return is_own


async def test_a_notification_that_is_marked_while_the_notifier_stops_is_sent(hook: FaultUpstream) -> None:
    budgets, marks = Budgets(), HeldMarks()
    budgets.usages = [LimitUsage(BUDGET, 5 * NANO_PER_USD, 0, 3600.0)]
    sender = Sender(Metrics([], [], {}, params=[]), lambda line: None)
    notifier = Notifier(TargetRegistry(), marks, sender, budgets.read, 3600)
    await notifier.configure(NotifyConfig(Secret(hook.origin)))
    await marks.asked.wait()
    stopping = asyncio.create_task(notifier.stop(30.0))
    await asyncio.sleep(0)
    marks.released.set()
    await stopping
    assert [json.loads(request.body)["budget"]["threshold"] for request in hook.requests] == [0.5]


async def test_a_check_that_never_ends_does_not_keep_the_notifier_from_stopping(hook: FaultUpstream) -> None:
    budgets, marks = Budgets(), HeldMarks()
    budgets.usages = [LimitUsage(BUDGET, 5 * NANO_PER_USD, 0, 3600.0)]
    notifier = Notifier(TargetRegistry(), marks, Sender(Metrics([], [], {}, params=[]), lambda line: None), budgets.read, 3600)
    await notifier.configure(NotifyConfig(Secret(hook.origin)))
    await marks.asked.wait()
    async with asyncio.timeout(30):
        await notifier.stop(0.01)


async def test_what_is_due_at_the_end_is_sent(hook: FaultUpstream) -> None:
    budgets = Budgets()
    notifier = notifier_of(budgets, 3600)
    await notifier.configure(NotifyConfig(Secret(hook.origin)))
    await eventually(lambda: budgets.reads == 1)
    budgets.usages = [LimitUsage(BUDGET, 8 * NANO_PER_USD, 0, 3600.0)]
    await notifier.stop(30.0)
    assert [json.loads(request.body)["budget"]["threshold"] for request in hook.requests] == [0.8]
