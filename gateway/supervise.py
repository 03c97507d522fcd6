"""Several workers: one supervisor owns the listening sockets, the engine child, the admin listener and the signals.

Workers are started by exec, never forked (the engine's library hangs in a forked child), and share the callers' listening socket. Each
counts in a file of its own, mapped into its memory, in a private directory; a scrape of the admin listener adds them up. What a worker
counted before it died, however it died, is kept, so that no counter goes down and no count is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop

from gateway.admin.app import build_admin
from gateway.admin.health import Health
from gateway.build import Gateway
from gateway.calllog import CallLog
from gateway.config import Config
from gateway.listeners import bind, server
from gateway.metrics.cells import remove
from gateway.metrics.snapshot import Snapshot, after_end, merge, read_file
from gateway.serve import DRAIN, LAST_WORDS, announce, fetch_model, report, watch_signals

BACKOFF = (0.1, 5.0)
"""Seconds before a worker that died is started again: at first, and at most."""
STEADY = 10.0


class WorkerOrder(msgspec.Struct):
    """What a worker is told, as JSON in its argument."""

    config: str
    host: str
    port: int
    admin_port: int
    listener: int
    cells: str
    supervisor: int
    engines: dict[str, str]
    human: bool


def supervise(config: Config, workers: int, log: str) -> int:
    """Serve with several processes until told to stop; the exit code."""
    if config.store.startswith("memory:"):
        report(f"{config.path}: store: memory:// counts within one process; {workers} workers need a Redis store, or use one worker")
        return 2
    with bind(config.listen) as listener, bind(config.admin.listen) as admin, tempfile.TemporaryDirectory(prefix="lockgate-") as folder:
        fetch_model(config)
        human = log == "human" or (log == "auto" and sys.stdout.isatty())
        code: int = uvloop.run(_Supervisor(config, workers, listener, admin, Path(folder), human).run())
        return code


class _Supervisor:
    def __init__(self, config: Config, workers: int, listener: socket.socket, admin: socket.socket, folder: Path, human: bool) -> None:
        self._config = config
        self._listener = listener
        self._admin = admin
        self._folder = folder
        self._human = human
        self._gateway = Gateway(config, CallLog(1, human=human), report, workers=workers)
        self._health = Health()
        self._workers = workers
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._cells: dict[int, Path] = {}
        self._ended: Snapshot = {}
        self._stopping = False

    async def run(self) -> int:
        """Start everything, restart what dies, stop on a signal."""
        stopped = asyncio.Event()
        await self._gateway.start()
        self._gateway.metrics.collect_from(self._of_workers)
        admin = server(build_admin(self._gateway, self._health), grace=1)
        undo = watch_signals(stopped.set, self._hurry)
        admin_task = asyncio.create_task(admin.serve([self._admin]))
        tending = [asyncio.create_task(self._tend(number)) for number in range(self._workers)]
        announce(self._config, self._listener, self._admin)
        self._health.serving = True
        await stopped.wait()
        self._stopping = self._health.draining = True
        for process in list(self._running.values()):
            _signal(process, signal.SIGTERM)
        await asyncio.wait(tending, timeout=DRAIN + 2)
        self._kill()
        admin.should_exit = True
        await asyncio.gather(admin_task, *tending)
        undo()
        await self._gateway.stop()
        return 0

    async def _tend(self, number: int) -> None:
        """One worker after another in the same place."""
        pause = BACKOFF[0]
        while not self._stopping:
            began = time.monotonic()
            process = await self._start(number)
            self._running[number] = process
            if self._stopping:  # the signal for all came while this one was being started
                _signal(process, signal.SIGTERM)
            code = await process.wait()
            self._running.pop(number, None)
            self._keep(number)
            if self._stopping:
                return
            pause = BACKOFF[0] if time.monotonic() - began > STEADY else min(pause * 2, BACKOFF[1])
            self._gateway.metrics.count("lockgate_worker_restarts")
            report(f"worker {number} ended with {code}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        listen, admin = self._config.listen, self._config.admin.listen
        self._cells[number] = self._folder / f"worker-{number}.cells"
        order = WorkerOrder(
            config=self._config.path,
            host=listen.host,
            port=listen.port,
            admin_port=admin.port,
            listener=self._listener.fileno(),
            cells=str(self._cells[number]),
            supervisor=os.getpid(),
            engines={name: engine.socket for name, engine in self._gateway.generation.engines.items()},
            human=self._human,
        )
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.worker",
            msgspec.json.encode(order).decode(),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=[self._listener.fileno()],
            env=dict(os.environ),
            start_new_session=True,  # a terminal's interrupt is for the supervisor, which lets calls finish
        )

    def _hurry(self) -> None:
        """Second signal: the workers end their calls at once, or are ended."""
        for process in list(self._running.values()):
            _signal(process, signal.SIGTERM)
        asyncio.get_running_loop().call_later(2 * LAST_WORDS, self._kill)

    def _kill(self) -> None:
        for process in list(self._running.values()):
            _signal(process, signal.SIGKILL)

    def _keep(self, number: int) -> None:
        """What a worker that has ended had counted goes on counting."""
        path = self._cells.pop(number)
        self._ended = merge([self._ended, after_end(read_file(path))])
        remove(path)

    def _of_workers(self) -> list[Snapshot]:
        """What the workers have counted, those that have ended included."""
        return [self._ended, *(read_file(path) for path in self._cells.values())]


def _signal(process: asyncio.subprocess.Process, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(what)
