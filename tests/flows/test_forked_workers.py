"""The workers of a supervisor are forked and share its memory; their replacements are started by exec."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from gateway.server.worker import PROCESS_NAME
from tests.faults.client import ask
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat
from tests.flows.processes import Start, children, config, has_new_workers, is_answering, port, start_ready, start_warm, until
from tests.running import RunningGateway
from tests.support.process_memory import private_bytes, resident_bytes

HOOK = "from gateway.hooks.api import Hook\n\n\nclass Mine(Hook):\n    pass\n"


def is_forked(pid: int) -> bool:
    """Return whether a worker was forked: it then has the command line of its supervisor."""
    return b"gateway.server.worker" not in Path(f"/proc/{pid}/cmdline").read_bytes()


def name_of(pid: int) -> str:
    """Return the name of a process as `ps -o comm` shows it."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def links(pid: int) -> set[str]:
    """Return the sockets and pipes that a process has open."""
    found = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    return {link for link in found if link.startswith(("socket:", "pipe:"))}


def listening(port: int) -> str:
    """Return the socket that listens on a port, as `links` names it."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return next(f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A")


async def test_workers_share_memory_but_of_the_descriptors_only_the_listener(gateway: Start) -> None:
    async with FaultUpstream() as up:
        running = await start_warm(gateway, config(up.base_url), workers=2)
        workers = children(running.pid)
        assert len(workers) == 2
        for pid in workers:
            assert is_forked(pid)
            assert name_of(pid) == PROCESS_NAME
            assert os.getsid(pid) == pid
            assert private_bytes(pid) < 0.5 * resident_bytes(pid), "a process that shares no modules has 75 % for itself"
            assert links(pid) & links(running.pid) == {listening(running.port)}
            assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"


async def _id_while_stopped(running: RunningGateway, stopped: int) -> str:
    """Return the request id of a call while this worker is stopped, so that the other one answers it."""
    os.kill(stopped, signal.SIGSTOP)
    try:
        answer = await ask(port(running), chat(max_tokens=1))
    finally:
        os.kill(stopped, signal.SIGCONT)
    return answer.header("x-request-id") or ""


async def test_request_ids_of_two_workers_differ(gateway: Start) -> None:
    async with FaultUpstream() as up:
        running = await start_warm(gateway, config(up.base_url), workers=2)
        first, second = [await _id_while_stopped(running, worker) for worker in children(running.pid)]
        assert first[:4] == second[:4] == "req_"
        assert first[4:16] != second[4:16], "the random part"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
async def test_a_killed_worker_is_replaced_by_one_that_serves_the_same(gateway: Start, number: signal.Signals) -> None:
    async with FaultUpstream() as up:
        running = await start_warm(gateway, config(up.base_url), workers=2)
        killed, kept = children(running.pid)
        os.kill(killed, number)
        await until(lambda: _is_replaced(running, {killed, kept}))
        (replacement,) = set(children(running.pid)) - {kept}
        await until(lambda: _is_executed(replacement))
        assert re.search(rf"^worker [01] exited with -{int(number)}; restarting in 0\.2 s$", running.stderr, re.MULTILINE)
        os.kill(kept, signal.SIGKILL)
        await until(lambda: _answers_alone(running, replacement))


async def _is_replaced(running: RunningGateway, former: set[int]) -> bool:
    return has_new_workers(running, former, 1)


async def _is_executed(pid: int) -> bool:
    """Return whether a process has left the program of its parent: a process that is started by exec is a copy for a moment."""
    return not is_forked(pid)


async def _answers_alone(running: RunningGateway, pid: int) -> bool:
    return pid in children(running.pid) and await is_answering(port(running))


async def test_hooks_of_others_run_in_workers_that_are_not_forked(gateway: Start, tmp_path: Path) -> None:
    (tmp_path / "rules_of_a_team.py").write_text(HOOK)
    async with FaultUpstream() as up:
        yaml = config(up.base_url, "hooks:\n  - use: rules_of_a_team:Mine\n")
        running = await start_ready(gateway, yaml, workers=2, env={"PYTHONPATH": str(tmp_path)})
        await until(lambda: _answers_alone(running, children(running.pid)[0]))
        assert [is_forked(pid) for pid in children(running.pid)] == [False, False]
