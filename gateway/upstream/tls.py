"""TLS with upstreams. Certificates are always verified, with the system's authorities and, if configured, those in a file."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from gateway.upstream.transport import SYSTEM_TLS, TlsFiles, UpstreamError

ALERTS = {
    "CERTIFICATE_REQUIRED": "the upstream requires a client certificate, and none was sent; set the provider's client_certificate",
    "HANDSHAKE_FAILURE": "the upstream rejected the handshake; it may require a client certificate (client_certificate) or another cipher",
    "UNKNOWN_CA": "the upstream does not know the authority that issued the client certificate",
    "BAD_CERTIFICATE": "the upstream rejected the client certificate",
    "CERTIFICATE_UNKNOWN": "the upstream rejected the client certificate",
    "UNSUPPORTED_CERTIFICATE": "the upstream does not support this type of client certificate",
    "CERTIFICATE_EXPIRED": "the client certificate has expired, or is not valid yet",
    "CERTIFICATE_REVOKED": "the client certificate was revoked",
    "ACCESS_DENIED": "the upstream does not give the client certificate access",
    "PROTOCOL_VERSION": "the upstream does not support TLS 1.2 or later",
    "UNRECOGNIZED_NAME": "the upstream does not serve this host name",
}
"""Meanings of the alerts with which an upstream ends a handshake (RFC 8446, section 6.2), by the last words of OpenSSL's names."""


def alert_of(error: BaseException | None) -> str | None:
    """Return the meaning of the alert in a connection's error, or None if the error has no alert."""
    if not isinstance(error, ssl.SSLError) or error.reason is None:
        return None
    known = (text for name, text in ALERTS.items() if error.reason.endswith((f"ALERT_{name}", f"TLSV1_{name}")))
    return next(known, f"the upstream sent {error.reason}" if "_ALERT_" in error.reason else None)


def lost_before_response(error: Exception | None) -> UpstreamError:
    """Return the error for a connection that ended before the response.

    In TLS 1.3, an upstream rejects a client certificate after the handshake.
    """
    if (alert := alert_of(error)) is not None:
        return UpstreamError("tls", f"TLS with the upstream failed: {alert}")
    return UpstreamError("closed_pre", "the upstream closed the connection without a response")


def make_context(files: TlsFiles, protocols: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLContext:
    """Return a client context that uses the files, checks host names and requires TLS 1.2 or later.

    Raise an OSError that names the file if a file cannot be used.
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
