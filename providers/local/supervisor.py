"""Supervisor of the embedded engine: starts the child process that runs the model, watches it and restarts it.

    starting -> ready -> restarting -> ready ...      after a crash, a hang or too much memory; with backoff
    any      -> unavailable                           not installed, no model, a bad model, no AVX2, too little memory

The gateway runs in every state. If the model file is missing or bad, the engine starts again once the file changes.
`admit` admits a call, which is then sent over HTTP to `socket`; `Lease.release` frees its place. The child process inherits
no credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from providers.base import Failure
from providers.local import cpu, gguf, probe, weights
from providers.local.admission import Gate, Lease
from providers.local.options import ENGINE_MODEL, LocalOptions
from providers.local.process import EngineProcess, StartError
from providers.local.state import Note, State, failure_for, write_note

Cause = Literal["exit", "hung", "memory", "start"]
Code = Literal["missing_model", "bad_model", "not_installed", "processor", "memory"]

RECOVERABLE_CODES = frozenset({"missing_model", "bad_model"})
"""Codes of `unavailable` that a changed model file may resolve."""
RETRYABLE_CODES = frozenset({"signal", "exit", "slow"})
"""Codes of failed starts that may succeed later."""


class Timing(msgspec.Struct, frozen=True):
    """Timeouts and intervals of the supervisor."""

    start_timeout_s: float = 600.0
    """Loading a large model from a slow disk takes minutes."""
    check_interval_s: float = 2.0
    """Interval between two checks of health and memory."""
    hung_after_s: float = 10.0
    """An idle engine that does not answer for this long counts as hung."""
    busy_hung_after_s: float = 120.0
    """An engine that computes but does not answer for this long counts as hung."""
    grace_s: float = 2.0
    """Time between the request to stop and SIGKILL."""
    backoff_s: float = 0.1
    """Delay before the first restart. It doubles with each further restart, up to `max_backoff_s`."""
    max_backoff_s: float = 30.0
    stable_after_s: float = 60.0
    """Time in `ready` after which the delay starts again at `backoff_s`."""


class UnavailableError(Exception):
    """The engine cannot run until the operator fixes the cause, such as a missing model file."""

    def __init__(self, reason: str, code: Code) -> None:
        super().__init__(reason)
        self.code = code


class Engine:
    """Supervises the child process on one event loop. `report` receives one line for each change."""

    def __init__(
        self,
        options: LocalOptions | None = None,
        *,
        report: Callable[[str], None] = lambda line: None,
        timing: Timing | None = None,
        alias: str = ENGINE_MODEL,
        directory: Path | None = None,
        missing_feature: Callable[[], str | None] = cpu.missing_feature,
        find: Callable[[LocalOptions], Path | None] = weights.find_for,
        environ: Mapping[str, str] | None = None,
        workers: int = 4,
    ) -> None:
        """Create an engine. Each of `workers` processes admits as many calls as fit into the slots and the queue."""
        self.options = options or LocalOptions()
        self.state: State = "stopped"
        self.reason = "the engine has not been started"
        self.code: Code | None = None
        """The code for the reason why the engine is unavailable. A wrong `model:` causes `missing_model` or `bad_model`."""
        self.causes: Counter[Cause] = Counter()
        """Number of restarts by cause."""
        self.load_seconds: float | None = None
        """Seconds from the start of the current child until it was ready."""
        self.gate = Gate(self.options.slots, self.options.queue)
        self._directory = directory or _runtime_directory()
        self.socket = str(self._directory / "engine.sock")
        """The engine's unix socket. It stays the same across restarts."""
        self._timing = timing or Timing()
        self._alias = alias
        self._report = report
        self._missing_feature = missing_feature
        self._find = find
        self._environ = environ
        self._workers = workers
        self._process: EngineProcess | None = None
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()

    @property
    def restarts(self) -> int:
        """Number of restarts."""
        return sum(self.causes.values())

    @property
    def pid(self) -> int | None:
        """Process id of the running child, or None."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start supervising and return at once. `settled` waits for the result."""
        if self._task is None:
            self._directory.mkdir(mode=0o700, exist_ok=False)
            self._set("starting", "loading the model")
            self._task = asyncio.create_task(self._supervise(), name="local-engine")

    async def settled(self, within: float) -> State:
        """Wait up to `within` seconds until the engine is ready or unavailable. Return the engine's state at that time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._settled.wait()
        return self.state

    async def stop(self) -> None:
        """Stop the child and remove its socket. Calls in flight lose their connection."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._set("stopped", "the engine was stopped")
            shutil.rmtree(self._directory, ignore_errors=True)

    async def admit(self, wait: float = 0.0) -> Lease | Failure:
        """Return a lease, or the failure of a rejected call. Wait up to `wait` seconds for an engine that is starting or restarting."""
        lease = self.gate.acquire()
        if lease is None:
            return Failure("overloaded", "the local engine's queue is full", 503, "engine_overloaded", retry_after=self.gate.retry_after())
        if self.state == "ready":
            return lease
        try:
            if wait > 0 and self.state in ("starting", "restarting") and await self.settled(wait) == "ready":
                return lease
        except asyncio.CancelledError:
            lease.release()
            raise
        lease.release()
        return self.failure()

    def failure(self) -> Failure:
        """Return the failure of a call that is not answered in the current state."""
        return failure_for(self.state)

    def describe(self) -> dict[str, Any]:
        """Return the values for health, metrics and status pages."""
        memory = self._process.memory() if self._process else None
        return {
            "state": self.state, "reason": self.reason, "code": self.code, "pid": self.pid, "restarts": dict(self.causes),
            "slots": self.gate.slots, "running": self.gate.running, "waiting": self.gate.waiting, "capacity": self.gate.capacity,
            "memory_bytes": memory, "load_seconds": self.load_seconds, "threads": self.options.cores,
        }  # fmt: skip

    # --- the supervisor's coroutine ---

    async def _supervise(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            seen = await asyncio.to_thread(self._signature)
            try:
                cause, what = await self._run_once()
            except UnavailableError as error:
                self.code = error.code
                self._set("unavailable", str(error))
                if error.code not in RECOVERABLE_CODES:
                    return
                await self._model_changes(seen)
                self._set("starting", "loading the model")
                continue
            except (OSError, ValueError) as error:
                cause, what = "start", f"the engine could not be started: {error}"
            steady = self.load_seconds is not None and time.monotonic() - began - self.load_seconds >= self._timing.stable_after_s
            failures = 1 if steady else failures + 1
            pause = min(self._timing.backoff_s * 2 ** (failures - 1), self._timing.max_backoff_s)
            self.causes[cause] += 1
            self._set("restarting", f"{what}; restarting in {pause:g} s")
            await asyncio.sleep(pause)

    async def _run_once(self) -> tuple[Cause, str]:
        """Start the child and watch it until it ends. Return the cause of its end and a description."""
        model, settings, cap = await asyncio.to_thread(self._plan)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        began = time.monotonic()
        process = await EngineProcess.spawn(settings, os.environ if self._environ is None else self._environ)
        try:
            self._process = process
            try:
                await self._load(process, cap)
            except StartError as error:
                return "start", self._start_failed(error, process)
            self.load_seconds = time.monotonic() - began
            width = f"{self.options.slots} slots, {self.options.cores} threads"
            self._set("ready", f"{model.name} loaded in {self.load_seconds:.1f} s, {width}")
            return await self._watch(process, cap)
        finally:
            if self.state == "ready":
                self._settled.clear()  # no calls are admitted while the old child ends
                self.state = "restarting"
            self._process = None
            await asyncio.shield(process.stop(self._timing.grace_s))

    async def _load(self, process: EngineProcess, cap: int) -> None:
        """Wait until the model is loaded. Check the memory meanwhile, because a large context is allocated in one step."""
        ready = asyncio.create_task(process.ready(self._timing.start_timeout_s))
        try:
            while not ready.done():
                await asyncio.wait((ready,), timeout=0.1)
                if (process.memory() or 0) > cap:
                    process.kill()
                    why = f"memory is capped at {cap >> 20} MiB and the model needs more: increase `memory` of the local provider"
                    raise UnavailableError(why, "memory")
            ready.result()
        finally:
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)

    def _plan(self) -> tuple[Path, dict[str, Any], int]:
        """Return the model, the child's settings and the memory limit.

        Raise UnavailableError if the processor lacks a required instruction set, the engine is not installed, or the model file
        is missing. This method blocks.
        """
        if feature := self._missing_feature():
            raise UnavailableError(f"the engine requires {feature}, which this processor lacks", "processor")
        if not weights.engine_is_installed():
            raise UnavailableError(weights.NOT_INSTALLED, "not_installed")
        model = self._find(self.options)
        if model is None:
            named = self.options.model
            pull = weights.PULLS[self.options.bundled]
            missing = f"no model file at {named}" if named else f"the model is not downloaded: run `{pull}`"
            raise UnavailableError(missing, "missing_model")
        settings = {
            "model": str(model), "alias": self._alias, "socket": self.socket, "slots": self.options.slots,
            "pooling": gguf.pooling_of(model),
            "context": self.options.context * self.options.slots, "threads": self.options.cores,
            "connections": self._workers * self.gate.capacity + 8, "verbosity": 1,
        }  # fmt: skip
        return model, settings, self.options.memory_cap(model.stat().st_size)

    def _start_failed(self, error: StartError, process: EngineProcess) -> str:
        """Return the message for a start that may succeed later. Raise UnavailableError otherwise."""
        if process.signalled(signal.SIGILL):
            raise UnavailableError("this processor lacks an instruction that the engine requires", "processor")
        if error.code in RETRYABLE_CODES:
            return error.message
        raise UnavailableError(error.message, cast(Code, error.code))

    async def _watch(self, process: EngineProcess, cap: int) -> tuple[Cause, str]:
        """Watch the child until it ends or must be killed. Return the cause and a description."""
        ended = asyncio.create_task(process.wait())
        checks = asyncio.create_task(self._check(process, cap))
        try:
            await asyncio.wait((ended, checks), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return "exit", f"the engine died: {process.ending()}"
            process.kill()
            return checks.result()
        finally:
            for task in (ended, checks):
                task.cancel()
            await asyncio.gather(ended, checks, return_exceptions=True)

    async def _check(self, process: EngineProcess, cap: int) -> tuple[Cause, str]:
        """Wait until the child hangs or uses too much memory. Return the cause and a description."""
        silent = 0.0
        while True:
            await asyncio.sleep(self._timing.check_interval_s)
            if (held := process.memory() or 0) > cap:
                return "memory", f"the engine used {held >> 20} MiB of {cap >> 20} MiB and was killed"
            before, began = process.cpu_seconds(), time.monotonic()
            if await probe.responds(
                self.socket, "/slots", self._timing.hung_after_s
            ):  # `/slots` is answered by the main loop, not by the listener
                silent = 0.0
                continue
            waited = time.monotonic() - began
            silent += max(waited, self._timing.check_interval_s)
            used = (process.cpu_seconds() or 0.0) - (before or 0.0)
            if used < 0.05 * waited or silent > self._timing.busy_hung_after_s:
                return "hung", f"the engine did not answer for {silent:.1f} s and was killed"

    async def _model_changes(self, seen: tuple[int, ...] | None) -> None:
        """Wait until the model file differs from `seen`."""
        while await asyncio.to_thread(self._signature) == seen:  # noqa: ASYNC110 - a file has no event to wait for
            await asyncio.sleep(self._timing.check_interval_s)

    def _signature(self) -> tuple[int, ...] | None:
        try:
            path = self._find(self.options)
            stat = path.stat() if path else None
        except OSError:
            return None
        return (stat.st_ino, stat.st_size, stat.st_mtime_ns) if stat else None

    def _set(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        if state != "unavailable":
            self.code = None
        if state in ("ready", "unavailable"):
            self._settled.set()
        else:
            self._settled.clear()
        with contextlib.suppress(OSError):  # only other workers read the file
            write_note(self.socket, Note(state, reason))
        self._report(f"local engine {state}: {reason}")


def _runtime_directory() -> Path:
    """Return a path for a new private directory, short enough for the path of a unix socket in it (limit: 108 bytes)."""
    name = f"lockgate-{os.getpid()}-{secrets.token_hex(4)}"
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    if not os.access(base, os.W_OK) or len(os.fsencode(base)) + len(name) > 90:
        base = "/tmp"
    return Path(base) / name
