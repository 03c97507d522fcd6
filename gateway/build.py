"""The process: what outlives any one configuration. Its `generation` is the configuration that new calls are served by."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gateway.budget import RetryBudget
from gateway.caller import CallerDeadlines
from gateway.calllog import CallLog
from gateway.config_types import Config, ProviderConfig
from gateway.generation import Generation, label_names
from gateway.health import Health
from gateway.limiting import limiter_of
from gateway.metrics import Metrics
from gateway.metrics.cells import Cells
from gateway.metrics.fleet import Fleet, fleet_of
from gateway.mirror import Mirrors
from gateway.normalize import CHECKS
from gateway.pace import Pace
from gateway.run_time_keys import RunTimeKeys, key_store
from gateway.upstream.native import NativeTransport
from gateway.upstream.transport import Transport
from gateway.watch import Watch

if TYPE_CHECKING:
    from gateway.limits.types import Limiter
    from providers.local.distant import DistantEngine
    from providers.local.engine import Engine

    AnyEngine = Engine | DistantEngine


BUILD = (version("lockgate"), platform.python_version())


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
    ) -> None:
        """`report` gets one line for each change in an engine's life; `sockets` are engines that another process runs, by provider;
        `cells` where to count, for another process to read.
        """
        self.log = log
        self.report = report
        self.watch = Watch()
        self.deadlines = deadlines or CallerDeadlines()
        self.native = NativeTransport()
        self._httpx: dict[tuple[str, int], Transport] = {}
        self._engines: dict[str, AnyEngine] = {}
        self._sockets = sockets
        self._workers = workers
        self.paces: dict[str, Pace] = {}
        """How each target has been doing, by its name."""
        self._limiter: Limiter | None = None
        self._loading: asyncio.Task[None] | None = None
        self.metrics = Metrics(*label_names(config), params=CHECKS, cells=cells, max_series=config.metrics.max_series)
        self.fleet: Fleet | None = None
        self.health = Health()
        self.health.configure(config.providers)
        self.budget = RetryBudget(config.retry_budget)
        self.made_keys = RunTimeKeys(key_store(config), lambda: self.generation.join_keys(self.made_keys.entries), report)
        self.mirrors = Mirrors(self.metrics, log)
        self.generation = Generation(config, self, 1)

    @property
    def config(self) -> Config:
        """The configuration that new calls are served by."""
        return self.generation.config

    def transport(self, provider: ProviderConfig) -> Transport:
        """Who opens connections to a provider; one for all that can share it."""
        if provider.transport == "native" and provider.proxy is None:
            return self.native
        key = (provider.name, provider.max_connections)
        if key not in self._httpx:
            from gateway.upstream.httpx_transport import HttpxTransport

            self._httpx[key] = HttpxTransport(connections=provider.max_connections)
        return self._httpx[key]

    def limiter(self, config: Config) -> Limiter:
        """Where limits are counted; one for as long as the process lives, so that a reload forgets nothing."""
        if self._limiter is None:
            self._limiter = limiter_of(config, self.metrics, self.report)
        return self._limiter

    def engine(self, provider: ProviderConfig) -> AnyEngine:
        """The engine of a local provider; the same one as long as its options stay."""
        found = self._engines.get(provider.name)
        if found is None:
            found = self._engines[provider.name] = self._make_engine(provider)
        return found

    def _make_engine(self, provider: ProviderConfig) -> AnyEngine:
        from providers.local.distant import DistantEngine
        from providers.local.engine import Engine
        from providers.local.options import LocalOptions

        options = LocalOptions(**provider.options)
        if self._sockets is not None:
            return DistantEngine(options, self._sockets[provider.name])
        return Engine(options, report=self.report, alias=provider.name, workers=self._workers)

    async def start(self) -> None:
        """Begin to load the local models; calls are served meanwhile."""
        for engine in self._engines.values():
            await engine.start()
        if find_spec("tokenizers") is None and any(one.context and one.context.tokenizer for one in self.config.models.values()):
            self.report("context.tokenizer is not used: it needs the package tokenizers, `pip install lockgate[tokenizers]`")
        await self.made_keys.start()
        if self._sockets is None:
            self.fleet = fleet_of(self.config, self.metrics)
        if self.fleet is not None:
            await self.fleet.start()
        if self._limiter is not None and self._workers == 1:  # of several processes, only those that serve count
            await self._limiter.start()
        if self.generation.counts():
            self._loading = asyncio.create_task(self.generation.pipeline.attempts.fit.preload(), name="tokenizer")
        self._watch_values()

    async def stop(self) -> None:
        """End the engines, close every upstream connection, write the last log lines."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self.mirrors.stop()
        for engine in self._engines.values():
            await engine.stop()
        await self.made_keys.stop()
        if self.fleet is not None:
            await self.fleet.stop()
        if self._limiter is not None:
            await self._limiter.stop()
        for transport in (self.native, *self._httpx.values()):
            await transport.aclose()
        self.log.close()

    def _watch_values(self) -> None:
        """Gauges that are read at scrape."""
        gauge, stats, native = self.metrics.gauge, self.native.stats, self.native
        gauge("lockgate_build_info", lambda: {BUILD: 1})
        if self._sockets is None:
            gauge("lockgate_engine_ready", partial(self._each_engine, "ready"))
            gauge("lockgate_engine_restarts", partial(self._each_engine, "restarts"))
        if self._workers > 1:  # the rest is measured where calls are served
            return
        gauge("lockgate_event_loop_lag_seconds", lambda: {(): self.watch.lag})
        gauge("lockgate_log_drops", lambda: {(): self.log.drops})
        gauge("lockgate_workers", lambda: {(): 1})
        for name in ("connects", "reuses", "stale_retries", "poisoned"):
            gauge(f"lockgate_upstream_{name}", partial(_stat, stats, name))
        gauge("lockgate_upstream_connections", lambda: {(state,): getattr(native, state) for state in ("in_use", "idle", "waiting")})
        gauge("lockgate_engine_running", partial(self._each_engine, "running"))
        gauge("lockgate_engine_waiting", partial(self._each_engine, "waiting"))

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


def _stat(stats: object, name: str) -> dict[tuple[str, ...], float]:
    return {(): float(getattr(stats, name))}
