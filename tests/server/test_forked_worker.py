"""Workers are forked only from a process that is safe to fork. They share its memory, but no descriptors, ids or random numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import Config, Overrides
from gateway.config.source import ConfigSource
from gateway.server import forked_worker

ROOT = Path(__file__).parents[2]
YAML = "providers:\n  up: {type: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}\nmodels:\n  m: up/mock\n"
HOOK = "from gateway.hooks.api import Hook\n\n\nclass Mine(Hook):\n    pass\n"
HEAD = """
import asyncio, json, os, random, secrets, signal, sys, uuid
from gateway.http.request_id import next_id
from gateway.server.forked_worker import ForkedWorker, fork_workers

def say(**values):
    os.write(1, json.dumps(values).encode() + b"\\n")
"""
SERVE = """
async def supervise(workers, order):
    for worker in workers:
        await worker.send(order)
    say(codes=[await worker.wait() for worker in workers])
"""


def lines_of(script: str, code: int = 0) -> list[dict[str, Any]]:
    """Run a script in a process of its own, and return what it and its children say. Fail if any of them does not end."""
    command = [sys.executable, "-X", "dev", "-c", HEAD + SERVE + script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)  # ends with the last child
    assert (done.returncode, done.stderr) == (code, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_worker_gets_its_whole_order_and_its_result_is_its_exit_code() -> None:
    script = """
def run(order):
    say(size=len(order))
    return 7

asyncio.run(supervise(fork_workers(2, run), b"x" * 5_000_000))
"""
    assert lines_of(script) == [{"size": 5_000_000}, {"size": 5_000_000}, {"codes": [7, 7]}]


@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL", "SIGUSR1"])
def test_the_exit_code_of_a_killed_worker_is_the_negative_number_of_the_signal(number: str) -> None:
    script = f"""
workers = fork_workers(1, lambda order: 0)
workers[0].send_signal(signal.{number})
asyncio.run(supervise(workers, b"never read"))
try:
    workers[0].send_signal(signal.{number})
except ProcessLookupError:
    say(code=-signal.{number})
"""
    codes, last = lines_of(script)
    assert codes["codes"] == [last["code"]]


def test_workers_without_an_order_end_with_their_supervisor() -> None:
    assert lines_of("workers = fork_workers(3, lambda order: say(started=True) or 0)\nos._exit(4)", code=4) == []


def test_a_dismissed_worker_ends_without_having_run() -> None:
    script = """
workers = fork_workers(2, lambda order: say(started=True) or 0)
for worker in workers:
    worker.dismiss()
say(codes=[worker.returncode for worker in workers])
"""
    assert lines_of(script) == [{"codes": [-9, -9]}]


def test_ids_and_random_numbers_differ_between_all_processes() -> None:
    script = """
def draw(order=b""):
    say(drawn=[next_id(), random.random(), secrets.token_hex(8), str(uuid.uuid4())])
    return 0

next_id(), random.random()
workers = fork_workers(3, draw)
draw()
asyncio.run(supervise(workers, b"draw"))
"""
    drawn = [value for line in lines_of(script)[:-1] for value in line["drawn"]]
    assert len(set(drawn)) == len(drawn) == 16
    assert len({value[:16] for value in drawn if str(value).startswith("req_")}) == 4


def test_a_worker_has_only_the_standard_descriptors_and_a_session_of_its_own() -> None:
    script = """
def run(order):
    used = [number for number in range(100) if os.path.exists(f"/proc/self/fd/{number}")]
    say(used=used, stdin=os.readlink("/proc/self/fd/0"), leads=os.getsid(0) == os.getpid(), same=os.getsid(0) == session)
    return 0

session = os.getsid(0)
asyncio.run(supervise(fork_workers(3, run), b"order"))
"""
    for line in lines_of(script)[:-1]:
        assert line == {"used": [0, 1, 2], "stdin": "/dev/null", "leads": True, "same": False}


def test_workers_that_cannot_be_forked_are_left_out() -> None:
    script = """
fork, forks = os.fork, []

def fork_once():
    if forks:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    forks.append(fork())
    return forks[0]

os.fork = fork_once
workers = fork_workers(3, lambda order: 0)
say(count=len(workers))
asyncio.run(supervise(workers, b"order"))
"""
    assert lines_of(script) == [{"count": 1}, {"codes": [0]}]


@pytest.mark.parametrize("free", range(8))
def test_workers_for_which_no_descriptors_are_left_are_left_out_and_no_process_stays(free: int) -> None:
    script = f"""
import resource
from pathlib import Path
used = len(os.listdir("/proc/self/fd")) - 1
resource.setrlimit(resource.RLIMIT_NOFILE, (used + {free}, 4096))
workers = fork_workers(9, lambda order: 0)
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
left = Path(f"/proc/self/task/{{os.getpid()}}/children").read_text().split()
say(same=sorted(map(int, left)) == sorted(worker.pid for worker in workers), fewer=len(workers) < 9)
used_by_workers = 2 * len(workers)
say(leaked=len(os.listdir("/proc/self/fd")) - 1 - used - used_by_workers)
asyncio.run(supervise(workers, b"order"))
"""
    same, leaked, codes = lines_of(script)
    assert (same, leaked) == ({"same": True, "fewer": True}, {"leaked": 0})
    assert set(codes["codes"]) <= {0}


def test_a_worker_that_raises_an_error_of_the_system_ends() -> None:
    script = """
def run(order):
    sys.stderr = sys.__stderr__ = open(os.devnull, "w")
    raise OSError(24, "Too many open files")

asyncio.run(supervise(fork_workers(2, run), b"order"))
"""
    assert lines_of(script) == [{"codes": [1, 1]}]


def config_of(folder: Path, text: str = YAML) -> Config:
    """Return a configuration."""
    path = folder / "gateway.yaml"
    path.write_text(text)
    return ConfigSource(str(path), Overrides(), {}).read().config


def test_only_a_process_with_one_thread_can_be_forked(tmp_path: Path) -> None:
    config_of(tmp_path)
    script = f"""
import threading
from gateway.config.load import Overrides
from gateway.config.source import ConfigSource
from gateway.server.forked_worker import can_fork

config = ConfigSource({str(tmp_path / "gateway.yaml")!r}, Overrides(), {{}}).read().config
say(alone=can_fork(config))
ended = threading.Event()
thread = threading.Thread(target=ended.wait)
thread.start()
say(alone=can_fork(config))
ended.set()
thread.join()
"""
    assert lines_of(script) == [{"alone": True}, {"alone": False}]


def test_a_process_with_hooks_or_providers_of_others_is_not_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked_worker, "thread_count", lambda: 1)
    config = config_of(tmp_path)
    assert forked_worker.can_fork(config)
    (tmp_path / "rules_of_a_team.py").write_text(HOOK)
    assert not forked_worker.can_fork(config_of(tmp_path, YAML + "hooks:\n  - use: rules_of_a_team:Mine\n"))
    monkeypatch.setattr(forked_worker, "is_built_in", lambda kind: kind != "openai-compatible")
    assert not forked_worker.can_fork(config)


def test_a_system_without_process_descriptors_forks_no_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(forked_worker, "thread_count", lambda: 1)
    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert not forked_worker.can_fork(config_of(tmp_path))
