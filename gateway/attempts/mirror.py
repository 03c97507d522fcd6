"""Copies of calls for another target: sent beside the call, read to the end, discarded. Callers neither wait for them nor pay.

    bounded    `max_concurrent` copies of a model at once; a call on top of that is not copied (outcome `skipped`)
    lenient    a copy is adjusted to its target even where its call is strict; it is one attempt, without retries and fallbacks
    apart      the target's own limits hold; the caller's are not touched; tokens and cost have counters of their own

A copy is not copied again. All are cancelled when the process stops.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from gateway import usage as accounting
from gateway.attempts.admission import TurnedAway
from gateway.call import Call
from gateway.catalog.prices import FREE
from gateway.errors import GatewayError, Headers
from gateway.http.caller import Caller, CallerDeadlines
from gateway.telemetry.call_log import internal_error
from providers.base import Refusal

if TYPE_CHECKING:
    from gateway.attempts.failover import Attempts
    from gateway.config.model import MirrorConfig
    from gateway.ledger.ledger import Ledger
    from gateway.metrics import Metrics
    from gateway.targets.candidate import Candidate
    from gateway.telemetry.call_log import CallLog

_DEADLINES = CallerDeadlines()


class Mirrors:
    """The copies that a process has under way, whatever generation they came from."""

    def __init__(self, metrics: Metrics, log: CallLog, ledger: Ledger, draw: Callable[[], float] = random.random) -> None:
        self._metrics = metrics
        self._log = log
        self._ledger = ledger
        self._draw = draw
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: Counter[str] = Counter()

    def offer(self, call: Call, headers: Headers, mirror: MirrorConfig, leads: Callable[[], list[Candidate]], attempts: Attempts) -> None:
        """Copy a call that was admitted to where `leads` leads, by the share that is to be copied. Returns at once."""
        if self._draw() >= mirror.share:
            return
        try:
            choice = leads()[0]
        except GatewayError:  # what the call itself is refused for, if it is
            return
        name = choice.backend.target.name
        if self._under_way[name] >= mirror.max_concurrent:
            self._count(choice, "skipped")
            return
        self._under_way[name] += 1
        shadow = call.mirrored()
        task = asyncio.create_task(self._carry_out(shadow, headers, mirror, choice, attempts), name="mirror")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry_out(self, shadow: Call, headers: Headers, mirror: MirrorConfig, choice: Candidate, attempts: Attempts) -> None:
        caller = Caller({"headers": headers}, _nothing_more, _discard, _DEADLINES)
        outcome = "cancelled"
        try:
            async with asyncio.timeout(mirror.timeout):
                failure = await attempts.once(shadow, caller, choice, mirror.timeout)
            outcome = "ok" if failure is None else str(failure.status) if failure.status >= 400 else failure.kind
        except TimeoutError:
            outcome = "timeout"
        except TurnedAway as away:
            outcome = away.failure.kind
        except (Refusal, GatewayError):
            outcome = "refused"
        except Exception as error:  # nobody else would hear of it
            outcome = "internal_error"
            self._log.write(internal_error(shadow.id, error))
            self._metrics.count("lockgate_internal_errors")
        finally:
            self._under_way[choice.backend.target.name] -= 1
            self._account(shadow, choice, outcome)

    def _account(self, shadow: Call, choice: Candidate, outcome: str) -> None:
        """Outcome, tokens and cost under names of their own, a row of the ledger without a key, and a log line that says whose copy."""
        accounting.settle(shadow)
        if shadow.attempts:
            shadow.attempts[-1].outcome = outcome
        self._count(choice, outcome)
        usage = shadow.answered_by.usage if shadow.answered_by is not None else None
        label = self._metrics.target_label(choice.backend.target)
        if usage is not None:
            self._metrics.count("lockgate_mirror_tokens", (label, "prompt"), max(0, usage.prompt_tokens))
            self._metrics.count("lockgate_mirror_tokens", (label, "output"), max(0, usage.completion_tokens))
            self._metrics.count("lockgate_mirror_cost_usd", (label,), (choice.backend.price or FREE).usage_cost(usage))
        self._ledger.book(shadow, time.monotonic())
        self._log.add(shadow, time.monotonic())

    def _count(self, choice: Candidate, outcome: str) -> None:
        self._metrics.count("lockgate_mirrors", (self._metrics.target_label(choice.backend.target), outcome))


async def _nothing_more() -> MutableMapping[str, Any]:
    return {"type": "http.disconnect"}


async def _discard(message: MutableMapping[str, Any]) -> None:
    return
