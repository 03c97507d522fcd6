"""The replicas of providers with `replicas: dns`: the addresses of the host, looked up at a fixed interval.

If a lookup fails, the last addresses stay in use.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.config.types import Config
from gateway.upstream.end_tasks import BackgroundTasks
from gateway.upstream.resolver import Resolver

MAX_REPLICAS = 1_000
"""Maximum number of replicas of one provider. Further addresses are ignored."""
START_TIMEOUT_S = 5.0
"""Maximum time for which the start of a process waits for the first lookups."""


class _Source(NamedTuple):
    """A host whose addresses are replicas."""

    provider: str
    host: str
    port: int


class Replicas:
    """The replicas of all providers of one process, as its current generation configures them."""

    def __init__(self, resolver: Resolver, report: Callable[[str], None], on_change: Callable[[], None]) -> None:
        """`report` receives a line when replicas change, or lookups fail or succeed again. `on_change` is called after each change."""
        self._resolver = resolver
        self._report = report
        self._on_change = on_change
        self._found: dict[_Source, tuple[str, ...]] = {}
        self._failing: set[_Source] = set()
        self._tasks = BackgroundTasks()
        self._tried: list[asyncio.Event] = []

    @property
    def addresses(self) -> Mapping[str, tuple[str, ...]]:
        """The addresses (`HOST:PORT`) of each provider whose host has been resolved."""
        return {source.provider: addresses for source, addresses in self._found.items()}

    def configure(self, config: Config) -> None:
        """Look up the replicas of this configuration's providers. Addresses that were found for the same host stay in use."""
        self._tasks.cancel()
        self._tried = []
        known, self._found = self._found, {}
        for name, provider in config.providers.items():
            if provider.replicas is None:
                continue
            url = urlsplit(provider.base_url or "")
            source = _Source(name, url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
            if source in known:
                self._found[source] = known[source]
            tried = asyncio.Event()
            self._tried.append(tried)
            work = self._look_up_repeatedly(source, provider.replicas.every, tried)
            self._tasks.start(work, f"replicas {name}")
        self._failing &= self._found.keys()

    async def wait_for_first(self) -> None:
        """Wait until each host has been looked up once, but at most START_TIMEOUT_S."""
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(tried.wait() for tried in self._tried)), START_TIMEOUT_S)

    async def stop(self) -> None:
        """End all lookups."""
        await self._tasks.stop()

    async def _look_up_repeatedly(self, source: _Source, every_s: float, tried: asyncio.Event) -> None:
        while True:
            self._resolver.forget(source.host, source.port)
            try:
                addresses = await self._resolver.resolve(source.host, source.port)
            except OSError as error:
                self._fail(source, error.strerror or str(error))
            else:
                self._take(source, tuple(sorted({_text(str(target[0]), int(target[1])) for _, target in addresses}))[:MAX_REPLICAS])
            tried.set()
            await asyncio.sleep(every_s * (0.9 + 0.2 * random.random()))  # so that processes do not send lookups at the same time

    def _take(self, source: _Source, addresses: tuple[str, ...]) -> None:
        recovered = source in self._failing
        self._failing.discard(source)
        before = self._found.get(source, ())
        if addresses and addresses != before:
            self._found[source] = addresses
            new, removed = set(addresses) - set(before), set(before) - set(addresses)
            change = f" ({len(new)} new, {len(removed)} removed)" if before else ""
            self._report(f"provider {source.provider}: {source.host} has {_count(len(addresses))}{change}")
            self._on_change()
        elif recovered:
            self._report(f"provider {source.provider}: {source.host} can be resolved again")

    def _fail(self, source: _Source, reason: str) -> None:
        if source not in self._failing:
            self._failing.add(source)
            known = len(self._found.get(source, ()))
            kept = f"the last {_count(known)} {'stays' if known == 1 else 'stay'} in use" if known else "calls are sent to the name itself"
            self._report(f"provider {source.provider}: {source.host} cannot be resolved: {reason}; {kept}")


def _text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _count(replicas: int) -> str:
    return "1 replica" if replicas == 1 else f"{replicas} replicas"
