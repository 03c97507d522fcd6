"""The interface between the gateway and the network: the methods of a transport and the errors that they raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from providers.base import FailureKind, WireRequest


class Deadlines(msgspec.Struct, frozen=True):
    """Time limits of one attempt in seconds.

    `first_byte` is the longest time between sending the request and receiving the head of the response. `idle` is the
    longest time without a further piece of the body. `total` limits the whole attempt, even if bytes keep arriving.
    """

    connect: float = 2.0
    tls: float = 3.0
    first_byte: float = 60.0
    idle: float = 60.0
    total: float = 600.0


def in_seconds(duration: float) -> str:
    """Return a duration for a message, such as `1.5 s`, without an exponent."""
    return f"{duration:.6f}".rstrip("0").rstrip(".") + " s"


class TlsFiles(msgspec.Struct, frozen=True):
    """PEM files for TLS: additional certificate authorities, and a client certificate with its private key."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


SYSTEM_TLS = TlsFiles()


class Origin(msgspec.Struct, frozen=True):
    """The destination of one pool's connections. `socket` is the path of a unix socket."""

    scheme: str
    host: str
    port: int
    socket: str | None = None
    tls: TlsFiles = SYSTEM_TLS
    proxy: str | None = None
    connections: int | None = None
    """Maximum number of connections. None applies the transport's own limit."""
    address: str | None = None
    """The address to connect to instead of those of `host`, which then serves only for TLS and the header `Host`."""


class UpstreamError(Exception):
    """A failed attempt. `kind` classifies the failure; `message` contains no secret."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.message = message


OnTrailing = Callable[[bytes], bool]
"""Called with bytes received after the last event of a stream. Returns whether they were unexpected."""


class Upload(Protocol):
    """A request body that is sent piece by piece, as fast as the upstream accepts it."""

    length: int | None
    """Size in bytes. None: unknown, so the body is sent in chunks."""
    is_declared: bool
    """Whether the head of the request declares the size of the body, which may be 0."""
    has_body: bool
    """Whether there is anything to send."""

    async def read(self) -> bytes:
        """Return the next piece, or b"" at the end."""
        ...


class Response(Protocol):
    """One upstream response, whose head has arrived and whose body is read piece by piece."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """Header names in lower case, in the order received."""

    async def read(self) -> bytes:
        """Return the next piece of the body, or b"" at its end. Raise UpstreamError on failure.

        Reading provides the backpressure: an unread response stops the upstream.
        """
        ...

    async def body(self, limit: int) -> bytes:
        """Return the whole body. Raise UpstreamError("too_large") if it exceeds `limit` bytes."""
        ...

    def unread(self) -> bytes:
        """Return the part that `body` had received when it failed or was cancelled. Call this before `close`."""
        ...

    def finish(self, on_trailing: OnTrailing | None = None) -> None:
        """Stop reading after the last event. The connection is reused if the rest of the response is small and arrives soon.

        Bytes that follow are passed to `on_trailing`; if it returns True, the connection is not reused. `close` may follow.
        """
        ...

    def close(self) -> None:
        """Release the connection. Unless the body was read to its end, abort its socket or HTTP/2 stream. Idempotent."""
        ...


class Transport(Protocol):
    """Returns each response once its head has arrived. Cancelling `send` closes the socket or the HTTP/2 stream at once."""

    async def send(
        self, origin: Origin, request: WireRequest, deadlines: Deadlines, upload: Upload | None = None
    ) -> Response:
        """Return the response to the request. Raise UpstreamError on failure. Redirects are not followed, and the body is not decompressed.

        The pieces of `upload` are sent in place of the body of `request`. With an upload, `send` also raises the errors
        of the upload, the response may be compressed, and the request is repeated only if the upload has no body.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
