"""Transports and engines, which generations share. An engine or a provider's own transport is closed when no generation uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import providers
from gateway.config.files import fingerprint
from gateway.config.issuer import IssuerConfig
from gateway.config.provider import ProviderConfig
from gateway.upstream.fetch import fetch
from gateway.upstream.file_limit import MIN_CONNECTIONS
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.proxy import proxy_of
from gateway.upstream.resolver import Resolver, ThreadResolver, is_allowed_address
from gateway.upstream.transport import TlsFiles, Transport

if TYPE_CHECKING:
    from providers.local.supervisor import Engine
    from providers.local.worker_engine import WorkerEngine

    AnyEngine = Engine | WorkerEngine

LOAD_TIMEOUT_S = 600.0
"""Time after which a model that is still loading counts as usable."""


class LocalModelError(Exception):
    """A configuration names a local model that cannot be loaded."""


def base_url_of(provider: ProviderConfig) -> str:
    """Return the base URL of a provider: the configured one, or the default of the provider's type."""
    return (provider.base_url or providers.get(provider.type).default_base_url or "").rstrip("/")


class Resources:
    """Transports and engines of one process."""

    def __init__(
        self,
        report: Callable[[str], None],
        sockets: Mapping[str, str] | None,
        workers: int,
        resolver: Resolver | None = None,
    ) -> None:
        """`sockets` are the sockets, by provider, of engines that another process runs.

        `workers` is the number of processes that use these engines.
        """
        self.resolver = resolver or ThreadResolver()
        self.native = NativeTransport(resolver=self.resolver, is_allowed=is_allowed_address)
        self.loopback = NativeTransport(connections=64)
        """The transport for calls from the admin listener's page to this gateway's callers' listener."""
        self.sockets = sockets
        self._httpx: dict[tuple[str, int | None, str], Transport] = {}
        self._engines: list[tuple[str, AnyEngine]] = []
        self._unstarted: list[AnyEngine] = []
        self._report = report
        self._workers = workers

    def transport_for(self, provider: ProviderConfig) -> Transport:
        """Return the transport of a provider."""
        if provider.transport == "native" and proxy_of(provider.proxy, base_url_of(provider)) is None:
            return self.native
        files = tls_files(provider)
        contents = "".join(fingerprint(path) for path in (files.ca, files.cert, files.key) if path)
        key = (provider.name, provider.max_connections, contents)
        if key not in self._httpx:
            from gateway.upstream.httpx_transport import HttpxTransport

            self._httpx[key] = HttpxTransport(provider.max_connections or MIN_CONNECTIONS, self.resolver, is_allowed_address)
        return self._httpx[key]

    async def fetch(self, issuer: IssuerConfig, url: str, limit: int) -> bytes:
        """Return the content of a URL of an issuer. Raise UpstreamError if it cannot be read or exceeds `limit` bytes."""
        proxy = proxy_of(issuer.proxy, url)
        if proxy is None:
            return await fetch(self.native, url, limit, ca=issuer.ca)
        from gateway.upstream.httpx_transport import HttpxTransport

        transport = HttpxTransport(1, self.resolver, is_allowed_address)
        try:
            return await fetch(transport, url, limit, ca=issuer.ca, proxy=proxy)
        finally:
            await transport.aclose()

    def engine_for(self, provider: ProviderConfig) -> AnyEngine:
        """Return the engine of a local provider. An existing engine with the same options is used again."""
        from providers.local.options import LocalOptions
        from providers.local.supervisor import Engine
        from providers.local.worker_engine import WorkerEngine

        options = LocalOptions(**provider.options)
        socket = self.sockets[provider.name] if self.sockets is not None else None
        for name, engine in self._engines:
            if name == provider.name and engine.options == options and socket in (None, engine.socket):
                return engine
        new: AnyEngine
        if socket is not None:
            new = WorkerEngine(options, socket)
        else:
            new = Engine(options, report=self._report, alias=provider.name, workers=self._workers)
        self._engines.append((provider.name, new))
        self._unstarted.append(new)
        return new

    async def start_new_engines(self) -> list[AnyEngine]:
        """Start the engines created since the last call of this method, and return them.

        The engines load their models in the background.
        """
        started, self._unstarted = self._unstarted, []
        for engine in started:
            await engine.start()
        return started

    async def close_unused(self, is_used: Callable[[object], bool]) -> None:
        """Close the transports and stop the engines for which `is_used` returns False."""
        for name, engine in self._engines[:]:
            if not is_used(engine):
                self._engines.remove((name, engine))
                await engine.stop()
        for key, transport in list(self._httpx.items()):
            if not is_used(transport):
                del self._httpx[key]
                await transport.aclose()

    async def stop(self) -> None:
        """Stop all engines and close all transports."""
        await self.close_unused(lambda resource: False)
        await self.native.aclose()
        await self.loopback.aclose()


async def check_engines(engines: list[AnyEngine]) -> None:
    """Wait until the engines have loaded. Raise LocalModelError if an engine cannot load its model."""
    from providers.local.supervisor import Engine

    for engine in engines:
        if isinstance(engine, Engine):
            await engine.settled(LOAD_TIMEOUT_S)
            if engine.code in ("bad_model", "missing_model"):
                raise LocalModelError(f"the local engine's model cannot be used: {engine.reason}")


def tls_files(provider: ProviderConfig) -> TlsFiles:
    """Return the files for TLS with a provider."""
    pair = provider.client_certificate
    return TlsFiles(provider.ca, pair.cert, pair.key) if pair is not None else TlsFiles(provider.ca)
