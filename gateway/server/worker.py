"""One worker of several: serves callers on an inherited socket and counts in a file that its supervisor reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path

import msgspec
import uvloop

from gateway.admin.health import Readiness
from gateway.config.load import Config, ConfigError
from gateway.config.source import LoadedConfig
from gateway.http.listener import Server, seat_name
from gateway.metrics.cells import Cells
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import applicable
from gateway.server.callers_listener import make_callers_server, reload_certificate
from gateway.server.drain import Shutdown, serve_until_signalled
from gateway.server.gc_tuning import freeze_startup_objects
from gateway.server.heap_trim import HeapTrimmer, heap
from gateway.server.loop_watchdog import LoopWatchdog
from gateway.server.signals import handle_signals
from gateway.server.startup import report
from gateway.server.worker_control import TARGETS_SUFFIX, LoadReply, LoadRequest, WorkerOrder, listen
from gateway.server.worker_usage import serve_usage
from gateway.store.redis_client import import_library
from gateway.targets import status as target_views
from gateway.telemetry.call_log import CallLog
from gateway.upstream.end_tasks import end_tasks
from gateway.upstream.file_limit import raise_file_limit

PROCESS_NAME = "lockgate-worker"
"""The name of the process in lists such as that of `ps -o comm`, with the 15 characters that Linux allows."""
PUBLISH_INTERVAL_S = 1.0


def main() -> int:
    """Run one worker with its order on standard input. Return the exit code."""
    raise_file_limit()
    return run(sys.stdin.buffer.read())


def run(data: bytes, known: LoadedConfig | None = None) -> int:
    """Run one worker with the startup data in JSON (WorkerOrder). Return the exit code.

    `known` is a configuration that this process shares with its supervisor.
    """
    with contextlib.suppress(OSError):  # only Linux has this file
        Path("/proc/self/comm").write_text(PROCESS_NAME)
    order = msgspec.json.decode(data, type=WorkerOrder)
    load = order.load
    try:
        config = config_of(load, known)
    except ConfigError as error:
        report(str(error))
        return 2
    import_library()  # several workers need Redis
    with socket.socket(fileno=order.listener) as listener:
        listener.setblocking(False)
        log, cells = CallLog(1, human=order.human), Cells(Path(order.cells))
        seat = seat_name(listener, order.number)
        gateway = Gateway(config, log, report, sockets=load.engines, number=load.generation, cells=cells, seat=seat)
        code: int = uvloop.run(_serve(gateway, listener, order))
        return code


def config_of(load: LoadRequest, known: LoadedConfig | None) -> Config:
    """Return the configuration to serve with: the known one, if its text is the same. Raise ConfigError if the text is invalid."""
    return known.config if known is not None and known.text == load.text else load.text.parse()


async def _serve(gateway: Gateway, listener: socket.socket, order: WorkerOrder) -> int:
    callers = make_callers_server(gateway)
    gateway.health.on_credential_refused = partial(_request_reload, order.supervisor)
    gateway.on_retired = freeze_startup_objects
    await gateway.start()
    shutdown = Shutdown(Readiness(), gateway.metrics)
    ignore_signals = handle_signals(shutdown.on_signal, lambda: None)  # only the supervisor reloads
    watching = asyncio.create_task(_stop_without(order.supervisor))
    publishing = asyncio.create_task(_publish_state(gateway, Path(f"{order.cells}{TARGETS_SUFFIX}")))
    watchdog = LoopWatchdog(report)
    watchdog.start()
    freeze_startup_objects()
    trimmer = HeapTrimmer(heap(), gateway.sweeper.__len__, lambda: callers.server_state.total_requests)
    trimmer.start()
    controlling = await listen(order.control, lambda load: _load(gateway, callers, load))
    answering = await serve_usage(order.control, gateway.ledger.counters)
    try:
        await serve_until_signalled(gateway, callers, listener, shutdown)
    finally:
        controlling.close()
        answering.close()
        watchdog.stop()
        trimmer.stop()
        await end_tasks([watching, publishing])
        await gateway.stop(shutdown.flush_timeout_s)
        gateway.metrics.refresh()
        ignore_signals()
    return 0


async def _load(gateway: Gateway, callers: Server, load: LoadRequest) -> LoadReply:
    """Switch to another generation. Ignore a request for the current generation or an earlier one."""
    if load.generation <= gateway.generation.number:
        return LoadReply(gateway.generation.number)
    try:
        config = await asyncio.to_thread(load.text.parse)
        await gateway.apply(applicable(config, gateway.config), number=load.generation, sockets=load.engines)
        reload_certificate(gateway, callers)
    except (ConfigError, OSError) as error:
        return LoadReply(gateway.generation.number, str(error))
    return LoadReply(gateway.generation.number)


async def _publish_state(gateway: Gateway, path: Path) -> None:
    """Write gauges and the states of known targets for the supervisor, which adds those of the configuration.

    Counters need no copy, because they are in the shared file.
    """
    while True:
        await gateway.refresh_budgets()
        gateway.metrics.refresh()
        target_views.write_views(path, target_views.known_views(gateway.health))
        await asyncio.sleep(PUBLISH_INTERVAL_S)


def _request_reload(supervisor: int) -> None:
    """Ask the supervisor to reload: it reads the configuration for all workers."""
    if os.getppid() == supervisor:
        os.kill(supervisor, signal.SIGHUP)


async def _stop_without(supervisor: int) -> None:
    """Stop this worker when its parent process changes, because its supervisor has then ended."""
    while os.getppid() == supervisor:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
