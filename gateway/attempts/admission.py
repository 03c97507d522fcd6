"""Admission of one request to a target before it is sent: a slot of the target's bulkhead, its limits, and a lease of the engine."""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING

from gateway import accounting
from gateway.attempts.progress import in_cooldown
from gateway.call import Attempt, Call
from gateway.config.key import DEFAULT_PRIORITY
from gateway.errors import FAILURES
from gateway.limits.enforce import Limits
from gateway.store.limit import Reservation
from gateway.targets.bulkhead import Bulkhead
from gateway.targets.cooldown import Reason
from gateway.targets.fair_queue import Claim, Ticket
from gateway.targets.health import TargetHealth
from gateway.tokens.estimate import TYPICAL_BYTES_PER_TOKEN, requested_cap
from gateway.tokens.inputs import WITHOUT_OUTPUT, generated_count
from providers.base import Failure, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from providers.local.admission import Lease
    from providers.local.supervisor import Engine
    from providers.local.worker_engine import WorkerEngine

MIRROR_OWNER, MIRROR_PRIORITY = "(mirror)", 1
"""The owner and the priority of copies in the queue of a target."""
MAX_ENGINE_WAIT_S = 10.0
"""Maximum time for which a call waits for an engine that is loading its model."""
MIN_ENGINE_WAIT_S = 0.001
"""Maximum time in which an engine with a free slot admits a call. This time does not count as a wait."""


class NotAdmittedError(Exception):
    """A target did not admit the call. No request was sent, so the failure does not count against its upstream."""

    def __init__(self, failure: Failure, *, is_shed: bool = False, is_limit: bool = False, is_cooling: bool = False) -> None:
        """`is_shed`: the limit on concurrent calls or on connections is reached. `is_limit`: a limit of the gateway is used up.

        `is_cooling`: the target is in cooldown, or another call is its probe.
        """
        super().__init__(failure.message)
        self.failure = failure
        self.is_shed = is_shed
        self.is_limit = is_limit
        self.is_cooling = is_cooling


class Admission:
    """The admission of one request to one target. `leave` gives back everything that was acquired."""

    __slots__ = (
        "_attempt", "_bulkhead", "_call", "_health", "_is_probe", "_lease", "_limits", "_reservation", "_ticket", "began",
    )  # fmt: skip

    def __init__(self, call: Call, attempt: Attempt, health: TargetHealth, limits: Limits | None) -> None:
        self._call = call
        self._attempt = attempt
        self._health = health
        self._limits = limits
        self._is_probe = False
        self._bulkhead: Bulkhead | None = None  # the bulkhead that was entered: a reload may replace that of the target
        self._ticket: Ticket | None = None
        self.began = 0.0
        """The time at which everything was acquired, on the monotonic clock; 0 before that."""
        self._lease: Lease | None = None
        self._reservation: Reservation | None = None

    async def enter(
        self, engine: Engine | WorkerEngine | None, timeout_s: float, *, as_probe: bool = False, only_if_available: bool = False
    ) -> None:
        """Acquire everything that the request needs. Raise NotAdmittedError if something is unavailable.

        `as_probe`: the target was not live when it was chosen. The probe is claimed before any wait, and the call is not
        admitted if another call has become the probe since then. `only_if_available`: unless the call is the probe, it is not
        admitted if the target goes into cooldown during a wait.
        """
        health = self._health
        if as_probe:
            if health.must_wait:
                raise NotAdmittedError(in_cooldown(health), is_cooling=True)
            if only_if_available:
                self._check_cooldown()
            self._is_probe = health.claim_probe()
        bulkhead = health.bulkhead
        if bulkhead is not None:
            if bulkhead.has_room:
                bulkhead.enter()
            else:
                await self._wait_for_slot(bulkhead, timeout_s)
            self._bulkhead = bulkhead
            if only_if_available and self._ticket is not None:
                self._check_cooldown()
        if self._limits is not None and not self._attempt.target.brought:
            reservation = await self._limits.admit_target(self._call, self._attempt.target)
            if isinstance(reservation, Failure):
                raise NotAdmittedError(reservation, is_limit=True)
            self._reservation = reservation
        if engine is not None:
            lease = await self._wait_for_engine(engine)
            if isinstance(lease, Failure):
                raise NotAdmittedError(lease)
            self._lease = lease
        if only_if_available and (health.ejected or health.cooldown.until):
            self._check_cooldown()
        self.began = time.monotonic()
        self._is_probe = health.start_attempt(is_claimed=self._is_probe)

    def _check_cooldown(self) -> None:
        """Raise NotAdmittedError if the target is in cooldown and this call is not its probe."""
        if not self._is_probe and not self._health.is_available:
            raise NotAdmittedError(in_cooldown(self._health), is_cooling=True)

    def pick_credential(self, targets: Sequence[Target]) -> Target:
        """Return the target with the credential of the attempt or, if that is in cooldown, with another one."""
        return self._health.pick_credential(targets, self._attempt.target)

    @staticmethod
    def is_open(health: TargetHealth) -> bool:
        """Return whether `enter_now` may be called: the state of the target is `live`, and it has a free slot."""
        return health.is_available and not health.ejected and (health.bulkhead is None or health.bulkhead.has_room)

    def enter_now(self, reservation: Reservation | None) -> None:
        """Enter, without a wait, a target with a free slot and without an engine. Its limits have already admitted the attempt."""
        self._reservation = reservation
        bulkhead = self._bulkhead = self._health.bulkhead
        if bulkhead is not None:
            bulkhead.enter()
        self.began = time.monotonic()
        self._is_probe = self._health.start_attempt()

    async def _wait_for_slot(self, bulkhead: Bulkhead, timeout_s: float) -> None:
        """Wait for a slot of the target. Raise NotAdmittedError if the queue is full or the wait takes too long."""
        since = time.monotonic()
        try:
            self._ticket = await bulkhead.acquire(timeout_s, claim_of(self._call, self._attempt.target, bulkhead.queue.expected_output))
        finally:
            self._attempt.queue_s += time.monotonic() - since
        if self._ticket is None:
            raise NotAdmittedError(_queue_full(self._health), is_shed=True)

    async def _wait_for_engine(self, engine: Engine | WorkerEngine) -> Lease | Failure:
        since = time.monotonic()
        try:
            return await engine.admit(MAX_ENGINE_WAIT_S)
        finally:
            if (waited := time.monotonic() - since) > MIN_ENGINE_WAIT_S:
                self._attempt.queue_s += waited

    @property
    def on_begin(self) -> Callable[[], None] | None:
        """The callback for the beginning of a stream.

        Only probes have a callback: a stream that begins shows that the target has recovered.
        """
        return self._end_probe if self._is_probe else None

    def _end_probe(self) -> None:
        """Record a success, and let another call be the next probe if the target fails again while this stream continues."""
        self.succeeded()
        self._is_probe = self._health.probe_in_flight = False

    def succeeded(self, first_byte_at: float | None = None) -> None:
        """Record a success.

        If the first byte was sent before this request began, it came from another target of a continued stream, and no
        latency is recorded.
        """
        seconds = None if first_byte_at is None or first_byte_at < self.began else first_byte_at - self.began
        if seconds is not None:
            self._health.silence.record(seconds, stream=self._call.stream)
        self._health.record_success(self._attempt.target, self.began, seconds)

    def failed(self, failure: Failure, first_byte_at: float) -> Reason | None:
        """Record a failure, or a success if the caller caused the error.

        Return the reason for the cooldown that the failure starts, if any.
        """
        if FAILURES[failure.kind].blame == "caller":
            self.succeeded()
            return None
        waited = (first_byte_at if first_byte_at >= self.began else time.monotonic()) - self.began
        return self._health.record_failure(self._attempt.target, failure, probe=self._is_probe, took=waited)

    def is_too_silent(self) -> bool:
        """Return whether the target has been silent for too long, compared with its earlier answers."""
        waited = time.monotonic() - self.began
        return self._health.silence.is_too_long(waited, stream=self._call.stream, probe=self._is_probe)

    def too_silent(self) -> Reason | None:
        """Count a silence that was too long as a slow failure.

        Return the reason for the cooldown that the failure starts, if any.
        """
        return self._health.record_silence(time.monotonic() - self.began, probe=self._is_probe)

    @property
    def reservation(self) -> Reservation | None:
        """The reservation under the limits of the provider and the target, or None if there are no such limits."""
        return self._reservation

    def leave(self, attempt: Attempt) -> None:
        """Give everything back, and settle the target's limits with the usage of the attempt."""
        if self.began:
            self._health.end_attempt(self._is_probe)
        elif self._is_probe:
            self._health.probe_in_flight = False
        if self._bulkhead is not None:
            if self._ticket is not None:
                self._correct(self._bulkhead, self._ticket, attempt)
            self._bulkhead.release()
        if self._lease is not None:
            self._lease.release()
        if self._reservation is not None and self._limits is not None:
            accounting.settle(self._call)
            self._limits.settle_attempt(attempt, self._reservation, is_sent=self.began > 0)

    def _correct(self, bulkhead: Bulkhead, ticket: Ticket, attempt: Attempt) -> None:
        """Replace the expected tokens of a call that waited with those that it used, if they are known."""
        accounting.settle(self._call)
        bill = accounting.bill((attempt,))
        if bill is not None:
            bulkhead.queue.correct(ticket, bill.prompt + bill.output, bill.output)


def claim_of(call: Call, target: Target, expected_output: float) -> Claim:
    """Return the claim of a call, which determines its place in a queue. Copies for a mirror have the lowest priority."""
    output = int(expected_output)
    if call.body is None:  # a passed call
        tokens = output
    else:
        tokens = call.prompt.typical(target, TYPICAL_BYTES_PER_TOKEN)
        if call.operation not in WITHOUT_OUTPUT:
            cap = requested_cap(call.body)
            tokens += (output if cap is None else min(cap, output)) * generated_count(call.body, call.operation)
    if call.mirror_of is not None:
        return Claim(MIRROR_OWNER, MIRROR_PRIORITY, tokens)
    return Claim("", DEFAULT_PRIORITY, tokens) if call.key is None else Claim(call.key.name, call.key.priority, tokens)


def _queue_full(health: TargetHealth) -> Failure:
    """Count a call that got no slot, and return its failure: the queue was full, or the wait took too long."""
    health.shed += 1
    # the jitter keeps calls that were rejected together from retrying together
    wait = max(1.0, min(60.0, math.ceil(health.latency))) * (1.0 + random.random())
    message = "the limit on concurrent calls is reached, and the queue is full or no slot became free in time"
    return Failure("overloaded", message, code="overloaded", retry_after=wait, is_own=True)
