"""The process: what outlives any one configuration. Its `generation` is the configuration that new calls are served by."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gateway.attempts.hedge import Hedges
from gateway.attempts.mirror import Mirrors
from gateway.attempts.retry_budget import RetryBudget
from gateway.config.state_folder import state_folder
from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.dialects.parameters import CHECKS
from gateway.http.caller import CallerDeadlines
from gateway.http.sweeper import Sweeper
from gateway.keys.runtime_keys import RuntimeKeys, key_store
from gateway.ledger.ledger import Ledger
from gateway.ledger.store import UsagePublisher
from gateway.metrics import Metrics
from gateway.metrics.cells import Cells
from gateway.runtime.generation import Generation, label_names
from gateway.runtime.limiter import limiter_of
from gateway.runtime.resources import LOADING, Lender
from gateway.store.memory import MemoryLimiter
from gateway.store.outage_log import OutageLog
from gateway.store.redis import RedisLimiter
from gateway.store.redis_client import open_client
from gateway.targets.cooldown import STATES
from gateway.targets.latency import Latency
from gateway.targets.probes import Probes
from gateway.targets.registry import TargetRegistry
from gateway.targets.shared_cooldowns import KEY as HEALTH_KEY
from gateway.targets.shared_cooldowns import SharedCooldowns
from gateway.targets.status import TargetView, target_refs, target_views
from gateway.telemetry.call_log import CallLog
from gateway.telemetry.fleet import Fleet, fleet_of
from gateway.upstream.resolver import Resolver

if TYPE_CHECKING:
    from gateway.runtime.resources import AnyEngine
    from gateway.telemetry.tracing import Tracer

RETIRE_EVERY = 0.5
"""Seconds between two looks at generations whose calls still run."""
NOTICED = 2.0
"""Seconds, besides the deadline of a decision, within which the link to the store has noticed an outage that others see."""
BUILD = (version("lockgate"), platform.python_version())


class EngineRefused(Exception):
    """A configuration names a local model that cannot be loaded."""


class Gateway:
    """One process: log, counters, connections to upstreams, engines, the store of limits, and the generation that serves now.

    Calls look `generation` up once, at their start.
    """

    def __init__(
        self,
        config: Config,
        log: CallLog,
        report: Callable[[str], None],
        *,
        sockets: Mapping[str, str] | None = None,
        workers: int = 1,
        deadlines: CallerDeadlines | None = None,
        cells: Cells | None = None,
        number: int = 1,
        resolver: Resolver | None = None,
        seat: str = "",
    ) -> None:
        """`report` gets one line for each change in an engine's life; `sockets` are engines that another process runs, by provider;
        `cells` where to count, for another process to read; `number` that of the first generation;
        `resolver` finds upstreams' addresses, the system's own unless told; `seat` is the place in the fleet that the next process takes.
        """
        self.log = log
        self.report = report
        self.watch = Sweeper()
        self.deadlines = deadlines
        self.lender = Lender(report, sockets, workers, resolver)
        self._workers = workers
        self.paces: dict[str, Latency] = {}
        """How each target has been doing, by its name."""
        self.ledger = Ledger(report)
        self._seat = seat
        self._limiter: MemoryLimiter | RedisLimiter | None = None
        self.metrics = Metrics(*label_names(config), params=CHECKS, cells=cells, max_series=config.metrics.max_series)
        self.fleet: Fleet | None = None
        self.tracer = tracer_of(config, report) if workers == 1 else None
        self._limiting = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.health = TargetRegistry()
        self.health.configure(config.providers)
        self.probes = Probes(self.health)
        self._shared_health: SharedCooldowns | None = None
        self.target_views: Callable[[], list[TargetView]] = lambda: target_views(self.health, self.config)
        """How each target fares: here, or as all workers see it."""
        self.budget = RetryBudget(config.retry_budget)
        # a supervisor says nothing of the store: its workers use it, and say it
        self._troubles = OutageLog(report if workers == 1 else _nothing, self._store_is_away, NOTICED + config.store_deadline)
        self.made_keys = RuntimeKeys(
            key_store(config, os.environ), lambda: self.generation.join_keys(self.made_keys.entries), self._troubles.for_subject("keys")
        )
        self.mirrors = Mirrors(self.metrics, log, self.ledger)
        self.hedges = Hedges(self.metrics)
        self.generation = Generation(config, self, number)
        self._older: list[Generation] = []
        self._coming: Generation | None = None
        self._retiring: asyncio.Task[None] | None = None

    @property
    def config(self) -> Config:
        """The configuration that new calls are served by."""
        return self.generation.config

    def limiter(self, config: Config) -> MemoryLimiter | RedisLimiter:
        """Where limits are counted; one for as long as the process lives, so that a reload forgets nothing."""
        if self._limiter is None:
            self._limiter = limiter_of(config, self.metrics, self.report, self.ledger.settled_spend, self._seat)
            if isinstance(self._limiter, RedisLimiter):
                self._limiter.on_sync = UsagePublisher(self._limiter.connections.run, self.ledger.counters).publish
        return self._limiter

    def _store_is_away(self) -> bool:
        return isinstance(self._limiter, RedisLimiter) and self._limiter.connections.in_reported_outage

    async def start(self) -> None:
        """Begin to load the local models, which go on loading while calls are served; what must be here before is, once this is over."""
        await self.lender.start_new()
        await self.made_keys.start()
        if self.made_keys.keys and not self.config.requires_keys:
            self.report(f"{self.config.path}: nobody is asked for a key, though {len(self.made_keys.keys)} were made: write auth: keys")
        if self.lender.sockets is None:
            self.fleet = fleet_of(self.config, self.metrics)
        if self.fleet is not None:
            await self.fleet.start()
        await self._share_health()
        await self._follow(self.generation)
        await self._preload(self.generation)
        self._probe()
        self._watch_values()

    async def apply(self, config: Config, *, number: int | None = None, sockets: Mapping[str, str] | None = None) -> None:
        """Serve new calls by another configuration; EngineRefused when a new local model cannot be used, and then nothing changes.

        `number` and `sockets` come from the process that this one works for.
        """
        if sockets is not None:
            self.lender.sockets = sockets
        generation = Generation(config, self, number or self.generation.number + 1)
        self._coming = generation
        try:
            await _check_new(await self.lender.start_new())
            await self._follow(generation)
        except BaseException:
            self._coming = None
            await self.lender.end_unused(self._alive)
            raise
        self.metrics.add_names(*label_names(config))
        self.health.configure(config.providers)
        self.budget.share = config.retry_budget
        generation.join_keys(self.made_keys.entries)
        self._older.append(self.generation)
        self.generation, self._coming = generation, None
        self._probe()
        self.lender.native.refresh()
        self._spawn(self._preload(generation), "tokenizers")
        if self._retiring is None or self._retiring.done():
            self._retiring = self._spawn(self._retire(), "older generations")

    def _alive(self) -> list[Generation]:
        """The generations that calls may be served by, now or in a moment."""
        return [self.generation, *self._older, *([self._coming] if self._coming is not None else [])]

    async def _follow(self, generation: Generation) -> None:
        """What a generation needs beside itself: the store of limits, a tokenizer."""
        models = generation.config.models.values()
        if find_spec("tokenizers") is None and any(one.context and one.context.tokenizer for one in models):
            self.report("context.tokenizer is not used: it needs the package tokenizers, `pip install lockgate[tokenizers]`")
        if self._workers == 1 and not self._limiting:  # of several processes, only those that serve count
            self._limiting = True
            self.ledger.start(state_folder(generation.config, os.environ))
            await self.limiter(generation.config).start()

    async def _preload(self, generation: Generation) -> None:
        """Load tokenizers before the first caller is let in: loading one stops everything else in this process."""
        if self._workers == 1:  # of several processes, only those that serve count
            await generation.pipeline.attempts.fit.preload(generation.tokenizers())

    async def _retire(self) -> None:
        """Let go of generations whose last call has ended, and of what only they used."""
        while self._older:
            self._older = [one for one in self._older if one.pipeline.calls]
            if self._older:
                await asyncio.sleep(RETIRE_EVERY)
            else:
                await self.lender.end_unused(self._alive)

    def refused_at_the_edge(self, reason: str) -> None:
        """A caller's connection ended before there was a call."""
        self.metrics.count("lockgate_edge_refusals", (reason,))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _share_health(self) -> None:
        """Share cooldowns where the store can: the business of processes that serve."""
        if self._workers == 1 and not self.config.store.startswith("memory:"):
            client = partial(open_client, store_address(self.config), HEALTH_KEY)
            self._shared_health = SharedCooldowns(self.health, client, self._troubles.for_subject("cooldowns"))
            await self._shared_health.start()

    def _probe(self) -> None:
        """Probe whom the generation wants probed."""
        if self._workers == 1:
            self.probes.configure(self.config, self.generation.place, target_refs(self.config))

    async def stop(self, within: float = 2.0) -> None:
        """End the engines, close every upstream connection, write the last log lines; `within` seconds are the store's for last words."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.mirrors.stop()
        await self.probes.stop()
        if self._shared_health is not None:
            await self._shared_health.stop(within)
        await self.made_keys.stop()
        self._troubles.stop()
        if self.fleet is not None:
            await self.fleet.stop(within)
        if self._limiting and self._limiter is not None:
            await self._limiter.stop()
        self.ledger.stop()
        await self.lender.stop()
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.stop)
        self.log.close()

    def _watch_values(self) -> None:
        """Gauges that are read at scrape."""
        gauge, stats, native = self.metrics.gauge, self.lender.native.stats, self.lender.native
        gauge("lockgate_build_info", lambda: {BUILD: 1})
        if self.lender.sockets is None:
            gauge("lockgate_keys_revoked", lambda: {(): self.made_keys.revoked})
            gauge("lockgate_engine_ready", partial(self._each_engine, "ready"))
            gauge("lockgate_engine_restarts", partial(self._each_engine, "restarts"))
        if self._workers > 1:  # the rest is measured where calls are served
            return
        gauge("lockgate_event_loop_lag_seconds", lambda: {(): self.watch.lag})
        gauge("lockgate_log_drops", lambda: {(): self.log.drops})
        gauge("lockgate_ledger_journal_errors", lambda: {(): self.ledger.journal_errors})
        gauge("lockgate_workers", lambda: {(): 1})
        for name in ("connects", "reuses", "stale_retries", "poisoned"):
            gauge(f"lockgate_upstream_{name}", partial(_stat, stats, name))
        gauge("lockgate_upstream_connections", lambda: {(state,): getattr(native, state) for state in ("in_use", "idle", "waiting")})
        for what in ("state", "in_flight", "waiting"):
            gauge(f"lockgate_target_{what}", partial(self._each_target, what))
        gauge("lockgate_budget_used_ratio", lambda: limits.budget_gauge.values() if (limits := self.generation.limits) is not None else {})
        gauge("lockgate_engine_running", partial(self._each_engine, "running"))
        gauge("lockgate_engine_waiting", partial(self._each_engine, "waiting"))

    def _each_target(self, what: str) -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for one in self.health.all():
            label = self.metrics.target_named(one.name)
            if what == "state":
                state = one.state
                found |= {(label, each): float(each == state) for each in STATES}
            else:
                found[label,] = found.get((label,), 0.0) + getattr(one, what)
        return found

    def _each_engine(self, what: str) -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for name, engine in self.generation.engines.items():
            values: dict[str, Any] = {
                "ready": engine.state == "ready",
                "restarts": engine.restarts,
                "running": engine.gate.running,
                "waiting": engine.gate.waiting,
            }
            found[name,] = float(values[what])
        return found


def _nothing(line: str) -> None:
    """For what others say."""


def _stat(stats: object, name: str) -> dict[tuple[str, ...], float]:
    return {(): float(getattr(stats, name))}


async def _check_new(engines: list[AnyEngine]) -> None:
    """EngineRefused unless every engine can load its model."""
    from providers.local.engine import Engine

    for engine in engines:
        if isinstance(engine, Engine):
            await engine.settled(LOADING)
            if engine.code in ("bad_model", "missing_model"):
                raise EngineRefused(f"the local engine's model cannot be used: {engine.reason}")


def tracer_of(config: Config, report: Callable[[str], None]) -> Tracer | None:
    """What traces calls, where that is configured and can be done."""
    if config.traces is None:
        return None
    from gateway.telemetry.tracing import Tracer

    try:
        return Tracer(config.traces, report)
    except ImportError:
        report("traces is not used: it needs OpenTelemetry, `pip install lockgate[otel]`")
        return None
