"""Fetches one small document, such as the public keys of an issuer."""

from __future__ import annotations

from urllib.parse import urlsplit

from gateway.upstream.transport import Deadlines, Origin, TlsFiles, Transport, UpstreamError
from providers.base import WireRequest

DEADLINES = Deadlines(connect=2.0, tls=3.0, first_byte=4.0, idle=4.0, total=4.5)


async def fetch(transport: Transport, url: str, limit: int, *, ca: str | None = None, proxy: str | None = None) -> bytes:
    """Return the document at `url`. Raise UpstreamError unless the status is 200 and the body has at most `limit` bytes."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    origin = Origin(parts.scheme, parts.hostname or "", port, tls=TlsFiles(ca), proxy=proxy)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    response = await transport.send(origin, WireRequest(path, [("accept", "application/json")], b"", "GET"), DEADLINES)
    try:
        if response.status != 200:
            raise UpstreamError("upstream_error", f"{parts.hostname} answered with status {response.status} instead of 200")
        return await response.body(limit)
    finally:
        response.close()
