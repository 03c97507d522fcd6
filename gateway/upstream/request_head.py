"""The head of a request on the wire: one encoding, checked once against smuggled lines."""

from __future__ import annotations

from gateway.upstream.transport import Origin, UpstreamError
from providers.base import WireRequest

CONNECTION_HEADERS = frozenset({"host", "content-length", "accept-encoding", "transfer-encoding", "connection", "expect", "upgrade", "te"})
"""Headers that describe the connection or the framing: written here or not at all, whatever a request brings."""

_DEFAULT_PORT = {"http": 80, "https": 443}


def authority(origin: Origin) -> str:
    """What `host` says for an origin: brackets around IPv6, no port where it is the scheme's own."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return host if _DEFAULT_PORT.get(origin.scheme) == origin.port else f"{host}:{origin.port}"


def origin_part(origin: Origin) -> str:
    """The part of every head that only depends on the origin."""
    return f" HTTP/1.1\r\nhost: {authority(origin)}\r\naccept-encoding: identity\r\ncontent-length: "


def encode_head(request: WireRequest, lines: str) -> bytes:
    """The request's head; UpstreamError("protocol") when a value would not survive the wire as one value."""
    path = request.path
    parts = [f"\r\n{name}: {value}" for name, value in request.headers if name not in CONNECTION_HEADERS]
    head = f"{request.method} {path}{lines}{len(request.body)}{''.join(parts)}\r\n\r\n"
    breaks = len(parts) + 5
    if head.count("\n") != breaks or head.count("\r") != breaks or "\0" in head or " " in path:
        raise UpstreamError("protocol", "the request's path or headers hold a line break, a NUL or a space where none may be")
    try:
        return head.encode("latin-1")
    except UnicodeEncodeError:
        raise UpstreamError("protocol", "the request's path or headers hold characters that HTTP cannot carry") from None
