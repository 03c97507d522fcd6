"""The whole gateway inside a test's event loop: real sockets on loopback, a configuration text, its log as records."""

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
from gateway.telemetry.call_log import CallLog
from gateway.upstream.resolver import Resolver


class Live:
    """A gateway that serves; `url` for callers, `admin_url` for operators."""

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
        """What an OpenAI client takes as its base URL."""
        return self.url + "/v1"

    @property
    def port(self) -> int:
        """The callers' port."""
        return int(self.url.rsplit(":", 1)[1])

    def lines(self) -> list[dict[str, Any]]:
        """Every log line so far."""
        whole, _, _ = self._log.read_text().rpartition("\n")  # the last line may be half written: a thread does that
        return [json.loads(line) for line in whole.splitlines()]

    async def records(self, count: int, within: float = 10.0) -> list[dict[str, Any]]:
        """The records of calls, once there are `count`; also proves that no more came meanwhile."""
        await eventually(lambda: len(self.lines()) >= count and self.gateway.metrics.in_flight == 0, within)
        await asyncio.sleep(0.15)
        found = self.lines()
        assert len(found) == count, found
        return found

    def count(self, name: str, *labels: str) -> int:
        """The sum of a counter's series whose labels include all of `labels`."""
        return sum(count for values, count in self.gateway.metrics.counts[name].items() if set(labels) <= set(values))


async def eventually(true: Callable[[], bool], within: float = 10.0) -> None:
    """Wait until `true()`; AssertionError when it does not come."""
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
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
    """Serve the configuration `yaml` for the length of the block; `watch` its file, too."""
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
        health, reloader = Readiness(), Reloader(gateway, source, loaded)
        listeners = [bind(Address("127.0.0.1", 0)), bind(Address("127.0.0.1", 0))]
        app, heads = build_app(gateway), lambda: gateway.config.callers.headers
        callers = make_server(
            app,
            tls=config.tls,
            grace=2,
            head_timeout_s=heads,
            on_reject=gateway.count_edge_refusal,
            guard=gateway.page_guard,
        )
        servers = [callers, make_server(build_admin(gateway, health, reloader), grace=1)]
        await gateway.start()
        tasks = [asyncio.create_task(one.serve([listener])) for one, listener in zip(servers, listeners, strict=True)]
        await eventually(lambda: all(one.started for one in servers))
        health.serving = True
        found = Live(gateway, url_of(listeners[0], tls=config.tls is not None), url_of(listeners[1]), log)
        found.reports, found.reloader, found.path = reports, reloader, path
        watching = asyncio.create_task(reloader.watch()) if watch else None
        try:
            yield found
        finally:
            if watching is not None:
                watching.cancel()
            for one in servers:
                one.should_exit = True
            await asyncio.gather(*tasks)
            await gateway.stop()
            os.close(descriptor)
            for listener in listeners:
                listener.close()
