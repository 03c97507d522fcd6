"""Sends copies of calls to another target in parallel with the calls, reads the responses and discards them.

Callers do not wait for the copies and do not pay for them.

    bounded      at most `max_concurrent` copies to a target at the same time; further calls are not copied (outcome `skipped`)
    lenient      a copy is adjusted to its target even if the call is strict, and is one attempt without retries or fallbacks
    separate     the limits of the target apply, but not those of the caller; tokens and cost have counters of their own

A copy is not copied again. All copies are cancelled when the process stops.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from gateway import accounting
from gateway.attempts.admission import NotAdmittedError
from gateway.call import Call
from gateway.errors import GatewayError, Headers
from gateway.http.caller import Caller, CallerDeadlines
from gateway.telemetry.call_log import internal_error
from gateway.upstream.end_tasks import end_tasks
from providers.base import Refusal

if TYPE_CHECKING:
    from gateway.attempts.failover import Failover
    from gateway.config.model import MirrorConfig
    from gateway.ledger.ledger import Ledger
    from gateway.metrics import Metrics
    from gateway.targets.candidate import Candidate
    from gateway.telemetry.call_log import CallLog

_DEADLINES = CallerDeadlines()
_GRACE_S = 1.0
"""Seconds after its deadline at which a copy is cancelled if it is still in progress, for example because a hook hangs."""


class Mirrors:
    """The copies in flight in a process, of all generations."""

    def __init__(self, metrics: Metrics, log: CallLog, ledger: Ledger, draw: Callable[[], float] = random.random) -> None:
        self._metrics = metrics
        self._log = log
        self._ledger = ledger
        self._draw = draw
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight: Counter[str] = Counter()

    def offer(
        self, call: Call, headers: Headers, mirror: MirrorConfig, candidates_of: Callable[[], list[Candidate]], failover: Failover
    ) -> None:
        """Copy an admitted call to the first of `candidates_of()` if the call belongs to the mirrored share.

        Do not wait for the copy.
        """
        if self._draw() >= mirror.share:
            return
        try:
            candidate = candidates_of()[0]
        except GatewayError:  # the call itself is refused for the same reason
            return
        name = candidate.backend.target.name
        if self._in_flight[name] >= mirror.max_concurrent:
            self._count(candidate, "skipped")
            return
        self._in_flight[name] += 1
        failover.copies += 1
        task = asyncio.create_task(self._send(call.mirrored(), headers, mirror, candidate, failover), name="mirror")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel all copies."""
        await end_tasks(self._tasks)

    async def _send(
        self, shadow: Call, headers: Headers, mirror: MirrorConfig, candidate: Candidate, failover: Failover
    ) -> None:
        caller = Caller({"headers": headers}, _disconnect, _discard, _DEADLINES)
        outcome = "cancelled"
        try:
            async with asyncio.timeout(mirror.timeout + _GRACE_S):
                failure = await failover.send_once(shadow, caller, candidate, mirror.timeout)
            outcome = "ok" if failure is None else str(failure.status) if failure.status >= 400 else failure.kind
        except TimeoutError:
            outcome = "timeout"
            if shadow.is_written:
                label = self._metrics.target_label(candidate.backend.target)
                self._metrics.count("lockgate_attempts", (label, outcome))
                self._metrics.count("lockgate_upstream_errors", (label, outcome))
        except NotAdmittedError as error:
            outcome = error.failure.kind
        except (Refusal, GatewayError):
            outcome = "refused"
        except Exception as error:  # no caller would see the error
            outcome = "internal_error"
            self._log.write(internal_error(shadow.id, error))
            self._metrics.count("lockgate_internal_errors")
        finally:
            self._in_flight[candidate.backend.target.name] -= 1
            failover.copies -= 1
            self._account(shadow, candidate, outcome)

    def _account(self, shadow: Call, candidate: Candidate, outcome: str) -> None:
        """Count the outcome, tokens and cost of a copy; book it in the ledger without a key, and log it with the id of its call."""
        accounting.settle(shadow)
        if shadow.attempts and shadow.attempts[-1].outcome not in ("limit", "cooldown"):
            shadow.attempts[-1].outcome = outcome
        self._count(candidate, outcome)
        answer = shadow.answered_by
        usage = answer.usage if answer is not None else None
        label = self._metrics.target_label(candidate.backend.target)
        if answer is not None and usage is not None:
            answer.cost = accounting.answer_cost(answer)
            self._metrics.count("lockgate_mirror_tokens", (label, "prompt"), max(0, usage.prompt_tokens))
            self._metrics.count("lockgate_mirror_tokens", (label, "output"), max(0, usage.completion_tokens))
            self._metrics.count("lockgate_mirror_cost_usd", (label,), answer.cost or 0)
        self._ledger.book(shadow, time.monotonic())
        self._log.add(shadow, time.monotonic())

    def _count(self, candidate: Candidate, outcome: str) -> None:
        self._metrics.count("lockgate_mirrors", (self._metrics.target_label(candidate.backend.target), outcome))


async def _disconnect() -> MutableMapping[str, Any]:
    return {"type": "http.disconnect"}


async def _discard(message: MutableMapping[str, Any]) -> None:
    return
