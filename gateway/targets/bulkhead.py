"""The bulkhead of a target: how many calls run at once, how many wait, and for how long. A slow target blocks only its own calls."""

from __future__ import annotations

import asyncio
import sys
from collections import deque


class Bulkhead:
    """Concurrency limit of one target with a bounded FIFO queue."""

    def __init__(self, max_concurrent: int, max_queue: int, max_wait_s: float) -> None:
        self.max_concurrent = max_concurrent
        self.max_queue = max_queue
        self.max_wait_s = max_wait_s
        self.running = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    def configure(self, max_concurrent: int, max_queue: int, max_wait_s: float) -> None:
        """Apply new limits and admit queued calls that now fit."""
        self.max_concurrent, self.max_queue, self.max_wait_s = max_concurrent, max_queue, max_wait_s
        self._admit_queued()

    def remove_limit(self) -> None:
        """Remove the limit and admit every queued call."""
        self.configure(sys.maxsize, 0, self.max_wait_s)

    @property
    def waiting(self) -> int:
        """Queued calls."""
        return len(self._queue)

    @property
    def has_room(self) -> bool:
        """Whether a slot is free. While a slot is free, the queue is empty."""
        return self.running < self.max_concurrent

    def enter(self) -> None:
        """Take a free slot. Call `release` afterwards."""
        self.running += 1

    async def acquire(self, timeout_s: float) -> bool:
        """Wait for a slot. Return False on timeout or if the queue is full. If the result is True, call `release` afterwards."""
        if self.has_room:
            self.enter()
            return True
        if len(self._queue) >= self.max_queue:
            return False
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(slot)
        try:
            async with asyncio.timeout(min(self.max_wait_s, timeout_s)):
                await slot
        except BaseException as error:
            if slot.done() and not slot.cancelled():  # the slot was granted at the moment of the timeout
                self.release()
            elif slot in self._queue:
                self._queue.remove(slot)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def release(self) -> None:
        """Free a slot and admit the next queued call."""
        self.running -= 1
        self._admit_queued()

    def _admit_queued(self) -> None:
        while self._queue and self.running < self.max_concurrent:
            slot = self._queue.popleft()
            if not slot.done():
                self.running += 1
                slot.set_result(None)
