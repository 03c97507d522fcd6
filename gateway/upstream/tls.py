"""How upstream certificates are verified: always, with the system's authorities and at most one more file."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from gateway.upstream.transport import UpstreamError


def make_context(ca: str | None, protocols: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
    """A client context: host names checked, TLS 1.2 or later, `ca` (a PEM file) trusted besides the system's."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(protocols))
    if ca is not None:
        context.load_verify_locations(cafile=ca)
    return context


class TlsContexts:
    """One context per `ca`: loading the system's authorities takes about 30 ms, so it happens once and off the loop."""

    def __init__(self, make: Callable[[str | None], ssl.SSLContext] = make_context) -> None:
        self._make = make
        self._contexts: dict[str | None, ssl.SSLContext] = {}

    async def get(self, ca: str | None) -> ssl.SSLContext:
        """UpstreamError("tls") when the file cannot be read."""
        made = self._contexts  # replaced by `renew`: what was read before that is not kept
        context = made.get(ca)
        if context is None:
            try:
                context = await asyncio.to_thread(self._make, ca)
            except OSError as error:
                raise UpstreamError("tls", f"cannot load the authorities in {ca}: {error.strerror or error}") from None
            context = made.setdefault(ca, context)
        return context

    def refresh(self) -> None:
        """Read the files again for connections to come: they may have other authorities now."""
        self._contexts = {ca: context for ca, context in self._contexts.items() if ca is None}
