"""The end of background tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
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
