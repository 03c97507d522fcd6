"""The running gateway: start, apply a configuration, stop.

Its `generation` is the one that serves new calls.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from gateway.attempts.hedge import Hedges
from gateway.attempts.mirror import Mirrors
from gateway.attempts.retry_budget import RetryBudget
from gateway.cache.answers import AnswerCache
from gateway.config.state_folder import state_folder
from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.dialects.parameters import CHECKS
from gateway.http.caller import CallerDeadlines
from gateway.http.page_guard import PageGuard, page_rules
from gateway.http.sweeper import Sweeper
from gateway.keys.runtime_keys import RuntimeKeys, RuntimeTeams, key_store, team_store
from gateway.ledger.ledger import Ledger
from gateway.ledger.records import RowCopy
from gateway.metrics import Metrics
from gateway.metrics.cells import Cells
from gateway.notify.notifier import new_notifier
from gateway.runtime.gauges import register_gauges
from gateway.runtime.generation import Generation, label_names
from gateway.runtime.issuers import Issuers
from gateway.runtime.limiter import LimitStore
from gateway.runtime.live import LiveSeries
from gateway.runtime.resources import Resources, check_engines
from gateway.runtime.shared import Shared, response_store
from gateway.store.cached_answers import answer_store
from gateway.store.limit import Limit, LimitUsage
from gateway.store.outage_log import OutageLog
from gateway.store.redis_client import open_client
from gateway.targets.discovery import Discovery
from gateway.targets.latency import Latency
from gateway.targets.probes import Probes
from gateway.targets.registry import TargetRegistry
from gateway.targets.replicas import Replicas
from gateway.targets.shared_cooldowns import KEY as HEALTH_KEY
from gateway.targets.shared_cooldowns import SharedCooldowns
from gateway.targets.status import TargetView, target_refs, target_views
from gateway.telemetry.call_log import CallLog
from gateway.telemetry.call_records import CallRecords, recorder_of
from gateway.telemetry.fleet import Fleet, fleet_of
from gateway.telemetry.tracing import tracer_of
from gateway.tokens.counter import SHARED_COUNTER
from gateway.upstream.end_tasks import end_tasks
from gateway.upstream.resolver import Resolver

RETIRE_INTERVAL_S = 0.5
"""Interval at which replaced generations are checked for calls in flight."""
OUTAGE_DETECTION_S = 2.0
"""Other subsystems delay their reports by this time plus the store deadline, so that the limit store reports an outage first."""

class Gateway:
    """One process: log, counters, upstream connections, engines, limit store, and the serving generation.

    Each call reads `generation` once, when it starts.
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
        """Build a gateway; `start` starts it.

        `report` receives the lines for operators. `sockets` are the sockets, by provider, of engines that another process
        runs. `cells` hold the counters if another process reads them. `number` is the number of the first generation. `seat`
        identifies this process's position in the fleet, which its replacement takes over.
        """
        self.log = log
        self.report = report
        self._workers = workers
        self._dependencies_started = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.sweeper = Sweeper()
        self.resources = Resources(report, sockets, workers, resolver)
        self.latencies: dict[str, Latency] = {}
        self.ledger = Ledger(report)
        self.metrics = Metrics(*label_names(config), params=CHECKS, cells=cells, max_series=config.metrics.max_series)
        self.live = LiveSeries(self.metrics)
        self._limit_store = LimitStore(self.metrics, report, self.ledger, seat)
        self.fleet: Fleet | None = None
        self.health = TargetRegistry()
        self.health.configure(config.providers)
        self.probes = Probes(self.health)
        self.discovery = Discovery(report if sockets is None else _discard, self._on_discovered)  # one process reports
        self.replicas = Replicas(self.resources.resolver, report if sockets is None else _discard, self._on_replicas)
        self._shared_cooldowns: SharedCooldowns | None = None
        self.target_views: Callable[[], list[TargetView]] = lambda: target_views(self.health, self.config)
        """Returns the health of each target. A supervisor replaces this with the merged health of its workers."""
        self.worker_usage: Callable[[Sequence[str]], Awaitable[tuple[list[RowCopy], bool]]] | None = None
        """In a supervisor: returns the usage of its workers on certain days, and whether all workers have answered."""
        outage_report = report if workers == 1 else _discard  # the workers of a supervisor use the store and report
        delay_s = OUTAGE_DETECTION_S + config.store_deadline
        self._outage_log = OutageLog(outage_report, lambda: self._limit_store.in_outage, delay_s)
        self.runtime_keys = RuntimeKeys(key_store(config, os.environ), self._on_runtime_keys, self._outage_log.for_subject("keys"))
        self.runtime_teams = RuntimeTeams(team_store(config, os.environ), self._on_runtime_keys, self._outage_log.for_subject("teams"))
        self._notifier = new_notifier(config, self.health, self.metrics, report, self._read_budgets)
        self.issuers = Issuers(self.resources.fetch, state_folder(config, os.environ), report)
        self.shared = self._new_shared(config, deadlines)
        self.generation = Generation(config, self.shared, number)
        self.page_guard = PageGuard(page_rules(config))
        """Rejects requests from web pages of other sites at the callers' listener while it requires no key."""
        self._replaced: list[Generation] = []
        self._next: Generation | None = None
        self._retiring: asyncio.Task[None] | None = None
        self.on_retired: Callable[[], None] = lambda: None  # called after replaced generations have been dropped

    def _new_shared(self, config: Config, deadlines: CallerDeadlines | None) -> Shared:
        return Shared(
            metrics=self.metrics,
            log=self.log,
            tracer=tracer_of(config, self.report) if self._workers == 1 else None,
            ledger=self.ledger,
            sweeper=self.sweeper,
            deadlines=deadlines,
            resources=self.resources,
            health=self.health,
            latencies=self.latencies,
            retry_budget=RetryBudget(config.retry_budget),
            hedges=Hedges(self.metrics),
            mirrors=Mirrors(self.metrics, self.log, self.ledger),
            runtime_keys=self.runtime_keys,
            runtime_teams=self.runtime_teams,
            issuers=self.issuers,
            responses=response_store(config, self._outage_log),
            cache=AnswerCache(answer_store(config, self._outage_log.for_subject("cache"))),
            report=self.report,
            limiter_for=self._limit_store.limiter_for,
        )

    @property
    def config(self) -> Config:
        """The configuration that serves new calls."""
        return self.generation.config

    def _on_runtime_keys(self) -> None:
        self.generation.set_runtime_keys(self.runtime_keys.accepted)
        if self._dependencies_started:  # a new key may have the first limit on tokens
            self._spawn(self._preload_tokenizers(self.generation, serving=True), "tokenizers")

    def _on_discovered(self) -> None:
        """Apply the new lists of the models that providers offer."""
        self.generation.set_discovered(self.discovery.lists)
        self.metrics.add_discovered({name: str(model.route) for name, model in self.generation.router.discovered.models.items()})
        self._configure_probes()

    def _on_replicas(self) -> None:
        """Apply the new addresses of replicas."""
        self.generation.set_replicas(self.replicas.addresses)
        for name in self.health.keep_replicas(self.replicas.addresses):
            self.latencies.pop(name, None)
        self._configure_probes()

    async def limit_usage(self, limits: Sequence[Limit]) -> list[LimitUsage]:
        """Return the usage of limits by all processes together. Raise StoreUnavailableError if the store fails."""
        return await self._limit_store.usage(self.config, limits) if limits else []

    async def refresh_budgets(self) -> None:
        """Read the usage of budgets for the gauges."""
        await self.generation.refresh_budgets()

    async def _read_budgets(self) -> tuple[list[LimitUsage], list[LimitUsage]]:
        """Read the usage of budgets.

        Return the budgets that were read, and those that have refused a call, since the last call of this method.
        """
        await self.refresh_budgets()
        limits = self.generation.limits
        return limits.budget_gauge.take_news() if limits is not None else ([], [])

    async def start(self) -> None:
        """Start everything that calls need. Local models may still be loading when this returns."""
        await self.resources.start_new_engines()
        await self.runtime_teams.start()  # before the keys, which refer to teams
        await self.runtime_keys.start()
        count = len(self.runtime_keys.keys)
        if count and not self.config.requires_keys:
            reason = f"authentication is off, although there are run-time keys ({count}); set `auth: keys` to require them"
            self.report(f"{self.config.path}: {reason}")
        if self.resources.sockets is None:
            self.fleet = fleet_of(self.config, self.metrics)
        if self.fleet is not None:
            self.fleet.refresh = self.refresh_budgets
            await self.fleet.start()
        await self._share_cooldowns()
        await self._start_dependencies(self.generation)
        await self._preload_tokenizers(self.generation)
        self._configure_probes()
        await self._configure_notifications()
        self.discovery.configure(self.config, self.generation.backend)
        self.replicas.configure(self.config)
        await asyncio.gather(self.discovery.wait_for_first(), self.replicas.wait_for_first())
        register_gauges(self.shared, lambda: self.generation, self.discovery, workers=self._workers)
        if self.resources.sockets is None:  # a worker has no admin listener
            self._spawn(self.live.run(), "live series")

    async def apply(self, config: Config, *, number: int | None = None, sockets: Mapping[str, str] | None = None) -> None:
        """Serve new calls with another configuration.

        Raise LocalModelError and change nothing if a new local model cannot be loaded. A supervisor sets `number` and `sockets`.
        """
        if sockets is not None:
            self.resources.sockets = sockets
        generation = Generation(config, self.shared, number or self.generation.number + 1)
        self._next = generation
        try:
            await check_engines(await self.resources.start_new_engines())
            await self._start_dependencies(generation)
        except BaseException:
            self._next = None
            await self.resources.close_unused(self._is_used)
            await self.issuers.keep_only(generation.config for generation in self._live_generations())
            raise
        self.metrics.add_names(*label_names(config))
        self.health.configure(config.providers)
        self.shared.retry_budget.share = config.retry_budget
        generation.set_runtime_keys(self.runtime_keys.accepted)
        self._replaced.append(self.generation)
        self.generation.hand_over(generation)
        self.generation, self._next = generation, None
        self.page_guard.rules = page_rules(config)
        # before the next await, so that every call finds the known models and replicas
        self.discovery.configure(config, generation.backend)
        self.replicas.configure(config)
        self._on_discovered()
        self._on_replicas()
        await self._configure_notifications()
        self.resources.native.refresh()
        self._spawn(self._preload_tokenizers(generation, serving=True), "tokenizers")
        if self._retiring is None or self._retiring.done():
            self._retiring = self._spawn(self._retire_replaced(), "replaced generations")

    def _live_generations(self) -> list[Generation]:
        """Return the generations that serve calls, and the next one while it is being prepared."""
        return [self.generation, *self._replaced, *([self._next] if self._next is not None else [])]

    def _is_used(self, resource: object) -> bool:
        return any(generation.uses(resource) for generation in self._live_generations())

    async def _start_dependencies(self, generation: Generation) -> None:
        """If this process serves calls, start the ledger, call records and limit store once, and begin to fetch issuers' keys."""
        if self._workers == 1 and not self._dependencies_started:
            self._dependencies_started = True
            self.ledger.start(state_folder(generation.config, os.environ))
            if (recorder := recorder_of(generation.config, os.environ)) is not None:
                self.log.records = CallRecords(recorder, self.report)
            await self._limit_store.limiter_for(generation.config).start()
        if self._workers == 1:
            self.issuers.start(generation.config)

    async def _preload_tokenizers(self, generation: Generation, *, serving: bool = False) -> None:
        # loading a tokenizer.json blocks the event loop, so it is done before the first call, or in the tokenizer process
        if self._workers == 1:
            for tokenizer in generation.tokenizers():
                await (SHARED_COUNTER.warm(tokenizer) if serving else SHARED_COUNTER.load(tokenizer))

    async def _retire_replaced(self) -> None:
        """Drop replaced generations when their last call has ended, and close the resources that only they used."""
        while self._replaced:
            self._replaced = [each for each in self._replaced if each.pipeline.calls or each.pipeline.failover.copies]
            if self._replaced:
                await asyncio.sleep(RETIRE_INTERVAL_S)
            else:
                await self.resources.close_unused(self._is_used)
        await self.issuers.keep_only(generation.config for generation in self._live_generations())
        self.on_retired()

    def count_edge_refusal(self, reason: str) -> None:
        """Count a caller's connection or request that was rejected before a call began."""
        self.metrics.count("lockgate_edge_refusals", (reason,))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _share_cooldowns(self) -> None:
        """Share cooldowns through Redis, if this process serves calls."""
        if self._workers == 1 and not self.config.store.startswith("memory:"):
            client = partial(open_client, store_address(self.config), HEALTH_KEY)
            reporter = self._outage_log.for_subject("cooldowns")
            self._shared_cooldowns = SharedCooldowns(self.health, client, reporter)
            await self._shared_cooldowns.start()

    def _configure_probes(self) -> None:
        """Probe the targets of the serving generation, if this process serves calls."""
        if self._workers == 1:
            more = [(name, model) for name, models in self.discovery.lists.items() for model in models or ()]
            self.probes.configure(self.config, self.generation.backend, lambda: [*target_refs(self.config), *more], self.replicas.addresses)

    async def _configure_notifications(self) -> None:
        """Apply the notification settings of the serving generation, if this process serves calls."""
        if self._workers == 1:
            await self._notifier.configure(self.config.notify)

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Stop engines and tasks, close connections, and write the last log lines.

        `timeout_s` limits the time for the last messages to the store.
        """
        await end_tasks(self._tasks)
        await self.shared.mirrors.stop()
        await self.probes.stop()
        await self._notifier.stop(timeout_s)
        await self.discovery.stop()
        await self.replicas.stop()
        if self._shared_cooldowns is not None:
            await self._shared_cooldowns.stop(timeout_s)
        await self.runtime_keys.stop()
        await self.runtime_teams.stop()
        await self.issuers.keep_only(())
        await self.shared.responses.close()
        await self.shared.cache.close()
        self._outage_log.stop()
        if self.fleet is not None:
            await self.fleet.stop(timeout_s)
        if self._dependencies_started:
            await self._limit_store.stop()
        self.ledger.stop()
        await self.resources.stop()
        if self.shared.tracer is not None:
            await asyncio.to_thread(self.shared.tracer.stop)
        self.log.close()
        if self.log.records is not None:
            await self.log.records.stop(timeout_s)


def _discard(line: str) -> None:
    """Ignore a line that another process of the gateway reports."""
