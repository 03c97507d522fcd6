"""The end of background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

CANCEL_INTERVAL_S = 0.5
"""Time after which a task that still runs is cancelled again."""


async def end_tasks(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancel tasks, as often as necessary, and wait until they have ended.

    Their results and exceptions are discarded. One cancellation is not always enough: a task that waits for another task or
    for a library, such as redis-py, loses the cancellation if what it waits for turns the cancellation into an error or a
    result. A loop that handles this error then continues.
    """
    running = {task for task in tasks if task is not None}
    while running:
        for task in running:
            task.cancel()
        done, running = await asyncio.wait(running, timeout=CANCEL_INTERVAL_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # otherwise asyncio reports the exception as never retrieved


class BackgroundTasks:
    """Tasks that run until they are replaced or stopped together."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Start a task."""
        self._tasks.append(asyncio.create_task(work, name=name))

    def cancel(self) -> list[asyncio.Task[None]]:
        """Cancel all tasks and return them. They may still be running."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        return tasks

    async def stop(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        await end_tasks(self.cancel())
