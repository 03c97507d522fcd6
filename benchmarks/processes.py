"""The processes of a benchmark: mock upstream, load generator and targets, pinned to cores."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
KEY = "sk-benchmark"
CHAT_PATH = "/v1/chat/completions"
FILES_WANTED = 32768
CORES = sorted(os.sched_getaffinity(0))
TARGET_CORE, LOAD_CORE, ALL_CORES = {CORES[0]}, {CORES[-1]}, set(CORES)
START_DEADLINE_S = 60

Process = subprocess.Popen[bytes]


@dataclass
class Load:
    """The report of the load generator: times to the first byte, to the first content, and (`p50_ms`, `p99_ms`) to the end of a response.

    The first content is the first text that a model generates. Without any, it is the end of the response.
    """

    completed: int
    errors: int
    events: int
    seconds: float
    first_p50_ms: float
    first_p99_ms: float
    content_p50_ms: float
    content_p99_ms: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Completed requests per second."""
        return self.completed / self.seconds


@dataclass
class Target:
    """A running proxy: its name, its port and its root process."""

    name: str
    port: int
    process: Process
    started: float
    """Seconds from the start of the process to its first correct answer."""
    headers: str = ""
    """Header lines that callers of this proxy send."""
    admin_port: int = 0


@dataclass
class Launch:
    """The command and the settings that start a target."""

    name: str
    command: Sequence[str]
    port: int
    body: bytes
    """Body of a request. The start is complete at the first correct answer to it."""
    cores: set[int] = field(default_factory=lambda: TARGET_CORE)
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: str = ""
    admin_port: int = 0
    deadline: float = START_DEADLINE_S


class BrokenTargetError(Exception):
    """A target did not start or gave a wrong answer."""


def pinned(cores: set[int]) -> Callable[[], None]:
    """Return a function that pins a child process to `cores` and raises its file limit."""

    def prepare() -> None:
        os.sched_setaffinity(0, cores)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

    return prepare


def program(name: str) -> str | None:
    """Return the path of a system program, or None. Debian's folders for administrators may be missing from PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


def version_of(name: str, argument: str) -> str | None:
    """Return the first line that a system program prints about its version, or None if it is not installed."""
    path = program(name)
    if path is None:
        return None
    said = subprocess.run([path, argument], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).strip().partition("\n")[0]


def compile_programs(folder: Path) -> None:
    """Compile the mock and the load generator. Exit with a one-line message if there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("the benchmark needs a C compiler for its mock upstream and its load (Debian: apt install gcc libc6-dev)")
    for name in ("mock", "load"):
        subprocess.run([compiler, "-O2", "-o", str(folder / name), str(HERE / f"{name}.c")], check=True)


def start_mock(folder: Path, cores: set[int]) -> tuple[Process, int]:
    """Start the mock upstream. Return its process and its port."""
    process = subprocess.Popen([str(folder / "mock"), "0"], stdout=subprocess.PIPE, preexec_fn=pinned(cores))
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@dataclass(frozen=True)
class Request:
    """The requests that the load generator sends. `events` is the number of events of the response, or 0 for a JSON response."""

    body: bytes
    path: str = CHAT_PATH
    events: int = 0


@dataclass(frozen=True)
class Pace:
    """The pace of the load generator: `connections` in a closed loop, or `rate` requests per second.

    `times` is the number of requests per connection; 0 means as many as fit into `seconds`.
    """

    connections: int
    seconds: float
    times: int = 0
    rate: float = 0


def start_load(folder: Path, target: Target, request: Request, pace: Pace, cores: set[int] = LOAD_CORE) -> Process:
    """Start the load generator and return its process, whose report `finish_load` reads."""
    command = [str(folder / "load"), str(target.port), str(pace.connections), str(pace.seconds), str(pace.times), str(request.events)]
    command += [KEY, request.path, str(pace.rate), target.headers]
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(request.body)
        file.seek(0)
        return subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=pinned(cores))


def finish_load(loading: Process, target: Target, request: Request) -> Load:
    """Wait for the load generator and return its report. Raise BrokenTargetError if any answer was wrong."""
    said, complained = loading.communicate()
    if loading.returncode:
        what = f"{target.name} gave wrong answers to {request.path}"
        raise BrokenTargetError(f"{what}: {said.decode().strip()} {complained.decode(errors='replace').strip()}")
    return Load(**json.loads(said))


def run_load(folder: Path, target: Target, request: Request, pace: Pace, cores: set[int] = LOAD_CORE) -> Load:
    """Send load to a target and return the report. Raise BrokenTargetError if any answer is wrong."""
    return finish_load(start_load(folder, target, request, pace, cores), target, request)


def start_target(folder: Path, launch: Launch) -> Target:
    """Start a target and return it after its first correct answer.

    Raise BrokenTargetError with the end of the target's log if none arrives before the deadline.
    """
    log = folder / f"{launch.name.replace(' ', '-')}.log"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **launch.environment}
    began = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            launch.command, cwd=HERE.parent, env=environment, stdout=file, stderr=file, preexec_fn=pinned(launch.cores)
        )
    target = Target(launch.name, launch.port, process, 0, launch.headers, launch.admin_port)
    while time.monotonic() - began < launch.deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", launch.port), 1).close()
            run_load(folder, target, Request(launch.body), Pace(1, 5, times=1))
        except (OSError, BrokenTargetError):
            time.sleep(0.01)
        else:
            target.started = time.monotonic() - began
            return target
    stop(process)
    raise BrokenTargetError(f"{launch.name} did not start: {log.read_text(errors='replace')[-2000:].strip()}")


def stop(process: Process) -> None:
    """End a process of this run."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout:
        process.stdout.close()
