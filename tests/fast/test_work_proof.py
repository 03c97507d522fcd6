"""The cost of one call with everything on, as numbers that do not depend on the speed of the machine: allocations and system calls.

A library that is loaded into the gateway counts those of the thread with the event loop. Python's own allocator is off, so that
every object is counted. The work of timers, which depends on the time that the calls take, is subtracted.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.deploy.tools import debian
from tests.fast.test_steps import other_upstream, send_calls
from tests.faults.client import chat
from tests.running import Figure, RunningGateway
from tests.support.redis import RedisServer

__all__ = ["other_upstream"]

CALLS = 400
KEY = "sk-caller"


class Work(NamedTuple):
    """Counts for one call. `waits` are the waits of the event loop for events."""

    allocations: float
    reads: float
    writes: float
    waits: float


MOST = {False: Work(780, 4, 4, 4), True: Work(1080, 4, 4, 4)}
"""The work of one call, as JSON and as a stream of five events. It may grow by ROOM. Lower the numbers when there is less work.

The numbers are those of a slow machine, on which a call is settled before the next one is admitted.
"""
IDLE_S = 2.0
ROOM = 1.1
_FORMAT = "4l"


@contextmanager
def counting(folder: Path) -> Iterator[tuple[dict[str, str], Callable[[], tuple[int, ...]]]]:
    """Return the environment of a process that counts, and a function that returns its counts."""
    library, counts = folder / "count_work.so", folder / "counts"
    source = Path(__file__).with_name("count_work.c")
    subprocess.run([debian("cc"), "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    counts.write_bytes(bytes(struct.calcsize(_FORMAT)))
    with counts.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        environment = {"LD_PRELOAD": str(library), "COUNTS": str(counts), "PYTHONMALLOC": "malloc"}
        yield environment, lambda: struct.unpack(_FORMAT, shared[:])


def measured(read: Callable[[], tuple[int, ...]], run: Callable[[], object]) -> list[int]:
    """Return the counts of the gateway's work during `run`."""
    before = read()
    run()
    return [after - start for after, start in zip(read(), before, strict=True)]


@pytest.mark.prove
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_the_work_of_a_call_does_not_grow(
    other_upstream: int, own_redis: RedisServer, gateway: Callable[..., RunningGateway], tmp_path: Path, stream: bool, figure: Figure
) -> None:
    yaml = f"""
store: redis://127.0.0.1:{own_redis.port}/0
store_deadline: 5s
journal: {tmp_path}/journal
providers:
  up: {{ type: openai-compatible, base_url: "http://127.0.0.1:{other_upstream}/v1" }}
models:
  m: up/mock
keys:
  caller: {{ hash: "sha256:{hashlib.sha256(KEY.encode()).hexdigest()}", limits: {{ requests: 1M/min, tokens: 1000M/min }} }}
"""
    body = json.dumps({**chat(), "stream": True} if stream else chat()).encode()
    headers = [("authorization", f"Bearer {KEY}")]
    with counting(tmp_path) as (environment, read):
        port = gateway(yaml, env={**environment, "LOCKGATE_STATE": str(tmp_path / "state")}).port
        send_calls(port, body, 50, headers=headers)
        idle = measured(read, lambda: time.sleep(IDLE_S))
        began = time.monotonic()
        busy = measured(read, lambda: send_calls(port, body, CALLS, headers=headers))
        share = (time.monotonic() - began) / IDLE_S
    work = Work(*[(count - timers * share) / CALLS for count, timers in zip(busy, idle, strict=True)])
    for name, value in work._asdict().items():
        figure(f"{name} of a call, {'stream' if stream else 'JSON'}", value, "")
    assert all(found <= most * ROOM for found, most in zip(work, MOST[stream], strict=True)), work
