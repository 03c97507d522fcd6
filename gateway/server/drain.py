"""How a process ends: not ready, still serving for the grace, then no new calls, then an error for those that take too long.

first signal   /readyz says 503; calls are still taken for `grace`, each answer closes its connection
then           the listener closes; calls in flight have `drain` to end
then           what is left gets `server_shutting_down` as its answer or its stream's last event, and is accounted for
second signal  straight to the end
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable
from typing import Literal

from gateway.admin.health import Readiness
from gateway.http.listener import Server
from gateway.metrics import Metrics
from gateway.runtime.gateway import Gateway

FLUSH_TIMEOUT_S = 1.0
"""Seconds that calls get to send their error to callers who read slowly; a quarter of that after a second signal."""


class Shutdown:
    """What signals have asked for so far."""

    def __init__(self, readiness: Readiness, metrics: Metrics) -> None:
        self._readiness = readiness
        metrics.gauge("lockgate_draining", lambda: {(): float(readiness.draining)})
        self.started = asyncio.Event()
        self.forced = asyncio.Event()

    def on_signal(self) -> None:
        """SIGTERM or SIGINT: the first begins the end, every later one hurries it."""
        if self.started.is_set():
            self.forced.set()
        self._readiness.draining = True
        self.started.set()

    @property
    def flush_timeout_s(self) -> float:
        """Seconds for the last words to a store that does not answer."""
        return FLUSH_TIMEOUT_S / 4 if self.forced.is_set() else 2 * FLUSH_TIMEOUT_S

    async def wait(self, seconds: float) -> None:
        """Wait so long, unless hurried."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.forced.wait()


def handle_signals(on_stop: Callable[[], None], on_reload: Callable[[], None]) -> Callable[[], None]:
    """Call `end` on SIGTERM and SIGINT, `reload` on SIGHUP; returns what ends that, for a process that has nothing left to do.

    From then on signals are ignored: one that comes in the last moment must not make a clean end look like a kill.
    """
    loop = asyncio.get_running_loop()
    calls = {signal.SIGTERM: on_stop, signal.SIGINT: on_stop, signal.SIGHUP: on_reload}
    for one, call in calls.items():
        loop.add_signal_handler(one, call)

    def ignore() -> None:
        for one in calls:
            with contextlib.suppress(RuntimeError):
                loop.remove_signal_handler(one)
            signal.signal(one, signal.SIG_IGN)

    return ignore


async def stop_admin_when_forced(shutdown: Shutdown, admin: Server) -> None:
    """After a second signal the admin listener ends beside the callers', not after it: together they have a second."""
    await shutdown.forced.wait()
    admin.should_exit = True


async def serve_until_signalled(gateway: Gateway, callers: Server, listener: socket.socket, shutdown: Shutdown) -> None:
    """Serve callers until the end, and end as the configuration of that moment says."""
    serving = asyncio.create_task(callers.serve([listener]))
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
    """Return when the task is done or the event set, at last after `within` seconds."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait([task, waiting], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


def close_after_responses(callers: Server) -> None:
    """From now on every answer says `connection: close`: who keeps connections open finds another process before this one is gone."""
    close = (b"connection", b"close")
    callers.config.encoded_headers = [*callers.config.encoded_headers, close]
    callers.server_state.default_headers = [*callers.server_state.default_headers, close]


async def abort_calls(callers: Server, timeout_s: float) -> None:
    """End the calls that are left, so that each tells its caller and is accounted for, whether its caller reads or not."""
    for wait in (timeout_s, 0.1):
        left = list(callers.server_state.tasks)
        for call in left:
            call.cancel()
        if left:
            await asyncio.wait(left, timeout=wait)
    callers.force_exit = True
    _each_transport(callers, "close")
    await asyncio.sleep(0.05)
    _each_transport(callers, "abort")  # of readers who stopped; closing would wait for them for ever


def _each_transport(callers: Server, act: Literal["close", "abort"]) -> None:
    for connection in list(callers.server_state.connections):
        if connection.transport is not None:
            getattr(connection.transport, act)()
