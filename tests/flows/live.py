"""The whole gateway inside the event loop of a test: real sockets on loopback and its log as records."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from gateway.admin.app import build_admin
from gateway.admin.health import Readiness
from gateway.config.formats import Address
from gateway.config.load import Overrides
from gateway.config.source import ConfigSource
from gateway.http.caller import CallerDeadlines
from gateway.http.listener import Server, bind, make_server, url_of
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Reloader
from gateway.server.app import build_app
from gateway.server.callers_listener import serve_fast
from gateway.telemetry.call_log import CallLog
from gateway.upstream.resolver import Resolver

FLUSH_INTERVAL_S = 0.01
"""Seconds until the gateway writes a log line. Its default of 0.1 s would be most of the time of a test."""
CALLERS_GRACE_S, ADMIN_GRACE_S = 2, 1


class Live:
    """A serving gateway. `url` is the URL of the caller listener, `admin_url` that of the admin listener."""

    def __init__(self, gateway: Gateway, url: str, admin_url: str, log: Path) -> None:
        self.gateway = gateway
        self.url = url
        self.admin_url = admin_url
        self._log = log
        self.reports: list[str] = []
        self.reloader: Reloader
        self.path: Path

    @property
    def base_url(self) -> str:
        """Return the base URL for an OpenAI client."""
        return self.url + "/v1"

    @property
    def port(self) -> int:
        """Return the port of the caller listener."""
        return int(self.url.rsplit(":", 1)[1])

    def lines(self) -> list[dict[str, Any]]:
        """Return all log lines so far."""
        complete, _, _ = self._log.read_text().rpartition("\n")  # a thread may have written half of the last line
        return [json.loads(line) for line in complete.splitlines()]

    async def records(self, count: int, within: float = 60.0) -> list[dict[str, Any]]:
        """Return the log records once there are `count`. Fail if more appear."""
        await eventually(lambda: len(self.lines()) >= count and self.gateway.metrics.in_flight == 0, within)
        await asyncio.sleep(5 * FLUSH_INTERVAL_S)
        lines = self.lines()
        assert len(lines) == count, lines
        return lines

    def count(self, name: str, *labels: str) -> int:
        """Return the sum of a counter's series whose labels include all of `labels`."""
        return sum(count for values, count in self.gateway.metrics.counts[name].items() if set(labels) <= set(values))


async def eventually(condition: Callable[[], bool], within: float = 60.0) -> None:
    """Wait until the condition holds. Fail after `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not hold within {within} s"
        await asyncio.sleep(0.01)


async def _stop(server: Server, listener: socket.socket, grace_s: int) -> None:
    """Stop a server like `uvicorn.Server.shutdown`, which tests of processes use, but without its pauses of 0.1 s.

    The connections of the last turns of the loop end too: asyncio makes one a turn after it was accepted, and leaves it open if its
    server has been closed by then; uvloop makes it a turn after the server has been closed.
    """
    state = server.server_state
    asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(0)
    for listening in server.servers:
        listening.close()
    await asyncio.sleep(0)
    for connection in list(state.connections):
        connection.shutdown()
    for _ in range(200 * grace_s):
        await asyncio.sleep(0.005)
        if not state.connections and not state.tasks:
            break
    for task in state.tasks:
        task.cancel()


@contextlib.asynccontextmanager
async def live(
    yaml: str,
    *,
    deadlines: CallerDeadlines | None = None,
    environ: dict[str, str] | None = None,
    watch: bool = False,
    resolver: Resolver | None = None,
) -> AsyncIterator[Live]:
    """Serve the configuration `yaml` within the block. With `watch`, reload the file when it changes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.yaml"
        path.write_text(yaml)
        source = ConfigSource(str(path), Overrides(), environ or {})
        loaded = source.read()
        config = loaded.config
        log = Path(folder) / "log"
        descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        reports: list[str] = []
        call_log = CallLog(descriptor, human=False, flush_interval_s=FLUSH_INTERVAL_S)
        gateway = Gateway(config, call_log, reports.append, deadlines=deadlines, resolver=resolver)
        readiness, reloader = Readiness(), Reloader(gateway, source, loaded)
        listeners = [bind(Address("127.0.0.1", 0)), bind(Address("127.0.0.1", 0))]
        app, head_timeout_s = build_app(gateway), lambda: gateway.config.callers.headers
        callers = make_server(
            app,
            tls=config.tls,
            grace=CALLERS_GRACE_S,
            head_timeout_s=head_timeout_s,
            on_reject=gateway.count_edge_refusal,
            guard=gateway.page_guard,
            serves_websockets=True,
            trusted_proxies=gateway.config.trusted_proxies,
            serve_fast=serve_fast(gateway),
        )
        servers = [callers, make_server(build_admin(gateway, readiness, reloader), grace=ADMIN_GRACE_S)]
        await gateway.start()
        tasks = [asyncio.create_task(server.serve([listener])) for server, listener in zip(servers, listeners, strict=True)]
        await eventually(lambda: all(server.started for server in servers))
        readiness.serving = True
        running = Live(gateway, url_of(listeners[0], tls=config.tls is not None), url_of(listeners[1]), log)
        running.reports, running.reloader, running.path = reports, reloader, path
        watching = asyncio.create_task(reloader.watch()) if watch else None
        try:
            yield running
        finally:
            if watching is not None:
                watching.cancel()
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
            await asyncio.gather(*map(_stop, servers, listeners, (CALLERS_GRACE_S, ADMIN_GRACE_S)))
            await gateway.stop()
            for server in servers:
                for connection in list(server.server_state.connections):
                    if connection.transport is not None and connection.transport.get_write_buffer_size():
                        connection.transport.abort()  # its caller reads nothing: uvloop's loop would wait for it when it closes
            os.close(descriptor)
            for listener in listeners:
                listener.close()
