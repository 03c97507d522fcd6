"""Active probes, for providers that ask for them: a small request now and then tells how the provider is, whether callers come or not.

A good answer brings targets back that were left alone because of failures; a bad one counts as a failure of each target of the provider.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from msgspec import structs

from gateway.config.provider import ProbeConfig
from gateway.config.types import Config
from gateway.targets.backend import Backend
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import UpstreamError
from providers.base import Failure, WireRequest

PATIENCE = (1.0, 10.0)
"""Seconds for one probe as a whole: as long as from one to the next, within these bounds."""


class Probes:
    """The probes of one process; they follow its generation."""

    def __init__(self, health: TargetRegistry) -> None:
        self._health = health
        self._tasks: list[asyncio.Task[None]] = []

    def configure(self, config: Config, place: Callable[[str, str], Backend], targets: Iterable[tuple[str, str]]) -> None:
        """Probe what this configuration wants probed, and nothing else. `targets` are (provider, model) pairs."""
        self._end()
        models: dict[str, list[str]] = {}
        for provider, model in targets:
            models.setdefault(provider, []).append(model)
        for name, found in models.items():
            probe = config.providers[name].probe
            if probe is not None:
                places = [place(name, model) for model in found]
                self._tasks.append(asyncio.create_task(self._watch(probe, places), name=f"probe {name}"))

    async def stop(self) -> None:
        """No more probes."""
        tasks = self._end()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    def _end(self) -> list[asyncio.Task[None]]:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        return tasks

    async def _watch(self, probe: ProbeConfig, places: list[Backend]) -> None:
        while True:
            await asyncio.sleep(probe.every * (0.9 + 0.2 * random.random()))  # not all processes at once
            failure = await send_probe(places[0], probe.path, min(max(PATIENCE[0], probe.every), PATIENCE[1]))
            for place in places:
                self._health.health_of(place.target).record_probe(failure)


async def send_probe(place: Backend, path: str, patience: float) -> Failure | None:
    """One probe of at most `patience` seconds: None when the provider answered like one that works, whatever it thinks of the path."""
    target = place.target
    headers = [*target.kind.probe_headers(target), ("accept", "*/*")]
    request = WireRequest(urlsplit(target.base_url).path.rstrip("/") + path, headers, b"", "GET")
    deadlines = structs.replace(place.deadlines, total=min(patience, place.deadlines.total))
    began = time.monotonic()
    try:
        response = await place.transport.send(place.origin, request, deadlines)
        try:
            await response.body(1 << 20)
        finally:
            response.close()
    except UpstreamError as error:
        return Failure(error.kind, f"a probe failed after {time.monotonic() - began:.1f} s: {error.message}")
    return Failure("server_error", f"a probe was answered HTTP {response.status}", response.status) if response.status >= 500 else None
