"""A gateway serves although a standard stream is closed, and although its messages are no longer read."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from gateway.server.standard_streams import flush_streams
from tests.flows.processes import UNUSED_STORE, children
from tests.server.test_start_signals import ROOT, held_port
from tests.support.plain_http import WITHOUT_AUTHORITIES

COUNTS = pytest.mark.parametrize("workers", [1, 2])
STREAMS = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-", "all": "<&- >&- 2>&-"}


@contextlib.contextmanager
def serving(
    folder: Path, workers: int, redirections: str = "", stderr: int = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start a gateway in a shell with these redirections. Yield its process and the URL of its admin listener once it is ready."""
    with held_port() as port, held_port() as admin:
        path = folder / "gateway.yaml"
        path.write_text(
            f"{UNUSED_STORE}listen: 127.0.0.1:{port}\nadmin: 127.0.0.1:{admin}\njournal: 'off'\n"
            "providers: { up: { type: openai-compatible, base_url: 'http://127.0.0.1:9/v1' } }\nmodels: { m: up/mock }\n"
        )
        gateway = [sys.executable, "-m", "gateway", "serve", "--config", str(path), "--workers", str(workers)]
        command = ["sh", "-c", f'exec "$@" {redirections}', "sh", *gateway]
        url = f"http://127.0.0.1:{admin}"
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr) as process:
            try:
                wait_until(lambda: is_ready(url) or process.poll() is not None)
                assert process.poll() is None
                yield process, url
            finally:
                process.terminate()
                code = process.wait(60)
    assert code == 0


def is_gone(supervisor: int, pid: int) -> bool:
    """Return whether a process is no longer a child of its supervisor."""
    return pid not in children(supervisor)


def is_ready(url: str) -> bool:
    """Return whether the gateway is ready to serve."""
    try:
        return httpx.get(f"{url}/readyz", verify=WITHOUT_AUTHORITIES, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(condition: Callable[[], bool], within: float = 60.0) -> None:
    """Wait until the condition holds. Fail after `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@COUNTS
@pytest.mark.parametrize("redirections", STREAMS.values(), ids=STREAMS)
def test_a_gateway_serves_without_standard_streams_and_gives_their_numbers_to_no_socket(
    tmp_path: Path, workers: int, redirections: str
) -> None:
    with serving(tmp_path, workers, redirections) as (process, _):
        for pid in (process.pid, *children(process.pid)):
            assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}


@COUNTS
def test_a_gateway_serves_and_restarts_workers_although_its_messages_are_not_read(tmp_path: Path, workers: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with serving(tmp_path, workers, stderr=writer) as (process, url):
            for pid in children(process.pid):
                os.kill(pid, signal.SIGKILL)
                wait_until(partial(is_gone, process.pid, pid))
            wait_until(lambda: len(children(process.pid)) == (workers if workers > 1 else 0) and is_ready(url))
    finally:
        os.close(writer)


class Unread(io.StringIO):
    """A stream whose reader has gone."""

    flushed = 0

    def flush(self) -> None:
        """Raise the error that the system reports."""
        self.flushed += 1
        raise BrokenPipeError


def test_both_streams_are_flushed_although_they_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Unread(), Unread()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    flush_streams()
    assert (out.flushed, err.flushed) == (1, 1)
