"""One worker of several: serves callers on the socket it was given, and its supervisor with its counters."""

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
from gateway.serve import DRAIN, end_calls, report, watch_signals
from gateway.supervise import WorkerOrder


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
        gateway = Gateway(config, CallLog(1, human=order.human), report, sockets=order.engines)
        code: int = uvloop.run(_work(gateway, listener, order.control, order.supervisor))
        return code


async def _work(gateway: Gateway, listener: socket.socket, control: str, supervisor: int) -> int:
    callers = server(build_app(gateway), tls=gateway.config.tls, trusted_proxies=gateway.config.trusted_proxies, grace=DRAIN)
    await gateway.start()

    def stop() -> None:
        callers.should_exit = True

    def force() -> None:
        callers.should_exit = callers.force_exit = True

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(msgspec.json.encode(gateway.metrics.snapshot()))
        writer.close()

    undo = watch_signals(stop, force)
    watching = asyncio.create_task(_leave_with(supervisor))
    Path(control).unlink(missing_ok=True)  # noqa: ASYNC240 - once, before anything is served
    telling = await asyncio.start_unix_server(tell, control)
    try:
        await callers.serve([listener])
        await end_calls(callers)
    finally:
        telling.close()
        watching.cancel()
        undo()
        await gateway.stop()
    return 0


async def _leave_with(supervisor: int) -> None:
    """A supervisor that was killed cannot tell its workers; being adopted tells them."""
    while os.getppid() == supervisor:  # noqa: ASYNC110 - no event is sent for this
        await asyncio.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
