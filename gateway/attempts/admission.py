"""What stands between a call and one target: its turn there, the provider's limits, the engine's gate; and what is given back after."""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING

from gateway import usage as accounting
from gateway.call import Attempt, Call
from gateway.limits.enforce import Limits
from gateway.store.limit import Reservation
from gateway.targets.bulkhead import Bulkhead
from gateway.targets.cooldown import Reason
from gateway.targets.health import TargetHealth
from providers.base import Failure, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.local.admission import Lease
    from providers.local.engine import Engine
    from providers.local.worker_engine import WorkerEngine

ENGINE_PATIENCE = 10.0
"""Seconds that a call waits for an engine which is loading its model."""


class TurnedAway(Exception):
    """A place did not take the call: nothing was sent to its upstream, which is not to blame."""

    def __init__(self, failure: Failure, *, shed: bool = False, limit: bool = False) -> None:
        """`shed`: as many calls as it may take are there. `limit`: one of the gateway's own limits said no."""
        super().__init__(failure.message)
        self.failure = failure
        self.shed = shed
        self.limit = limit


class Admission:
    """One attempt's place at its target. `leave` gives everything back, whatever was taken."""

    __slots__ = ("_began", "_call", "_health", "_inside", "_lease", "_limits", "_probe", "_reserved", "_target", "_turn")

    def __init__(self, call: Call, target: Target, health: TargetHealth, limits: Limits | None) -> None:
        self._call = call
        self._target = target
        self._health = health
        self._limits = limits
        self._inside = False
        self._probe = False
        self._turn: Bulkhead | None = None  # that of its beginning: a reload may give the target another
        self._began = 0.0
        self._lease: Lease | None = None
        self._reserved: Reservation | None = None

    async def enter(self, engine: Engine | WorkerEngine | None, left: float) -> None:
        """Take all that is needed to send; TurnedAway when something is not to be had."""
        health = self._health
        bulkhead = health.bulkhead
        if bulkhead is not None:
            if not await bulkhead.acquire(left):
                raise TurnedAway(_full(health), shed=True)
            self._turn = bulkhead
        if self._limits is not None:
            found = await self._limits.admit_target(self._call, self._target)
            if isinstance(found, Failure):
                raise TurnedAway(found, limit=True)
            self._reserved = found
        if engine is not None:
            admitted = await engine.admit(ENGINE_PATIENCE)
            if isinstance(admitted, Failure):
                raise TurnedAway(admitted)
            self._lease = admitted
        self._inside = True
        self._began = time.monotonic()
        self._probe = health.start_attempt()

    @property
    def on_begin(self) -> Callable[[], None] | None:
        """To be called when a stream has begun: others need not wait for its end to know that the target is back."""
        return self.succeeded if self._probe else None

    def succeeded(self, at: float | None = None) -> None:
        """The target answered, and began to `at` a moment on the monotonic clock; one before the attempt tells of another target."""
        self._health.record_success(self._target, self._began, None if at is None or at < self._began else at - self._began)

    def failed(self, failure: Failure, at: float | None = None) -> Reason | None:
        """The target failed (or told the caller off), after its answer had begun to `at`, if it had; why it cools now, if it does."""
        if failure.kind == "client_error":
            self.succeeded()
            return None
        waited = (at if at is not None and at >= self._began else time.monotonic()) - self._began
        return self._health.record_failure(self._target, failure, probe=self._probe, took=waited)

    def leave(self, attempt: Attempt) -> None:
        """Give everything back; settle the target's limits by what the attempt used."""
        if self._inside:
            self._health.end_attempt(self._probe)
        if self._turn is not None:
            self._turn.release()
        if self._lease is not None:
            self._lease.release()
        if self._reserved is not None and self._limits is not None:
            accounting.settle(self._call)
            self._limits.settle_attempt(attempt, self._reserved)


def _full(health: TargetHealth) -> Failure:
    """Everybody's turn is taken, and so are the places to wait."""
    health.shed += 1
    wait = max(1.0, min(60.0, math.ceil(health.latency))) * (1.0 + random.random())  # who was turned away together comes back apart
    return Failure("overloaded", "as many calls as it may take are there already", code="overloaded", retry_after=wait)
