"""TLS with upstreams: verification, always on, with the system's authorities and those of a file; client certificates."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from gateway.upstream.transport import SYSTEM_TLS, TlsFiles, UpstreamError


def make_context(files: TlsFiles, protocols: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
    """Return a client context that checks host names and requires TLS 1.2, with the files.

    Raise OSError, with the file in its message, if one cannot be used.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(protocols))
    try:
        if files.ca is not None:
            context.load_verify_locations(cafile=files.ca)
    except OSError as error:
        raise OSError(f"cannot load the certificate authorities in {files.ca}: {error.strerror or error}") from None
    try:
        if files.cert is not None:
            context.load_cert_chain(files.cert, files.key, password=lambda: b"")
    except OSError as error:
        raise OSError(f"cannot load the client certificate in {files.cert}: {error.strerror or error}") from None
    return context


class TlsContexts:
    """One context per set of files. Loading the system's authorities takes about 30 ms, so it is done once and in a thread."""

    def __init__(self, make: Callable[[TlsFiles], ssl.SSLContext] = make_context) -> None:
        self._make = make
        self._contexts: dict[TlsFiles, ssl.SSLContext] = {}

    async def get(self, files: TlsFiles) -> ssl.SSLContext:
        """Return the context. Raise UpstreamError("tls") if a file cannot be used."""
        contexts = self._contexts  # `refresh` replaces the dictionary; a context loaded meanwhile is not kept
        context = contexts.get(files)
        if context is None:
            try:
                context = await asyncio.to_thread(self._make, files)
            except OSError as error:
                raise UpstreamError("tls", str(error)) from None
            context = contexts.setdefault(files, context)
        return context

    def refresh(self) -> None:
        """Reread the files for new connections: they may contain other authorities or another certificate now."""
        self._contexts = {files: context for files, context in self._contexts.items() if files == SYSTEM_TLS}
