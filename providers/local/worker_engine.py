"""The embedded engine as a worker sees it: another process supervises the child; here are its socket, its state and our queue."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from providers.base import Failure
from providers.local.admission import Gate, Lease
from providers.local.options import LocalOptions
from providers.local.state import Note, failure_for, read_note

STATE_POLL_S = 0.1
"""Seconds between two looks at the state of an engine that is not ready."""


class WorkerEngine:
    """Admits this worker's calls. The state is read only while there is a doubt: at first, and after a connection broke."""

    def __init__(self, options: LocalOptions, socket: str) -> None:
        self.options = options
        self.socket = socket
        self.gate = Gate(options.slots, options.queue)
        self._doubt = True

    @property
    def note(self) -> Note:
        """What the supervising process last said."""
        return read_note(self.socket)

    @property
    def state(self) -> str:
        """The engine's state."""
        return self.note.state

    @property
    def reason(self) -> str:
        """Why it is in that state."""
        return self.note.reason

    @property
    def restarts(self) -> int:
        """Counted by the process that supervises the child, once for all workers."""
        return 0

    async def start(self) -> None:
        """Nothing to do: the parent process starts the engine."""

    async def stop(self) -> None:
        """Nothing to do: the parent process ends the engine."""

    async def admit(self, wait: float = 0.0) -> Lease | Failure:
        """A place for one call, or why there is none. Up to `wait` seconds go into waiting for an engine that is starting."""
        lease = self.gate.acquire()
        if lease is None:
            return Failure("overloaded", "the local engine's queue is full", 503, "engine_overloaded", retry_after=self.gate.retry_after())
        if not self._doubt:
            return lease
        try:
            ready = await self._ready(wait)
        except asyncio.CancelledError:
            lease.release()
            raise
        if ready:
            return lease
        lease.release()
        return self.failure()

    async def _ready(self, wait: float) -> bool:
        until = time.monotonic() + wait
        while (state := self.note.state) in ("starting", "restarting") and time.monotonic() < until:  # noqa: ASYNC110 - another process
            await asyncio.sleep(STATE_POLL_S)
        self._doubt = state != "ready"
        return not self._doubt

    def failure(self) -> Failure:
        """Why a call was not answered; from here on the state is looked at again."""
        self._doubt = True
        return failure_for(self.note.state)

    def describe(self) -> dict[str, Any]:
        """What health, metrics and status pages show."""
        return {"state": self.state, "running": self.gate.running, "waiting": self.gate.waiting, "capacity": self.gate.capacity}
