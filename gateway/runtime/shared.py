"""State that outlives a generation because a reload must not reset it: counters, logs, health, run-time keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from gateway.attempts.hedge import Hedges
from gateway.attempts.mirror import Mirrors
from gateway.attempts.retry_budget import RetryBudget
from gateway.cache.answers import AnswerCache
from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.http.caller import CallerDeadlines
from gateway.http.sweeper import Sweeper
from gateway.keys.runtime_keys import RuntimeKeys, RuntimeTeams
from gateway.ledger.ledger import Ledger
from gateway.limits.in_flight import InFlight
from gateway.metrics import Metrics
from gateway.runtime.issuers import Issuers
from gateway.runtime.resources import Resources
from gateway.store.limit import Limiter
from gateway.store.outage_log import OutageLog
from gateway.store.redis_responses import RedisResponses
from gateway.store.responses import MemoryResponses, ResponseStore
from gateway.targets.latency import Latency
from gateway.targets.registry import TargetRegistry
from gateway.telemetry.call_log import CallLog

if TYPE_CHECKING:
    from gateway.telemetry.tracing import Tracer


class Shared(msgspec.Struct, frozen=True, eq=False):
    """The parts of a process that all its generations use."""

    metrics: Metrics
    log: CallLog
    tracer: Tracer | None
    ledger: Ledger
    sweeper: Sweeper
    deadlines: CallerDeadlines | None
    """Deadlines that tests use instead of the configured ones."""
    resources: Resources
    health: TargetRegistry
    latencies: dict[str, Latency]
    """Latency of each target, by name."""
    retry_budget: RetryBudget
    hedges: Hedges
    mirrors: Mirrors
    runtime_keys: RuntimeKeys
    runtime_teams: RuntimeTeams
    issuers: Issuers
    responses: ResponseStore
    report: Callable[[str], None]
    """Receives the lines for operators."""
    cache: AnswerCache
    limiter_for: Callable[[Config], Limiter]
    """Returns the limit store. The first call creates it from the given configuration; later calls ignore the configuration."""
    in_flight: InFlight = msgspec.field(default_factory=InFlight)
    """The amounts that the calls in flight of all configurations of this process reserve."""


def response_store(config: Config, outages: OutageLog) -> ResponseStore:
    """Return the store of responses that callers may read again."""
    if config.store.startswith("memory:"):
        return MemoryResponses()
    return RedisResponses(store_address(config), outages.for_subject("responses"))
