"""The asyncio protocol of a caller's connection: its transport, parser, flow control and addresses.

uvicorn's server creates and stops the connections. Its own protocol class would take 2.5 KB more per connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httptools
import uvicorn
from uvicorn.server import ServerState

from gateway.http.cycle import App, RequestCycle
from gateway.http.flow_control import FlowControl


class CallerProtocol(asyncio.Protocol):
    """One connection. Subclasses receive the data and the callbacks of the parser."""

    __slots__ = (
        "app", "client", "connections", "flow", "headers", "loop", "parser", "pipeline", "scheme", "server", "server_state", "tasks",
        "transport", "url",
    )  # fmt: skip

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """uvicorn passes these arguments by name."""
        self.app: App = config.loaded_app
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.connections = server_state.connections
        self.tasks = server_state.tasks
        self.new_parser()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.flow: FlowControl = None  # type: ignore[assignment]
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        self.scheme = "http"
        self.pipeline: list[RequestCycle] = []
        """Requests that arrived before the previous response was complete, in their order."""
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        """Headers of the head that is being received."""

    def new_parser(self) -> None:
        """Create the parser for the next bytes."""
        self.parser = httptools.HttpRequestParser(self)
        # A request may follow one with `connection: close`: the first one is answered, and the parser does not report an error.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Store the transport and the addresses of its two ends."""
        self.connections.add(self)  # type: ignore[arg-type]
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = _address(transport.get_extra_info("sockname"))
        self.client = _address(transport.get_extra_info("peername"))
        if transport.get_extra_info("sslcontext"):
            self.scheme = "https"

    def pause_writing(self) -> None:
        """Suspend senders, because the buffer of the transport is full."""
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """Resume the senders that wait."""
        self.flow.resume_writing()


def _address(name: Sequence[Any] | None) -> tuple[str, int] | None:
    """Return host and port of a socket's address, or None if it is unknown, as after an immediate disconnect."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
