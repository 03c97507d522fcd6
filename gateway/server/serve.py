"""One process that serves calls: both listeners, engines, reloads and shutdown. For several workers, see `supervisor`."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from functools import partial

import uvloop

from gateway.admin.app import build_admin
from gateway.admin.health import Readiness
from gateway.config.load import ConfigError, Overrides
from gateway.config.source import ConfigSource, LoadedConfig
from gateway.demo.demo import Demo
from gateway.http.listener import ListenError, bind, make_server, seat_name
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Reloader
from gateway.runtime.resources import LOAD_TIMEOUT_S
from gateway.server.callers_listener import certificate_follower, make_callers_server
from gateway.server.drain import Shutdown, serve_until_signalled, stop_admin_when_forced
from gateway.server.gc_tuning import freeze_startup_objects
from gateway.server.heap_trim import HeapTrimmer, heap
from gateway.server.loop_watchdog import LoopWatchdog
from gateway.server.signals import handle_signals, request_reload
from gateway.server.standard_streams import open_missing_streams
from gateway.server.startup import announce, download_bundled_model, report
from gateway.store.redis_client import import_library
from gateway.telemetry.call_log import CallLog
from gateway.upstream.end_tasks import end_tasks
from gateway.upstream.file_limit import file_limit_problem, raise_file_limit
from providers.local.worker_engine import WorkerEngine


def run(config_path: str, over: Overrides, *, workers: int = 1, log: str = "auto", demo: Demo | None = None) -> int:
    """Serve until a signal stops the process. Return the exit code. `demo` serves the providers of a demo configuration.

    The code is 0 after a clean shutdown, and 2 if the configuration, a local model, an address or the limit on open files cannot be used.
    """
    open_missing_streams()
    raise_file_limit()
    if (problem := file_limit_problem()) is not None:
        report(problem)
        return 2
    source = ConfigSource(config_path, over)
    try:
        loaded = source.read()
        if workers > 1:
            from gateway.server.supervisor import run_supervisor

            return run_supervisor(source, loaded, workers, log)
        if not loaded.config.store.startswith("memory:"):
            import_library()
        with bind(loaded.config.listen) as listener, bind(loaded.config.admin.listen) as admin:
            download_bundled_model(loaded.config)
            human = log == "human" or (log == "auto" and sys.stdout.isatty())
            code: int = uvloop.run(_serve(source, loaded, listener, admin, human, demo))
            return code
    except (ConfigError, ListenError) as error:
        report(str(error))
        return 2


async def _serve(
    source: ConfigSource, loaded: LoadedConfig, listener: socket.socket, admin_listener: socket.socket, human: bool, demo: Demo | None
) -> int:
    config = loaded.config
    gateway = Gateway(config, CallLog(1, human=human), report, seat=seat_name(listener))
    readiness = Readiness()
    reloader = Reloader(gateway, source, loaded)
    callers = make_callers_server(gateway)
    callers_address = listener.getsockname()[:2]
    admin = make_server(build_admin(gateway, readiness, reloader, callers_address, demo), grace=1)
    gateway.health.on_credential_refused = partial(request_reload, reloader)
    gateway.on_retired = freeze_startup_objects
    reloader.followers.append(certificate_follower(gateway, callers))
    await gateway.start()
    if demo is not None:
        await demo.start(callers_address)
    shutdown = Shutdown(readiness, gateway.metrics)
    ignore_signals = handle_signals(shutdown.on_signal, lambda: request_reload(reloader))
    admin_task = asyncio.create_task(admin.serve([admin_listener]))
    serving = asyncio.create_task(serve_until_signalled(gateway, callers, listener, shutdown))
    announce(config, listener, admin_listener)
    freeze_startup_objects()
    readiness.serving = True
    watching = asyncio.create_task(reloader.watch())
    forcing = asyncio.create_task(stop_admin_when_forced(shutdown, admin))
    watchdog = LoopWatchdog(report)
    watchdog.start()
    trimmer = HeapTrimmer(heap(), gateway.sweeper.__len__, lambda: callers.server_state.total_requests)
    trimmer.start()
    checking = asyncio.create_task(stop_on_unusable_model(gateway, shutdown.on_signal))
    try:
        await serving
        admin.should_exit = True
        await admin_task
    finally:
        watchdog.stop()
        trimmer.stop()
        await end_tasks([watching, checking, forcing])
        if demo is not None:
            await demo.stop()
        await gateway.stop(shutdown.flush_timeout_s)
        ignore_signals()
    return 2 if checking.done() and not checking.cancelled() and checking.result() else 0


async def stop_on_unusable_model(gateway: Gateway, on_stop: Callable[[], None]) -> bool:
    """Stop the process if a configured model file is unusable. Return whether it is unusable.

    The check runs only at the start: a file that becomes unusable later does not stop the gateway and its other providers.
    """
    engines = [engine for engine in gateway.generation.engines.values() if engine.options.model]
    for engine in engines:
        if isinstance(engine, WorkerEngine):
            continue
        await engine.settled(LOAD_TIMEOUT_S)
        if engine.code in ("bad_model", "missing_model"):
            report(f"{gateway.config.path}: the local engine's model cannot be used: {engine.reason}")
            on_stop()
            return True
    return False
