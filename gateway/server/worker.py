"""One worker of several: serves callers on the socket it was given, and counts where its supervisor can read."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path

import msgspec
import uvloop

from gateway.admin.health import Readiness
from gateway.config.load import ConfigError
from gateway.http.listener import Server, seat_name
from gateway.metrics.cells import Cells
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import applicable
from gateway.server.callers_listener import make_callers_server, reload_certificate
from gateway.server.drain import Shutdown, handle_signals, serve_until_signalled
from gateway.server.gc_tuning import freeze_startup_objects
from gateway.server.loop_watchdog import LoopWatchdog
from gateway.server.startup import report
from gateway.server.worker_control import TARGETS_SUFFIX, LoadReply, LoadRequest, WorkerOrder, listen
from gateway.targets import status as target_views
from gateway.telemetry.call_log import CallLog

SHOW_EVERY = 1.0


def main() -> int:
    """Run one worker by the order on standard input; the exit code."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=WorkerOrder)
    load = order.load
    try:
        config = load.text.parse()
    except ConfigError as error:
        report(str(error))
        return 2
    with socket.socket(fileno=order.listener) as listener:
        listener.setblocking(False)
        log, cells = CallLog(1, human=order.human), Cells(Path(order.cells))
        place = seat_name(listener, order.number)
        gateway = Gateway(config, log, report, sockets=load.engines, number=load.generation, cells=cells, seat=place)
        code: int = uvloop.run(_work(gateway, listener, order))
        return code


async def _work(gateway: Gateway, listener: socket.socket, order: WorkerOrder) -> int:
    callers = make_callers_server(gateway)
    gateway.health.on_credential_refused = partial(_ask_to_read_again, order.supervisor)
    await gateway.start()
    ending = Shutdown(Readiness(), gateway.metrics)
    ignore_signals = handle_signals(ending.on_signal, lambda: None)  # SIGHUP is the supervisor's
    watching = asyncio.create_task(_leave_with(order.supervisor))
    showing = asyncio.create_task(_show_gauges(gateway, Path(f"{order.cells}{TARGETS_SUFFIX}")))
    watchdog = LoopWatchdog(report)
    watchdog.start()
    freeze_startup_objects()
    controlling = await listen(order.control, lambda load: _load(gateway, callers, load))
    try:
        await serve_until_signalled(gateway, callers, listener, ending)
    finally:
        controlling.close()
        watchdog.stop()
        watching.cancel()
        showing.cancel()
        await gateway.stop(ending.flush_timeout_s)
        gateway.metrics.refresh()
        ignore_signals()
    return 0


async def _load(gateway: Gateway, callers: Server, load: LoadRequest) -> LoadReply:
    """Serve by another generation, once: questions may come twice."""
    if load.generation <= gateway.generation.number:
        return LoadReply(gateway.generation.number)
    try:
        config = await asyncio.to_thread(load.text.parse)
        await gateway.apply(applicable(config, gateway.config), number=load.generation, sockets=load.engines)
        reload_certificate(gateway, callers)
        freeze_startup_objects()
    except (ConfigError, OSError) as error:
        return LoadReply(gateway.generation.number, str(error))
    return LoadReply(gateway.generation.number)


async def _show_gauges(gateway: Gateway, shown: Path) -> None:
    """Counters are where the supervisor reads them as soon as they change; what is kept elsewhere is written beside them."""
    while True:
        gateway.metrics.refresh()
        target_views.write_views(shown, gateway.target_views())
        await asyncio.sleep(SHOW_EVERY)


def _ask_to_read_again(supervisor: int) -> None:
    """The files are the supervisor's to read."""
    if os.getppid() == supervisor:
        os.kill(supervisor, signal.SIGHUP)


async def _leave_with(supervisor: int) -> None:
    """A supervisor that was killed cannot tell its workers; being adopted tells them."""
    while os.getppid() == supervisor:  # noqa: ASYNC110 - no event is sent for this
        await asyncio.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
