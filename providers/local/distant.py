"""The embedded engine as a worker sees it: another process supervises the child, here is its socket and our share of its queue."""

from __future__ import annotations

from typing import Any

from providers.base import Failure
from providers.local.gate import Gate, Lease
from providers.local.options import LocalOptions


class DistantEngine:
    """Admits this worker's calls; what happened to the engine shows only when a connection to it breaks."""

    state = "ready"
    reason = "supervised by the parent process"
    restarts = 0

    def __init__(self, options: LocalOptions, socket: str) -> None:
        self.options = options
        self.socket = socket
        self.gate = Gate(options.slots, options.queue)

    async def start(self) -> None:
        """Nothing to do: the parent process starts the engine."""

    async def stop(self) -> None:
        """Nothing to do: the parent process ends the engine."""

    async def admit(self, wait: float = 0.0) -> Lease | Failure:
        """A place for one call, or why there is none."""
        lease = self.gate.enter()
        if lease is None:
            return Failure("overloaded", "the local engine's queue is full", 503, "engine_overloaded", retry_after=self.gate.retry_after())
        return lease

    def failure(self) -> Failure:
        """Why a connection to the engine broke, as far as a worker can tell."""
        return Failure(
            "crashed", "the local engine is not answering; it is being started again, or the log says why not", 503, "engine_crashed"
        )

    def describe(self) -> dict[str, Any]:
        """What health, metrics and status pages show."""
        return {"state": self.state, "running": self.gate.running, "waiting": self.gate.waiting, "capacity": self.gate.capacity}
