"""The seam between the pipeline and the network: what every transport does, and how it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from providers.base import FailureKind, WireRequest


class Deadlines(msgspec.Struct, frozen=True):
    """How long each part of one attempt may take, in seconds on the monotonic clock.

    `first_byte` runs from the request being sent to the response's head; `idle` is the longest silence between two pieces
    of the body; `total` covers everything, however slowly bytes trickle.
    """

    connect: float = 2.0
    tls: float = 3.0
    first_byte: float = 60.0
    idle: float = 60.0
    total: float = 600.0


class Origin(msgspec.Struct, frozen=True):
    """Where connections of one pool go. `socket` is a unix socket's path; `ca` a PEM file trusted besides the system's."""

    scheme: str
    host: str
    port: int
    socket: str | None = None
    ca: str | None = None
    proxy: str | None = None
    connections: int | None = None
    """Most connections at once; None is the transport's own cap."""


class UpstreamError(Exception):
    """The attempt failed on the way to, at, or back from the upstream. `kind` says where; `message` holds no secret."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.message = message


OnTrailing = Callable[[bytes], bool]
"""Takes what came after the end of what matters; whether it was something that should not have come."""


class Response(Protocol):
    """One upstream answer: the head is here, the body is read piece by piece."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """Lower-case names, in wire order."""

    async def read(self) -> bytes:
        """The next piece of the body as it arrives, b"" at its clean end; UpstreamError otherwise. Reading is the backpressure."""
        ...

    async def body(self, limit: int) -> bytes:
        """The whole body; UpstreamError("too_large") beyond `limit` bytes."""
        ...

    def unread(self) -> bytes:
        """What came of a body that broke off, or was given up, while all of it was awaited; nothing after `close`."""
        ...

    def finish(self, on_trailing: OnTrailing | None = None) -> None:
        """All that matters was read ([DONE] came): the connection is kept if the rest ends soon and is small. `close` may follow.

        What came after it, or comes while the end of the body is awaited, is given to `heard`; if that objects, the connection is not kept.
        """
        ...

    def close(self) -> None:
        """Done with this answer: the connection is kept if the body was read to its end, else its socket is aborted at once. Idempotent."""
        ...


class Transport(Protocol):
    """Sends one request and returns its answer's head. Cancelling `send` closes the socket at once."""

    async def send(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> Response:
        """Raises UpstreamError. Redirects are never followed; the body's encoding is never undone."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
