"""Encodes the head of a request and rejects values that would inject further header lines."""

from __future__ import annotations

from gateway.upstream.transport import Origin, Upload, UpstreamError
from providers.base import WireRequest

CONNECTION_HEADERS = frozenset({"host", "content-length", "accept-encoding", "transfer-encoding", "connection", "expect", "upgrade", "te"})
"""Headers of the connection or the framing. Only transports set them; those in a request are left out."""

MAX_CACHED_HEADS, MAX_CACHED_HEAD_BYTES = 256, 2048
_DEFAULT_PORT = {"http": 80, "https": 443}


def authority(origin: Origin) -> str:
    """Return the value of the `host` header: the host, in brackets if it is an IPv6 address, and any port but the scheme's default."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return host if _DEFAULT_PORT.get(origin.scheme) == origin.port else f"{host}:{origin.port}"


def origin_part(origin: Origin) -> str:
    """Return the part of a request head that depends only on the origin."""
    return f" HTTP/1.1\r\nhost: {authority(origin)}\r\naccept-encoding: identity\r\ncontent-length: "


def upload_origin_part(origin: Origin, upload: Upload) -> str:
    """Return the part of a request head that depends on the origin and on the size of the body."""
    start = f" HTTP/1.1\r\nhost: {authority(origin)}\r\naccept-encoding: identity"
    return "".join([start, *(f"\r\n{name}: {value}" for name, value in body_headers(upload))])


def body_headers(upload: Upload) -> list[tuple[str, str]]:
    """Return the header that declares the size of the body, or nothing if the upload declares none."""
    if not upload.is_declared:
        return []
    return [("transfer-encoding", "chunked") if upload.length is None else ("content-length", str(upload.length))]


def encode_head(request: WireRequest, lines: str) -> bytes:
    """Encode the request head. Raise UpstreamError("protocol") if a value would inject a line or cannot be transmitted."""
    return _encode(request, f"{lines}{len(request.body)}", 5)


class HeadCache:
    """A cache of request heads for one origin. Requests that differ only in the size of their body share an entry.

    Heads contain credentials, so only heads with a credential from the configuration may be cached.
    """

    __slots__ = ("_heads", "lines")

    def __init__(self, lines: str) -> None:
        """`lines` is the part of a head that depends only on the origin; it ends before the size of the body."""
        self.lines = lines
        self._heads: dict[tuple[object, ...], tuple[bytes, bytes]] = {}

    def encode(self, request: WireRequest) -> bytes:
        """Return the same head as `encode_head`, from the cache if possible."""
        key = (request.method, request.path, *request.headers)
        parts = self._heads.get(key)
        if parts is None:
            size = str(len(request.body)).encode()
            head = encode_head(request, self.lines)
            mark = self.lines.rpartition("\r\n")[2].encode()
            start = head.index(mark + size) + len(mark)
            if len(self._heads) >= MAX_CACHED_HEADS or len(head) > MAX_CACHED_HEAD_BYTES:
                return head
            parts = self._heads[key] = head[:start], head[start + len(size) :]
        return b"%b%d%b" % (parts[0], len(request.body), parts[1])


def encode_upload_head(request: WireRequest, origin: Origin, upload: Upload) -> bytes:
    """Encode the head of a request with an upload, checked like any other head."""
    return _encode(request, upload_origin_part(origin, upload), 4 + upload.is_declared)


def encode_upgrade_head(request: WireRequest, origin: Origin) -> bytes:
    """Encode the head of a WebSocket handshake, checked like any other head."""
    return _encode(request, f" HTTP/1.1\r\nhost: {authority(origin)}\r\nconnection: Upgrade\r\nupgrade: websocket", 5)


def _encode(request: WireRequest, lines: str, fixed_breaks: int) -> bytes:
    """Encode a head with `fixed_breaks` line breaks besides those before the request's own headers."""
    path = request.path
    parts = [f"\r\n{name}: {value}" for name, value in request.headers if name not in CONNECTION_HEADERS]
    head = f"{request.method} {path}{lines}{''.join(parts)}\r\n\r\n"
    breaks = len(parts) + fixed_breaks
    if head.count("\n") != breaks or head.count("\r") != breaks or "\0" in head or " " in path:
        raise UpstreamError("protocol", "the request's path or headers contain a line break, NUL or space that is not allowed there")
    try:
        return head.encode("latin-1")
    except UnicodeEncodeError:
        raise UpstreamError("protocol", "the request's path or headers contain characters that HTTP cannot transmit") from None
