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
from gateway.admin.health import Readiness
from gateway.config.source import ConfigSource, LoadedConfig
from gateway.http.listener import bind, make_server
from gateway.metrics.cells import remove
from gateway.metrics.snapshot import Snapshot, after_end, merge, read_file
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Reloader
from gateway.server.drain import FLUSH_TIMEOUT_S, Shutdown, handle_signals, stop_admin_when_forced
from gateway.server.startup import announce, download_bundled_model, report, request_reload
from gateway.server.worker_control import TARGETS_SUFFIX, LoadReply, LoadRequest, WorkerOrder, request_load
from gateway.targets import status as target_views
from gateway.telemetry.call_log import CallLog

BACKOFF = (0.1, 5.0)
"""Seconds before a worker that died is started again: at first, and at most."""
STEADY = 10.0
CHECK_EVERY = 0.25
LOAD_WITHIN = 10.0
"""Seconds that a worker may take to load a generation."""




def run_supervisor(source: ConfigSource, loaded: LoadedConfig, workers: int, log: str) -> int:
    """Serve with several processes until told to stop; the exit code."""
    config = loaded.config
    if config.store.startswith("memory:"):
        report(f"{config.path}: store: memory:// counts within one process; {workers} workers need a Redis store, or use one worker")
        return 2
    with bind(config.listen) as listener, bind(config.admin.listen) as admin, tempfile.TemporaryDirectory(prefix="lockgate-") as folder:
        download_bundled_model(config)
        human = log == "human" or (log == "auto" and sys.stdout.isatty())
        code: int = uvloop.run(_Supervisor(source, loaded, workers, listener, admin, Path(folder), human).run())
        return code


class _Supervisor:
    def __init__(
        self, source: ConfigSource, loaded: LoadedConfig, workers: int, listener: socket.socket, admin: socket.socket, folder: Path, human: bool
    ) -> None:
        self._listener = listener
        self._admin = admin
        self._folder = folder
        self._human = human
        self._gateway = Gateway(loaded.config, CallLog(1, human=human), report, workers=workers)
        self._reloader = Reloader(self._gateway, source, loaded)
        self._reloader.followers.append(self._spread)
        self._health = Readiness()
        self._ending = Shutdown(self._health, self._gateway.metrics)
        self._workers = workers
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._cells: dict[int, Path] = {}
        self._serving: dict[int, int] = {}
        """The generation that each worker is known to serve by."""
        self._ended: Snapshot = {}

    async def run(self) -> int:
        """Start everything, restart what dies, stop on a signal."""
        await self._gateway.start()
        self._gateway.metrics.collect_from(self._of_workers)
        self._gateway.target_views = self._targets
        admin = make_server(build_admin(self._gateway, self._health, self._reloader), grace=1)
        ignore_signals = handle_signals(self._signalled, lambda: request_reload(self._reloader))
        admin_task = asyncio.create_task(admin.serve([self._admin]))
        tending = [asyncio.create_task(self._tend(number)) for number in range(self._workers)]
        others = [asyncio.create_task(self._bring_up_to_date()), asyncio.create_task(self._reloader.watch())]
        others.append(asyncio.create_task(stop_admin_when_forced(self._ending, admin)))
        announce(self._gateway.config, self._listener, self._admin)
        await self._ending.started.wait()
        await self._end(tending)
        for task in others:
            task.cancel()
        admin.should_exit = True
        await asyncio.gather(admin_task, *tending)
        await self._gateway.stop(self._ending.flush_timeout_s)
        ignore_signals()
        return 0

    def _signalled(self) -> None:
        """The workers end by the same signals, each for itself, and by the same configuration."""
        self._ending.on_signal()
        for process in list(self._running.values()):
            _signal(process, signal.SIGTERM)

    async def _end(self, tending: list[asyncio.Task[None]]) -> None:
        """Until the last worker has ended, or had the time to."""
        config = self._gateway.config
        await self._ending.wait(config.grace)
        self._listener.close()  # the workers' copies close now, too: a connection that nobody would accept is refused instead
        hurried = asyncio.create_task(self._ending.forced.wait())
        ended = asyncio.create_task(_all(tending))
        await asyncio.wait([hurried, ended], timeout=config.drain + 2 * FLUSH_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if self._ending.forced.is_set():
            await asyncio.wait([ended], timeout=2 * FLUSH_TIMEOUT_S)
        hurried.cancel()
        for process in list(self._running.values()):
            _signal(process, signal.SIGKILL)
        await ended

    async def _tend(self, number: int) -> None:
        """One worker after another in the same place."""
        pause = BACKOFF[0]
        while not self._ending.started.is_set():
            began = time.monotonic()
            process = await self._start(number)
            self._running[number] = process
            if self._ending.started.is_set():  # the signal for all came while this one was being started
                _signal(process, signal.SIGTERM)
            code = await process.wait()
            self._running.pop(number, None)
            self._serving.pop(number, None)
            self._health.serving = bool(self._serving)
            self._keep(number)
            if self._ending.started.is_set():
                return
            pause = BACKOFF[0] if time.monotonic() - began > STEADY else min(pause * 2, BACKOFF[1])
            self._gateway.metrics.count("lockgate_worker_restarts")
            report(f"worker {number} ended with {code}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)

    def _load(self) -> LoadRequest:
        """The generation that serves, for a worker."""
        engines = {name: engine.socket for name, engine in self._gateway.generation.engines.items()}
        return LoadRequest(self._reloader.loaded.text, self._gateway.generation.number, engines)

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        self._cells[number] = self._folder / f"worker-{number}.cells"
        order = WorkerOrder(
            load=self._load(),
            listener=self._listener.fileno(),
            control=str(self._control(number)),
            cells=str(self._cells[number]),
            number=number,
            supervisor=os.getpid(),
            human=self._human,
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.server.worker",
            stdin=asyncio.subprocess.PIPE,
            pass_fds=[self._listener.fileno()],
            env=dict(os.environ),
            start_new_session=True,  # a terminal's interrupt is for the supervisor, which lets calls finish
        )
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it ended already, which is noticed by who waits for it
            process.stdin.write(msgspec.json.encode(order))
            await process.stdin.drain()
        process.stdin.close()
        return process

    def _control(self, number: int) -> Path:
        return self._folder / f"worker-{number}.sock"

    async def _spread(self, loaded: LoadedConfig, generation: int) -> None:
        """Tell every worker of a new generation; one that starts just now is told once it listens."""
        self._reloader.loaded = loaded
        await asyncio.gather(*(self._tell(number) for number in list(self._running)))

    async def _tell(self, number: int) -> None:
        """Bring a worker up to date, or end it: the next one starts with the generation that serves."""
        process, load = self._running.get(number), self._load()
        if process is None:
            return
        try:
            said = await request_load(self._control(number), load, LoadReply, LOAD_WITHIN)
        except (OSError, msgspec.DecodeError, TimeoutError):
            return  # it starts, ends or is busy: it is told again in a moment
        if said.error:
            report(f"worker {number} cannot serve by generation {load.generation} and is replaced: {said.error}")
            _signal(process, signal.SIGTERM)
        else:
            self._serving[number] = said.generation
            self._health.serving = True  # somebody accepts calls

    async def _bring_up_to_date(self) -> None:
        """Tell the workers that missed a new generation, because they were starting or busy."""
        while True:
            for number in list(self._running):
                if number in self._running and self._serving.get(number, 0) < self._gateway.generation.number:
                    await self._tell(number)
            await asyncio.sleep(CHECK_EVERY)

    def _keep(self, number: int) -> None:
        """What a worker that has ended had counted goes on counting."""
        path = self._cells.pop(number)
        self._ended = merge([self._ended, after_end(read_file(path))])
        remove(path)
        Path(f"{path}{TARGETS_SUFFIX}").unlink(missing_ok=True)

    def _targets(self) -> list[target_views.TargetView]:
        """How the targets fare, as all workers see them."""
        own = target_views.target_views(self._gateway.health, self._gateway.config)
        return target_views.merge_views([own, *(target_views.read_views(Path(f"{path}{TARGETS_SUFFIX}")) for path in self._cells.values())])

    def _of_workers(self) -> list[Snapshot]:
        """What the workers have counted, those that have ended included."""
        return [self._ended, *(read_file(path) for path in self._cells.values())]


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


def _signal(process: asyncio.subprocess.Process, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(what)
