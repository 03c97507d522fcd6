"""What generations borrow from the process: transports and engines, one for all that can share it, ended when none uses it any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import providers
from gateway.config.files import fingerprint
from gateway.config.provider import ProviderConfig
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.proxy import proxy_of
from gateway.upstream.resolver import Resolver, ThreadResolver, is_allowed_address
from gateway.upstream.transport import Transport

if TYPE_CHECKING:
    from gateway.runtime.generation import Generation
    from providers.local.engine import Engine
    from providers.local.worker_engine import WorkerEngine

    AnyEngine = Engine | WorkerEngine

LOADING = 600.0
"""Seconds after which a model that still loads is taken for a good one."""


def base_url_of(provider: ProviderConfig) -> str:
    """Where a provider is: its own address, or its type's."""
    return (provider.base_url or providers.get(provider.type).default_base_url or "").rstrip("/")


class Lender:
    """One process's transports and engines."""

    def __init__(
        self,
        report: Callable[[str], None],
        sockets: Mapping[str, str] | None,
        workers: int,
        resolver: Resolver | None = None,
    ) -> None:
        """`sockets` are engines that another process runs, by provider; `workers` processes admit calls to ours."""
        self._resolver = resolver or ThreadResolver()
        self.native = NativeTransport(resolver=self._resolver, is_allowed=is_allowed_address)
        self.sockets = sockets
        self._httpx: dict[tuple[str, int, str], Transport] = {}
        self._engines: list[tuple[str, AnyEngine]] = []
        self._new: list[AnyEngine] = []
        self._report = report
        self._workers = workers

    def transport(self, provider: ProviderConfig) -> Transport:
        """Who opens connections to a provider."""
        if provider.transport == "native" and proxy_of(provider.proxy, base_url_of(provider)) is None:
            return self.native
        key = (provider.name, provider.max_connections, fingerprint(provider.ca) if provider.ca else "")
        if key not in self._httpx:
            from gateway.upstream.httpx_transport import HttpxTransport

            self._httpx[key] = HttpxTransport(provider.max_connections, self._resolver, is_allowed_address)
        return self._httpx[key]

    def engine(self, provider: ProviderConfig) -> AnyEngine:
        """The engine of a local provider: the one that runs already, as long as its options are the same."""
        from providers.local.engine import Engine
        from providers.local.options import LocalOptions
        from providers.local.worker_engine import WorkerEngine

        options = LocalOptions(**provider.options)
        socket = self.sockets[provider.name] if self.sockets is not None else None
        for name, engine in self._engines:
            if name == provider.name and engine.options == options and socket in (None, engine.socket):
                return engine
        made: AnyEngine
        if socket is not None:
            made = WorkerEngine(options, socket)
        else:
            made = Engine(options, report=self._report, alias=provider.name, workers=self._workers)
        self._engines.append((provider.name, made))
        self._new.append(made)
        return made

    async def start_new(self) -> list[AnyEngine]:
        """Start the engines that were made since the last time; they load meanwhile."""
        started, self._new = self._new, []
        for engine in started:
            await engine.start()
        return started

    async def end_unused(self, alive: Callable[[], list[Generation]]) -> None:
        """End what no generation that lives may still need."""
        for name, engine in self._engines[:]:
            if not any(generation.uses(engine) for generation in alive()):
                self._engines.remove((name, engine))
                await engine.stop()
        for key, transport in list(self._httpx.items()):
            if not any(generation.uses(transport) for generation in alive()):
                del self._httpx[key]
                await transport.aclose()

    async def stop(self) -> None:
        """End everything."""
        await self.end_unused(list)
        await self.native.aclose()
