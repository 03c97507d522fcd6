"""Checks budgets and targets at a fixed interval and sends notifications. Calls wait neither for the checks nor for the sending."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from gateway.config.notify import NotifyConfig
from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.metrics import Metrics
from gateway.notify.marks import TAG, Marks
from gateway.notify.sender import Sender
from gateway.notify.watch import BudgetWatch, TargetWatch
from gateway.store.limit import LimitUsage
from gateway.store.redis_client import open_client
from gateway.targets.registry import TargetRegistry
from gateway.upstream.end_tasks import end_tasks

INTERVAL_S = 1.0
MAX_CHECK_S = 2.0
"""Maximum time for which a reload that ends notifications waits for a check."""

ReadBudgets = Callable[[], Awaitable[tuple[list[LimitUsage], list[LimitUsage]]]]
"""Returns the budgets whose usage was read since the last call of this function, and the budgets that have refused a call since then."""


def new_notifier(
    config: Config, registry: TargetRegistry, metrics: Metrics, report: Callable[[str], None], read_budgets: ReadBudgets
) -> Notifier:
    """Return the notifier of a process. Its marks are in the configured store, which a reload cannot change."""
    client = None if config.store.startswith("memory:") else partial(open_client, store_address(config), TAG)
    return Notifier(registry, Marks(client), Sender(metrics, report), read_budgets)


class Notifier:
    """Sends the notifications of one process. Without `notify` in the configuration, nothing is checked or sent."""

    def __init__(
        self, registry: TargetRegistry, marks: Marks, sender: Sender, read_budgets: ReadBudgets, interval_s: float = INTERVAL_S
    ) -> None:
        self._marks = marks
        self._sender = sender
        self._read_budgets = read_budgets
        self._interval_s = interval_s
        self._budgets = BudgetWatch(marks, sender.put)
        self._targets = TargetWatch(registry, marks, sender.put)
        self._config: NotifyConfig | None = None
        self._task: asyncio.Task[None] | None = None
        self._checking = asyncio.Lock()

    async def configure(self, config: NotifyConfig | None) -> None:
        """Apply the settings of a new configuration."""
        self._config = config
        self._sender.configure(config)
        if config is not None and self._task is None:
            self._task = asyncio.create_task(self._watch(), name="notifier")
        elif config is None:
            await self._end(MAX_CHECK_S)

    async def stop(self, timeout_s: float) -> None:
        """Send the notifications that are due now, then stop. The last checks and the sending take at most `timeout_s` seconds each."""
        if self._task is not None and self._config is not None:
            await self._end(timeout_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._check(self._config)
        await self._sender.stop(timeout_s)
        await self._marks.stop()

    async def _end(self, timeout_s: float) -> None:
        """End the checks. A check that is running may have marked a notification, so wait for its end for at most `timeout_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._checking:
                pass
        await end_tasks([self._task])
        self._task = None

    async def _watch(self) -> None:
        while self._config is not None:
            async with self._checking:
                await self._check(self._config)
            await asyncio.sleep(self._interval_s)

    async def _check(self, config: NotifyConfig) -> None:
        usages, refused = await self._read_budgets()
        await self._budgets.check(config, usages, refused)
        await self._targets.check(config)
