"""One worker of several: serves callers on the socket it was given, and counts where its supervisor can read."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import msgspec
import uvloop

from gateway import config as configuration
from gateway.app import build_app
from gateway.build import Gateway
from gateway.calllog import CallLog
from gateway.config import ConfigError
from gateway.listeners import server
from gateway.metrics.cells import Cells
from gateway.serve import DRAIN, end_calls, report, watch_signals
from gateway.supervise import WorkerOrder

SHOW_EVERY = 1.0


def main() -> int:
    """Run one worker by the order in the first argument; the exit code."""
    order = msgspec.json.decode(sys.argv[1], type=WorkerOrder)
    try:
        config = configuration.load(order.config, host=order.host, port=order.port, admin_port=order.admin_port)
    except ConfigError as error:
        report(str(error))
        return 2
    with socket.socket(fileno=order.listener) as listener:
        listener.setblocking(False)
        gateway = Gateway(config, CallLog(1, human=order.human), report, sockets=order.engines, cells=Cells(Path(order.cells)))
        code: int = uvloop.run(_work(gateway, listener, order.supervisor))
        return code


async def _work(gateway: Gateway, listener: socket.socket, supervisor: int) -> int:
    callers = server(build_app(gateway), tls=gateway.config.tls, trusted_proxies=gateway.config.trusted_proxies, grace=DRAIN)
    await gateway.start()

    def stop() -> None:
        callers.should_exit = True

    def force() -> None:
        callers.should_exit = callers.force_exit = True

    undo = watch_signals(stop, force)
    watching = asyncio.create_task(_leave_with(supervisor))
    showing = asyncio.create_task(_show_gauges(gateway))
    try:
        await callers.serve([listener])
        await end_calls(callers)
    finally:
        showing.cancel()
        watching.cancel()
        undo()
        await gateway.stop()
        gateway.metrics.refresh()
    return 0


async def _show_gauges(gateway: Gateway) -> None:
    """Counters are where the supervisor reads them as soon as they change; what is kept elsewhere is written beside them."""
    while True:
        gateway.metrics.refresh()
        await asyncio.sleep(SHOW_EVERY)


async def _leave_with(supervisor: int) -> None:
    """A supervisor that was killed cannot tell its workers; being adopted tells them."""
    while os.getppid() == supervisor:  # noqa: ASYNC110 - no event is sent for this
        await asyncio.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
