"""A worker's view of the embedded engine. Another process supervises the child; a worker uses its socket and reads its state."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from providers.base import Failure
from providers.local.admission import Gate, Lease
from providers.local.options import LocalOptions
from providers.local.state import Note, failure_for, read_note

STATE_POLL_S = 0.1
"""Interval at which the state of an engine that is not ready is read."""


class WorkerEngine:
    """Admits this worker's calls. It reads the state before the first call and after a broken connection, until the engine is ready."""

    def __init__(self, options: LocalOptions, socket: str) -> None:
        self.options = options
        self.socket = socket
        self.gate = Gate(options.slots, options.queue)
        self._doubt = True

    @property
    def note(self) -> Note:
        """The state that the supervising process wrote last."""
        return read_note(self.socket)

    @property
    def state(self) -> str:
        return self.note.state

    @property
    def reason(self) -> str:
        """The reason for the state."""
        return self.note.reason

    @property
    def restarts(self) -> int:
        """Always 0, because the supervising process counts restarts for all workers."""
        return 0

    async def start(self) -> None:
        """Do nothing: the parent process starts the engine."""

    async def stop(self) -> None:
        """Do nothing: the parent process stops the engine."""

    async def admit(self, wait: float = 0.0) -> Lease | Failure:
        """Return a lease, or the failure of a rejected call. Wait up to `wait` seconds for an engine that is starting or restarting."""
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
        """Return the failure of a call that the engine did not answer. The next call reads the state again."""
        self._doubt = True
        return failure_for(self.note.state)

    def describe(self) -> dict[str, Any]:
        """Return the values for health, metrics and status pages."""
        return {"state": self.state, "running": self.gate.running, "waiting": self.gate.waiting, "capacity": self.gate.capacity}
