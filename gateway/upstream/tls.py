"""TLS verification of upstreams: always on, with the system's certificate authorities and at most one further file."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from gateway.upstream.transport import UpstreamError


def make_context(ca: str | None, protocols: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
    """Return a client context that checks host names, requires TLS 1.2 and also trusts the authorities in `ca` (PEM)."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(protocols))
    if ca is not None:
        context.load_verify_locations(cafile=ca)
    return context


class TlsContexts:
    """One context per `ca`. Loading the system's authorities takes about 30 ms, so it is done once and in a thread."""

    def __init__(self, make: Callable[[str | None], ssl.SSLContext] = make_context) -> None:
        self._make = make
        self._contexts: dict[str | None, ssl.SSLContext] = {}

    async def get(self, ca: str | None) -> ssl.SSLContext:
        """Return the context. Raise UpstreamError("tls") if the file cannot be read."""
        contexts = self._contexts  # `refresh` replaces the dictionary; a context loaded meanwhile is not kept
        context = contexts.get(ca)
        if context is None:
            try:
                context = await asyncio.to_thread(self._make, ca)
            except OSError as error:
                reason = f"cannot load the certificate authorities in {ca}: {error.strerror or error}"
                raise UpstreamError("tls", reason) from None
            context = contexts.setdefault(ca, context)
        return context

    def refresh(self) -> None:
        """Reread the files for new connections: they may list other authorities now."""
        self._contexts = {ca: context for ca, context in self._contexts.items() if ca is None}
