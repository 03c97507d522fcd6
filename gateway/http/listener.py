"""Listening sockets and the uvicorn server that serves callers or operators on them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any, cast

import uvicorn

from gateway.config import pem
from gateway.config.formats import Address
from gateway.config.listener import TlsConfig
from gateway.http.accepting import Accepting
from gateway.http.connection import CallerConnection
from gateway.http.page_guard import PageGuard
from gateway.http.request_start import ServeFast
from gateway.http.rounds import Rounds

BACKLOG = 4096
MAX_UNSENT_BYTES = 64 << 10
"""Maximum number of bytes for one caller that wait unsent in the kernel.

Bytes in transit do not count, so distant callers lose no speed.
"""


class ListenError(Exception):
    """The address cannot be used. The error message is one line with the reason."""


def bind(address: Address) -> socket.socket:
    """Return a listening socket. Raise ListenError if the address cannot be used."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # some kernels lack the option; accepted connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {address.host}:{address.port}: {error.strerror or error}") from None
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{host}:{port}"


def seat_name(listener: socket.socket, number: int = 0) -> str:
    """Return the name of a process's position in the fleet. The replacement of the process gets the same name."""
    host, port = listener.getsockname()[:2]
    return f"{socket.gethostname()} {host} {port} {number}"


HEAD_TIMEOUT_S = 10.0
"""Maximum time for the head of a request on listeners without a configured limit."""


class Server(uvicorn.Server):
    """A uvicorn server without signal handling and with a deadline for request heads. Its owner decides when it stops.

    If it has copies of a listening socket (gateway.http.accepting), their number follows the number of callers that connect.
    """

    def __init__(self, config: uvicorn.Config, head_timeout_s: Callable[[], float], accepting: Accepting[asyncio.Server]) -> None:
        super().__init__(config)
        self._head_timeout_s = head_timeout_s
        self._checked_at = time.monotonic()
        self._accepting = accepting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections on these sockets."""
        await super().startup(sockets)
        if sockets and len(sockets) > 1:
            self._accepting.begin(sockets[0], self.servers, self._listen)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting connections, and close the connections after their responses."""
        self._accepting.stop()
        await super().shutdown(sockets)

    async def _listen(self, sock: socket.socket) -> asyncio.Server:
        """Accept connections on one more socket."""
        config, kind = self.config, cast("Any", self.config.http_protocol_class)
        protocol = partial(kind, config=config, server_state=self.server_state, app_state=self.lifespan.state)
        return await asyncio.get_running_loop().create_server(protocol, sock=sock, ssl=config.ssl, backlog=config.backlog)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Do nothing, because gateway.server.signals handles signals."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Check the deadlines of request heads. uvicorn calls this ten times a second."""
        self._accepting.close_unneeded()
        deadline, now = self._head_timeout_s(), time.monotonic()
        if now - self._checked_at > min(1.0, deadline / 4):
            self._checked_at = now
            close_overdue(self.server_state.connections, deadline)
        return await super().on_tick(counter)


def close_overdue(connections: Iterable[object], deadline: float) -> None:
    """Close every connection that has been idle for too long or whose request head is late."""
    now = time.monotonic()
    for connection in list(connections):
        if isinstance(connection, CallerConnection):
            connection.close_if_overdue(now, deadline)


def continue_in_tasks(connections: Iterable[object]) -> None:
    """Start a task for each call that waits for its start or is served without a task, so that it can be cancelled."""
    for connection in list(connections):
        if isinstance(connection, CallerConnection):
            connection.start_call()
            if connection.fast_call is not None:
                connection.fast_call.continue_in_task()


def _tls_context(tls: TlsConfig, config: uvicorn.Config, default: object) -> ssl.SSLContext:
    """Return a context with the certificate and key that were read with the configuration."""
    context = ssl.SSLContext(config.ssl_version)
    pem.load_certificate(context, tls)
    return context


def make_server(
    app: Any,
    *,
    tls: TlsConfig | None = None,
    trusted_proxies: tuple[str, ...] = (),
    grace: int | None,
    head_timeout_s: Callable[[], float] = lambda: HEAD_TIMEOUT_S,
    on_reject: Callable[[str], None] | None = None,
    guard: PageGuard | None = None,
    serves_websockets: bool = False,
    serve_fast: ServeFast | None = None,
) -> Server:
    """Return the server of one listener: httptools, no access log, forwarded headers only from trusted proxies.

    `grace`: maximum seconds that uvicorn waits for calls in flight when it stops; None leaves the wait to the caller of this
    function. `head_timeout_s` returns the seconds that a request head may take. `on_reject` is called with the reason if a
    connection is rejected before there is a call. `guard` holds the rules that reject requests from web pages of other sites
    on a listener without keys. If `serves_websockets` is True, the application gets WebSocket handshakes. `serve_fast` is called with
    each complete request; the application gets the request if `serve_fast` returns False.
    """
    accepting: Accepting[asyncio.Server] = Accepting()
    rounds = Rounds()

    def connection(**arguments: Any) -> CallerConnection:
        accepting.count()
        return CallerConnection(
            **arguments, on_reject=on_reject, guard=guard, serves_websockets=serves_websockets, serve_fast=serve_fast, rounds=rounds
        )

    config = uvicorn.Config(
        app,
        loop="none",
        http=cast("Any", connection),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies) or None,
        timeout_graceful_shutdown=grace,
        backlog=BACKLOG,
        ssl_certfile=tls.cert if tls else None,
        ssl_keyfile=tls.key if tls else None,
        ssl_context_factory=partial(_tls_context, tls) if tls else None,
    )
    return Server(config, head_timeout_s, accepting)
