"""Active health probes: small requests at a fixed interval, for providers with `probe` settings.

A success ends cooldowns after failures. A failure counts as a failure of each target of the provider. The tasks that read the
load of servers (server_load) start and end with the probes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from msgspec import structs

from gateway.config.provider import ProbeConfig
from gateway.config.types import Config
from gateway.targets.backend import Backend, BackendOf
from gateway.targets.registry import TargetRegistry
from gateway.targets.server_load import interval_s, measured_providers, read_load_repeatedly
from gateway.upstream.end_tasks import BackgroundTasks
from gateway.upstream.transport import UpstreamError
from providers.base import Failure, WireRequest

MIN_TIMEOUT_S, MAX_TIMEOUT_S = 1.0, 10.0
"""Bounds of a probe's timeout, which otherwise is the interval between probes."""
MAX_ANSWER_BYTES = 1 << 20


class Probes:
    """The probes of one process, as its current generation configures them."""

    def __init__(self, registry: TargetRegistry) -> None:
        self._registry = registry
        self._tasks = BackgroundTasks()

    def configure(
        self,
        config: Config,
        backend_of: BackendOf,
        targets: Callable[[], Iterable[tuple[str, str]]],
        replicas: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Replace all probes with those of a configuration. `targets` returns (provider, model) pairs; it is called only if any is probed.

        `replicas` are the addresses of the replicas of each provider that has replicas. Each replica is probed.
        """
        self._tasks.cancel()
        measured = measured_providers(config)
        probed = measured | {name for name, provider in config.providers.items() if provider.probe is not None}
        models: dict[str, list[str]] = {}
        for owner, model in targets() if probed else ():
            if owner in probed:
                models.setdefault(owner, []).append(model)
        measured &= models.keys()
        servers = sum(len((replicas or {}).get(name, ("",))) for name in measured)
        for name, used in models.items():
            probe, load_metrics = config.providers[name].probe, config.providers[name].load_metrics
            for address in (replicas or {}).get(name, ("",)):
                backends = [backend_of(name, model, address) if address else backend_of(name, model) for model in used]
                if probe is not None:
                    self._tasks.start(self._probe_repeatedly(probe, backends), f"probe {name}")
                if name in measured:
                    work = read_load_repeatedly(load_metrics, interval_s(load_metrics, servers), backends)
                    self._tasks.start(work, f"load {name}")

    async def stop(self) -> None:
        """End all probes, and the requests for the load of servers."""
        await self._tasks.stop()

    async def _probe_repeatedly(self, probe: ProbeConfig, backends: list[Backend]) -> None:
        timeout_s = min(max(MIN_TIMEOUT_S, probe.every), MAX_TIMEOUT_S)
        while True:
            await asyncio.sleep(probe.every * (0.9 + 0.2 * random.random()))  # so that several processes do not probe at the same moments
            began = self._registry.clock()
            failure = await send_probe(backends[0], probe.path, timeout_s)
            for backend in backends:
                self._registry.health_of(backend.target).record_probe(failure, began)


async def send_probe(backend: Backend, path: str, timeout_s: float) -> Failure | None:
    """Send one probe. Return None for any status below 500, else the failure."""
    target = backend.target
    headers = [*target.kind.probe_headers(target), ("accept", "*/*")]
    request = WireRequest(urlsplit(target.base_url).path.rstrip("/") + path, headers, b"", "GET")
    deadlines = structs.replace(backend.deadlines, total=min(timeout_s, backend.deadlines.total))
    began = time.monotonic()
    try:
        response = await backend.transport.send(backend.origin, request, deadlines)
        try:
            await response.body(MAX_ANSWER_BYTES)
        finally:
            response.close()
    except UpstreamError as error:
        return Failure(error.kind, f"the probe failed after {time.monotonic() - began:.1f} s: {error.message}")
    if response.status >= 500:
        return Failure("server_error", f"the probe was answered with HTTP {response.status}", response.status)
    return None
