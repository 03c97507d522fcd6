"""The bulkhead of a target, which limits its calls in flight, its waiting calls and their wait. A slow target blocks only its own calls."""

from __future__ import annotations

import asyncio
import sys

from gateway.targets.fair_queue import Claim, FairQueue, Ticket


class Bulkhead:
    """Concurrency limit of one target with a bounded queue, which is fair to keys."""

    def __init__(self, max_concurrent: int, max_queue: int, max_wait_s: float) -> None:
        self.max_concurrent = max_concurrent
        self.max_queue = max_queue
        self.max_wait_s = max_wait_s
        self.running = 0
        self.queue = FairQueue()

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
        return len(self.queue)

    @property
    def has_room(self) -> bool:
        """Whether a slot is free. While a slot is free, the queue is empty."""
        return self.running < self.max_concurrent

    def enter(self) -> None:
        """Take a free slot. Call `release` afterwards."""
        self.running += 1

    async def acquire(self, timeout_s: float, claim: Claim) -> Ticket | None:
        """Wait for a slot. Return None on timeout, or if the call is rejected because the queue is full.

        Call this method only while no slot is free. If the result is a ticket, call `release` afterwards.
        """
        ticket = self.queue.add(claim)
        if len(self.queue) > self.max_queue:
            shed = self.queue.shed(self.max_queue)
            if shed is ticket:
                return None
            if not shed.admitted.done():
                shed.admitted.set_result(False)
        try:
            async with asyncio.timeout(min(self.max_wait_s, timeout_s)):
                return ticket if await ticket.admitted else None
        except BaseException as error:
            if ticket.admitted.done() and not ticket.admitted.cancelled():  # the call was admitted or rejected just before the error
                if ticket.admitted.result():
                    self.release()
            else:
                self.queue.remove(ticket)
            if isinstance(error, TimeoutError):
                return None
            raise

    def release(self) -> None:
        """Free a slot, and admit the next queued call if the limit allows it."""
        self.running -= 1
        self._admit_queued()

    def _admit_queued(self) -> None:
        while len(self.queue) and self.running < self.max_concurrent:
            ticket = self.queue.pop()
            if not ticket.admitted.done():
                self.running += 1
                ticket.admitted.set_result(True)
