"""One Gateway out of one Config: keys, models, places, transports, and the engine of each local provider."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import structs

import providers
from gateway.auth import Keys, VirtualKey
from gateway.caller import CallerDeadlines
from gateway.calllog import CallLog
from gateway.config_route import refs
from gateway.config_types import Config, KeyConfig, ProviderConfig
from gateway.limiting import limits_of
from gateway.metrics import Metrics
from gateway.normalize import CHECKS
from gateway.pipeline import Pipeline
from gateway.routing import Model, Place, Router
from gateway.upstream.native import NativeTransport
from gateway.upstream.transport import Deadlines, Origin, Transport
from gateway.watch import Watch
from providers.base import Target

if TYPE_CHECKING:
    from providers.local.distant import DistantEngine
    from providers.local.engine import Engine

    AnyEngine = Engine | DistantEngine


MOST_PLACES = 10_000


class Gateway:
    """Everything that one generation of the configuration is made of."""

    def __init__(
        self,
        config: Config,
        log: CallLog,
        report: Callable[[str], None],
        *,
        sockets: Mapping[str, str] | None = None,
        workers: int = 1,
    ) -> None:
        """`report` gets one line for each change in an engine's life; `sockets` are engines that another process runs, by provider."""
        self.config = config
        self.log = log
        self.watch = Watch()
        self.native = NativeTransport()
        self._httpx: dict[str, Transport] = {}
        self.engines: dict[str, AnyEngine] = {}
        self._report = report
        self._sockets = sockets
        self._loading: asyncio.Task[None] | None = None
        self._workers = workers
        self._places: dict[tuple[str, str], Place] = {}
        models = {name: Model(name, one.targets, one) for name, one in config.models.items()}
        targets = {str(ref) for one in config.models.values() for ref in refs(one.targets) if ref.provider is not None}
        self.metrics = Metrics([name for name in models if "*" not in name], CHECKS, targets)
        self.router = Router(models, self.place, expose_targets=config.expose_targets, providers=frozenset(config.providers))
        self.pipeline = Pipeline(
            keys=_keys(config),
            router=self.router,
            metrics=self.metrics,
            log=log,
            watch=self.watch,
            deadlines=CallerDeadlines(),
            max_body=config.max_body,
            strict=config.strict,
            limits=limits_of(config, self.metrics, report),
        )
        for name in config.providers:
            if config.providers[name].type == "local":
                self.engines[name] = self._engine(config.providers[name])

    def place(self, provider: str, model: str) -> Place:
        """The place of a provider's model; made once, as long as callers do not make names up (`expose_targets`)."""
        place = self._places.get((provider, model))
        if place is None:
            place = self._make_place(self.config.providers[provider], model)
            if len(self._places) < MOST_PLACES:
                self._places[provider, model] = place
        return place

    def _make_place(self, provider: ProviderConfig, model: str) -> Place:
        kind = providers.get(provider.type)
        engine = self.engines.get(provider.name)
        base_url = (provider.base_url or kind.default_base_url or "").rstrip("/")
        target = Target(
            name=f"{provider.name}/{model}",
            provider=provider.name,
            kind=kind,
            model=model,
            base_url=base_url,
            credential=provider.api_key[0].reveal() if provider.api_key else None,
            socket=engine.socket if engine else None,
            options=provider.options,
            headers=tuple((name.lower(), value.reveal()) for name, value in provider.headers.items()),
        )
        deadlines = Deadlines(provider.connect, provider.tls, provider.first_byte_timeout, provider.idle_timeout, provider.timeout)
        others = [structs.replace(target, credential=key.reveal()) for key in provider.api_key[1:]]
        return Place((target, *others), _origin(target, provider), self._transport(provider), deadlines, engine)

    def _transport(self, provider: ProviderConfig) -> Transport:
        if provider.transport == "native" and provider.proxy is None:
            return self.native
        if provider.name not in self._httpx:
            from gateway.upstream.httpx_transport import HttpxTransport

            self._httpx[provider.name] = HttpxTransport(connections=provider.max_connections)
        return self._httpx[provider.name]

    def _engine(self, provider: ProviderConfig) -> AnyEngine:
        from providers.local.distant import DistantEngine
        from providers.local.engine import Engine
        from providers.local.options import LocalOptions

        options = LocalOptions(**provider.options)
        if self._sockets is not None:
            return DistantEngine(options, self._sockets[provider.name])
        return Engine(options, report=self._report, alias=provider.name, workers=self._workers)

    async def start(self) -> None:
        """Begin to load the local models; calls are served meanwhile."""
        for engine in self.engines.values():
            await engine.start()
        if find_spec("tokenizers") is None and any(one.context and one.context.tokenizer for one in self.config.models.values()):
            self._report("context.tokenizer is not used: it needs the package tokenizers, `pip install lockgate[tokenizers]`")
        if self.pipeline.limits is not None and self._workers == 1:  # of several processes, only those that serve count
            await self.pipeline.limits.start()
        if self._counts():
            self._loading = asyncio.create_task(self.pipeline.attempts.fit.preload(), name="tokenizer")
        self._watch_values()

    def _counts(self) -> bool:
        """Whether calls of some model need a tokenizer: the local engine counts by itself."""
        kinds = {name: one.type for name, one in self.config.providers.items()}
        counted = [one for one in self.config.models.values() if one.context is not None]
        if self.pipeline.limits is not None and self.pipeline.limits.counts_tokens:
            counted = list(self.config.models.values())
        return any(kinds.get(ref.provider or "", "local") != "local" for one in counted for ref in refs(one.targets))

    async def stop(self) -> None:
        """End the engines, close every upstream connection, write the last log lines."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        for engine in self.engines.values():
            await engine.stop()
        if self.pipeline.limits is not None:
            await self.pipeline.limits.stop()
        for transport in (self.native, *self._httpx.values()):
            await transport.aclose()
        self.log.close()

    def _watch_values(self) -> None:
        """Gauges that are read at scrape."""
        metrics = self.metrics
        metrics.gauge("lockgate_event_loop_lag_seconds", "How late the last tick was.", lambda: {(): self.watch.lag})
        metrics.gauge("lockgate_log_drops_total", "Log lines dropped because nobody read them.", lambda: {(): self.log.drops})
        for name, text in _COUNTED.items():
            metrics.gauge(f"lockgate_upstream_{name}_total", text, partial(_stat, self.native.stats, name))
        for name, text in _CONNECTIONS.items():
            metrics.gauge(f"lockgate_upstream_connections_{name}", text, partial(_stat, self.native, name))
        if self.engines:
            engines = self.engines
            label = ("provider",)
            metrics.gauge("lockgate_engine_ready", "1 while the local engine answers.", lambda: _each(engines, "ready"), label)
            metrics.gauge("lockgate_engine_restarts_total", "Restarts of the local engine.", lambda: _each(engines, "restarts"), label)
            metrics.gauge("lockgate_engine_running", "Calls in the local engine's slots.", lambda: _each(engines, "running"), label)
            metrics.gauge("lockgate_engine_waiting", "Calls that wait for a slot.", lambda: _each(engines, "waiting"), label)


_COUNTED = {
    "connects": "Connections opened to upstreams.",
    "reuses": "Requests sent on a kept connection.",
    "stale_retries": "Requests repeated because a kept connection had been closed.",
    "poisoned": "Connections not kept because of what came on them.",
}
_CONNECTIONS = {
    "in_use": "Connections that carry a request.",
    "idle": "Connections kept for the next request.",
    "waiting": "Requests that wait for a connection.",
}


def _stat(stats: object, name: str) -> dict[tuple[str, ...], float]:
    return {(): float(getattr(stats, name))}


def _each(engines: dict[str, AnyEngine], what: str) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for name, engine in engines.items():
        values: dict[str, Any] = {
            "ready": engine.state == "ready",
            "restarts": engine.restarts,
            "running": engine.gate.running,
            "waiting": engine.gate.waiting,
        }
        found[name,] = float(values[what])
    return found


def _keys(config: Config) -> Keys:
    keys = {bytes.fromhex(one.hash.removeprefix("sha256:")): _key(one) for one in config.keys.values()}
    return Keys(keys, open_to_all=not config.keys)


def _key(one: KeyConfig) -> VirtualKey:
    models = None if one.models is None else frozenset(one.models)
    return VirtualKey(one.name, models, one.disabled, one.expires.timestamp() if one.expires else None, bool(one.strict))


def _origin(target: Target, provider: ProviderConfig) -> Origin:
    url = urlsplit(target.base_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    return Origin(url.scheme, url.hostname or "", port, target.socket, provider.ca, provider.proxy, provider.max_connections)
