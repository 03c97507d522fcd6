"""Graceful shutdown of a process: not ready, grace, drain, abort.

first signal   /readyz returns 503; calls are still accepted for `grace`, and every response closes its connection
then           the listener closes; calls in flight may take up to `drain` to finish
then           the remaining calls end with the error `server_shutting_down` and are accounted for
second signal  the remaining calls end at once
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Literal

from gateway.admin.health import Readiness
from gateway.http.accepting import copies
from gateway.http.listener import Server, continue_in_tasks
from gateway.metrics import Metrics
from gateway.runtime.gateway import Gateway

FLUSH_TIMEOUT_S = 1.0
"""Seconds that aborted calls get to send their error to slow readers.

After a second signal, a quarter of this applies.
"""


class Shutdown:
    """The state of the shutdown, as requested by signals."""

    def __init__(self, readiness: Readiness, metrics: Metrics) -> None:
        self._readiness = readiness
        metrics.gauge("lockgate_draining", lambda: {(): float(readiness.draining)})
        self.started = asyncio.Event()
        self.forced = asyncio.Event()

    def on_signal(self) -> None:
        """Handle SIGTERM or SIGINT: the first one starts the shutdown, each further one forces it."""
        if self.started.is_set():
            self.forced.set()
        self._readiness.draining = True
        self.started.set()

    @property
    def flush_timeout_s(self) -> float:
        """Maximum time in seconds for the last messages to a store that does not respond."""
        return FLUSH_TIMEOUT_S / 4 if self.forced.is_set() else 2 * FLUSH_TIMEOUT_S

    async def wait(self, seconds: float) -> None:
        """Wait for this number of seconds, or until the shutdown is forced."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.forced.wait()


async def stop_admin_when_forced(shutdown: Shutdown, admin: Server) -> None:
    """Stop the admin listener after a second signal, at the same time as the callers' listener."""
    await shutdown.forced.wait()
    admin.should_exit = True


async def serve_until_signalled(gateway: Gateway, callers: Server, listener: socket.socket, shutdown: Shutdown) -> None:
    """Serve callers until the first signal, then shut down with the `grace` and `drain` of the current configuration."""
    serving = asyncio.create_task(callers.serve(copies(listener)))
    await _wait_for_either(serving, shutdown.started)
    if not serving.done():
        config = gateway.config
        close_after_responses(callers)
        await shutdown.wait(config.grace)
        callers.should_exit = True
        await _wait_for_either(serving, shutdown.forced, config.drain)
        if not serving.done():
            await abort_calls(callers, FLUSH_TIMEOUT_S / 4 if shutdown.forced.is_set() else FLUSH_TIMEOUT_S)
    await serving


async def _wait_for_either(task: asyncio.Task[None], event: asyncio.Event, timeout_s: float | None = None) -> None:
    """Wait until the task is done, the event is set or the timeout has passed."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait([task, waiting], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


def close_after_responses(callers: Server) -> None:
    """Add `connection: close` to every response, so that clients with open connections move to another process in time."""
    close = (b"connection", b"close")
    callers.config.encoded_headers = [*callers.config.encoded_headers, close]
    callers.server_state.default_headers = [*callers.server_state.default_headers, close]


async def abort_calls(callers: Server, timeout_s: float) -> None:
    """Cancel the remaining calls. Each call sends its error and is accounted for, even if its caller has stopped reading."""
    for listening in callers.servers:  # no call may begin that would end without an answer
        listening.close()
    for wait_s in (timeout_s, 0.1):
        continue_in_tasks(callers.server_state.connections)
        await asyncio.sleep(0)  # a task that is cancelled before its first step would not account for its call
        calls = list(callers.server_state.tasks)
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls, timeout=wait_s)
    callers.force_exit = True
    _each_transport(callers, "close")
    await asyncio.sleep(0.05)
    _each_transport(callers, "abort")  # closing would wait forever for callers that stopped reading


def _each_transport(callers: Server, action: Literal["close", "abort"]) -> None:
    for connection in list(callers.server_state.connections):
        if connection.transport is not None:
            getattr(connection.transport, action)()
