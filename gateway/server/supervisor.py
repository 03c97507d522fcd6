"""Several workers: one supervisor owns the listening sockets, the engine process and the admin listener, and handles signals.

The first workers are forked before the event loop, any thread and the engine are started (`forked_worker`). A worker that
replaces one that has ended is started by exec, because the engine's library hangs in a child that is forked later. All share the
callers' listening socket. Each worker counts in its own memory-mapped file in a private directory; a scrape of the admin
listener adds up their counts. The counts of a dead worker are kept, so that no counter decreases.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
import uvloop

from gateway.admin.app import build_admin
from gateway.admin.health import Readiness
from gateway.config.source import ConfigSource, LoadedConfig
from gateway.http.listener import bind, make_server
from gateway.ledger.records import RowCopy
from gateway.metrics.cells import remove
from gateway.metrics.snapshot import Snapshot, after_end, merge, read_file
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Reloader
from gateway.server.drain import FLUSH_TIMEOUT_S, Shutdown, stop_admin_when_forced
from gateway.server.forked_worker import ForkedWorker, can_fork, fork_workers
from gateway.server.signals import handle_signals, request_reload
from gateway.server.startup import announce, download_bundled_model, report
from gateway.server.worker import run as run_worker
from gateway.server.worker_control import TARGETS_SUFFIX, LoadRequest, WorkerOrder, request_load
from gateway.server.worker_usage import usage_of_workers
from gateway.store.redis_client import import_library
from gateway.targets import status as target_views
from gateway.telemetry.call_log import CallLog
from gateway.upstream.end_tasks import end_tasks

Process: TypeAlias = asyncio.subprocess.Process | ForkedWorker

MIN_RESTART_DELAY_S = 0.1
MAX_RESTART_DELAY_S = 5.0
"""The delay before a restart doubles from the minimum to the maximum."""
STABLE_AFTER_S = 10.0
"""A worker that ran this long is restarted after the minimum delay."""
UPDATE_INTERVAL_S = 0.25
LOAD_TIMEOUT_S = 10.0
"""Maximum time for a worker to load a generation."""


def run_supervisor(source: ConfigSource, loaded: LoadedConfig, workers: int, log: str) -> int:
    """Serve with several processes until a signal stops them. Return the exit code."""
    config = loaded.config
    if config.store.startswith("memory:"):
        report(f"{config.path}: store: memory:// supports one worker: use a Redis store or --workers 1")
        return 2
    with bind(config.listen) as listener, bind(config.admin.listen) as admin:
        forked = _fork_workers(loaded, workers, listener, admin)
        gc.enable()
        with tempfile.TemporaryDirectory(prefix="lockgate-") as folder:  # after the fork: a worker that exits must not delete it
            download_bundled_model(config)
            human = log == "human" or (log == "auto" and sys.stdout.isatty())
            supervisor = _Supervisor(source, loaded, workers, listener, admin, Path(folder), human, forked)
            code: int = uvloop.run(supervisor.run())
            return code


def _fork_workers(loaded: LoadedConfig, count: int, listener: socket.socket, admin: socket.socket) -> list[ForkedWorker]:
    """Return the workers, which wait for their orders, or an empty list if this process cannot be forked safely."""

    def run(order: bytes) -> int:
        admin.close()
        listener.detach()  # the worker opens the same descriptor
        return run_worker(order, loaded)

    import_library()
    return fork_workers(count, run) if can_fork(loaded.config) else []


class _Supervisor:
    def __init__(
        self,
        source: ConfigSource,
        loaded: LoadedConfig,
        workers: int,
        listener: socket.socket,
        admin: socket.socket,
        folder: Path,
        human: bool,
        forked: list[ForkedWorker],
    ) -> None:
        self._listener = listener
        self._admin = admin
        self._folder = folder
        self._human = human
        self._gateway = Gateway(loaded.config, CallLog(1, human=human), report, workers=workers)
        self._reloader = Reloader(self._gateway, source, loaded)
        self._reloader.followers.append(self._push_generation)
        self._readiness = Readiness()
        self._shutdown = Shutdown(self._readiness, self._gateway.metrics)
        self._workers = workers
        self._forked = dict(enumerate(forked))
        """The workers that wait for their orders."""
        self._processes: dict[int, Process] = {}
        self._cells: dict[int, Path] = {}
        self._serving: dict[int, int] = {}
        """The last known generation of each worker."""
        self._ended_counts: Snapshot = {}

    async def run(self) -> int:
        """Start everything, restart workers that exit, and shut down on a signal. Return the exit code."""
        await self._gateway.start()
        self._gateway.metrics.collect_from(self._worker_counts)
        self._gateway.target_views = self._target_views
        self._gateway.worker_usage = self._worker_usage
        callers = self._listener.getsockname()[:2]
        admin = make_server(build_admin(self._gateway, self._readiness, self._reloader, callers), grace=1)
        ignore_signals = handle_signals(self._on_signal, lambda: request_reload(self._reloader))
        admin_task = asyncio.create_task(admin.serve([self._admin]))
        workers = [asyncio.create_task(self._keep_running(number)) for number in range(self._workers)]
        others = [asyncio.create_task(self._update_workers()), asyncio.create_task(self._reloader.watch())]
        others.append(asyncio.create_task(stop_admin_when_forced(self._shutdown, admin)))
        announce(self._gateway.config, self._listener, self._admin)
        await self._shutdown.started.wait()
        await self._stop_workers(workers)
        await end_tasks(others)
        admin.should_exit = True
        await asyncio.gather(admin_task, *workers)
        for forked in self._forked.values():
            forked.dismiss()
        await self._gateway.stop(self._shutdown.flush_timeout_s)
        ignore_signals()
        return 0

    def _on_signal(self) -> None:
        """Start or force the shutdown. Each worker shuts down by itself, with the same configuration."""
        self._shutdown.on_signal()
        for process in list(self._processes.values()):
            _send_signal(process, signal.SIGTERM)

    async def _stop_workers(self, workers: list[asyncio.Task[None]]) -> None:
        """Wait for the workers to exit. Kill those that still run when the time is over, or shortly after the shutdown is forced."""
        config = self._gateway.config
        await self._shutdown.wait(config.grace)
        self._listener.close()  # the workers close their sockets now too, so that new connections are refused, not queued
        forced = asyncio.create_task(self._shutdown.forced.wait())
        ended = asyncio.create_task(_gather(workers))
        await asyncio.wait([forced, ended], timeout=config.drain + 2 * FLUSH_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if self._shutdown.forced.is_set():
            await asyncio.wait([ended], timeout=2 * FLUSH_TIMEOUT_S)
        forced.cancel()
        for process in list(self._processes.values()):
            _send_signal(process, signal.SIGKILL)
        await ended

    async def _keep_running(self, number: int) -> None:
        """Run worker `number`; restart it whenever it exits."""
        delay_s = MIN_RESTART_DELAY_S
        while not self._shutdown.started.is_set():
            started_at = time.monotonic()
            process = await self._start(number)
            self._processes[number] = process
            if self._shutdown.started.is_set():  # the signal arrived while this worker was starting
                _send_signal(process, signal.SIGTERM)
            code = await process.wait()
            self._processes.pop(number, None)
            self._serving.pop(number, None)
            self._readiness.serving = bool(self._serving)
            self._keep_counts(number)
            if self._shutdown.started.is_set():
                return
            is_stable = time.monotonic() - started_at > STABLE_AFTER_S
            delay_s = MIN_RESTART_DELAY_S if is_stable else min(delay_s * 2, MAX_RESTART_DELAY_S)
            self._gateway.metrics.count("lockgate_worker_restarts")
            report(f"worker {number} exited with {code}; restarting in {delay_s:g} s")
            await asyncio.sleep(delay_s)

    def _load_request(self) -> LoadRequest:
        """Return the request to load the current generation."""
        engines = {name: engine.socket for name, engine in self._gateway.generation.engines.items()}
        return LoadRequest(self._reloader.loaded.text, self._gateway.generation.number, engines)

    async def _start(self, number: int) -> Process:
        self._cells[number] = self._folder / f"worker-{number}.cells"
        order = WorkerOrder(
            load=self._load_request(),
            listener=self._listener.fileno(),
            control=str(self._control_socket(number)),
            cells=str(self._cells[number]),
            number=number,
            supervisor=os.getpid(),
            human=self._human,
        )
        data = msgspec.json.encode(order)
        forked = self._forked.pop(number, None)
        if forked is None:
            return await self._start_by_exec(data)
        await forked.send(data)
        return forked

    async def _start_by_exec(self, order: bytes) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.server.worker",
            stdin=asyncio.subprocess.PIPE,
            pass_fds=[self._listener.fileno()],
            env=dict(os.environ),
            start_new_session=True,  # Ctrl-C must reach only the supervisor, which lets calls finish
        )
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # the worker has already exited, and `_keep_running` restarts it
            process.stdin.write(order)
            await process.stdin.drain()
        process.stdin.close()
        return process

    def _control_socket(self, number: int) -> Path:
        return self._folder / f"worker-{number}.sock"

    async def _push_generation(self, loaded: LoadedConfig, generation: int) -> None:
        """Make every running worker load a new generation. `_update_workers` tries again with workers that are still starting."""
        self._reloader.loaded = loaded
        await asyncio.gather(*(self._update_worker(number) for number in list(self._processes)))

    async def _update_worker(self, number: int) -> None:
        """Make a worker load the current generation.

        If loading fails, stop the worker: its successor starts with the current generation.
        """
        process, load = self._processes.get(number), self._load_request()
        if process is None:
            return
        try:
            reply = await request_load(self._control_socket(number), load, LOAD_TIMEOUT_S)
        except (OSError, msgspec.DecodeError, TimeoutError):
            return  # the worker is starting, exiting or busy: `_update_workers` tries again
        if reply.error:
            report(f"worker {number} cannot load generation {load.generation}; restarting it: {reply.error}")
            _send_signal(process, signal.SIGTERM)
        else:
            self._serving[number] = reply.generation
            self._readiness.serving = True  # at least one worker accepts calls

    async def _update_workers(self) -> None:
        """Update the workers that missed a new generation because they were starting or busy."""
        while True:
            for number in list(self._processes):
                if number in self._processes and self._serving.get(number, 0) < self._gateway.generation.number:
                    await self._update_worker(number)
            await asyncio.sleep(UPDATE_INTERVAL_S)

    def _keep_counts(self, number: int) -> None:
        """Keep the counts of a worker that has exited."""
        path = self._cells.pop(number)
        self._ended_counts = merge([self._ended_counts, after_end(read_file(path))])
        remove(path)
        Path(f"{path}{TARGETS_SUFFIX}").unlink(missing_ok=True)

    def _target_views(self) -> list[target_views.TargetView]:
        """Return the state of the targets, merged over all workers."""
        own = target_views.target_views(self._gateway.health, self._gateway.config)
        files = [Path(f"{path}{TARGETS_SUFFIX}") for path in self._cells.values()]
        return target_views.merge_views([own, *map(target_views.read_views, files)])

    async def _worker_usage(self, days: Sequence[str]) -> tuple[list[RowCopy], bool]:
        """Return the usage of the workers, and whether all have answered."""
        copies, is_complete = await usage_of_workers(map(self._control_socket, self._processes), days)
        return copies, is_complete and len(self._processes) == self._workers

    def _worker_counts(self) -> list[Snapshot]:
        """Return the counts of all workers, including those that have exited."""
        return [self._ended_counts, *(read_file(path) for path in self._cells.values())]


async def _gather(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


def _send_signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
