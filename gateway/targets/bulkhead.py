"""How many calls go to one target at once: so many run, so many wait for a while, and the rest go elsewhere.

A slow target then holds its own calls and nobody else's.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque


class Bulkhead:
    """First come, first served."""

    def __init__(self, most: int, queue: int, patience: float) -> None:
        """`most` calls run, `queue` more wait up to `patience` seconds each."""
        self.most = most
        self.queue = queue
        self.patience = patience
        self.running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def configure(self, max_concurrent: int, queue: int, patience: float) -> None:
        """Other numbers from now on; who waits already may go on if there is room."""
        self.most, self.queue, self.patience = max_concurrent, queue, patience
        self._let_in()

    def remove_limit(self) -> None:
        """There is no bound any more: everybody who waits may go on."""
        self.configure(sys.maxsize, 0, self.patience)

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return len(self._waiting)

    async def acquire(self, within: float) -> bool:
        """Wait for a turn, at most `within` seconds and our patience; whether there was one. `leave` must follow then."""
        if self.running < self.most:  # nobody waits while there is room
            self.running += 1
            return True
        if len(self._waiting) >= self.queue:
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(min(self.patience, within)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # its turn came in the very moment that it gave up
                self.release()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def release(self) -> None:
        """A call is over."""
        self.running -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self.running < self.most:
            turn = self._waiting.popleft()
            if not turn.done():
                self.running += 1
                turn.set_result(None)
