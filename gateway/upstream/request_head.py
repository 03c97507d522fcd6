"""Encodes the head of a request and rejects values that would inject further header lines."""

from __future__ import annotations

from gateway.upstream.transport import Origin, UpstreamError
from providers.base import WireRequest

CONNECTION_HEADERS = frozenset({"host", "content-length", "accept-encoding", "transfer-encoding", "connection", "expect", "upgrade", "te"})
"""Headers of the connection or the framing. Only transports set them; those in a request are left out."""

_DEFAULT_PORT = {"http": 80, "https": 443}


def authority(origin: Origin) -> str:
    """Return the value of the `host` header: the host, in brackets if it is an IPv6 address, and any port but the scheme's default."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return host if _DEFAULT_PORT.get(origin.scheme) == origin.port else f"{host}:{origin.port}"


def origin_part(origin: Origin) -> str:
    """Return the part of a request head that depends only on the origin."""
    return f" HTTP/1.1\r\nhost: {authority(origin)}\r\naccept-encoding: identity\r\ncontent-length: "


def encode_head(request: WireRequest, lines: str) -> bytes:
    """Encode the request head. Raise UpstreamError("protocol") if a value would inject another header or line."""
    path = request.path
    parts = [f"\r\n{name}: {value}" for name, value in request.headers if name not in CONNECTION_HEADERS]
    head = f"{request.method} {path}{lines}{len(request.body)}{''.join(parts)}\r\n\r\n"
    breaks = len(parts) + 5
    if head.count("\n") != breaks or head.count("\r") != breaks or "\0" in head or " " in path:
        raise UpstreamError("protocol", "the request's path or headers contain a line break, NUL or space that is not allowed there")
    try:
        return head.encode("latin-1")
    except UnicodeEncodeError:
        raise UpstreamError("protocol", "the request's path or headers contain characters that HTTP cannot transmit") from None
