"""The whole gateway inside the event loop of a test: real sockets on loopback and its log as records."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
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
from gateway.http.listener import bind, make_server, url_of
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Reloader
from gateway.server.app import build_app
from gateway.server.callers_listener import serve_fast
from gateway.telemetry.call_log import CallLog
from gateway.upstream.resolver import Resolver


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
        await asyncio.sleep(0.15)
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
        gateway = Gateway(config, CallLog(descriptor, human=False), reports.append, deadlines=deadlines, resolver=resolver)
        readiness, reloader = Readiness(), Reloader(gateway, source, loaded)
        listeners = [bind(Address("127.0.0.1", 0)), bind(Address("127.0.0.1", 0))]
        app, head_timeout_s = build_app(gateway), lambda: gateway.config.callers.headers
        callers = make_server(
            app,
            tls=config.tls,
            grace=2,
            head_timeout_s=head_timeout_s,
            on_reject=gateway.count_edge_refusal,
            guard=gateway.page_guard,
            serves_websockets=True,
            trusted_proxies=gateway.config.trusted_proxies,
            serve_fast=serve_fast(gateway),
        )
        servers = [callers, make_server(build_admin(gateway, readiness, reloader), grace=1)]
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
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*tasks)
            await gateway.stop()
            os.close(descriptor)
            for listener in listeners:
                listener.close()
