"""A gateway serves although a standard stream is closed, and although its messages have no reader any more."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from gateway.server.standard_streams import flush_streams
from tests.flows.processes import UNUSED_STORE, children
from tests.server.test_start_signals import ROOT, held_port
from tests.support.plain_http import WITHOUT_AUTHORITIES

COUNTS = pytest.mark.parametrize("workers", [1, 2])
STREAMS = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-", "all": "<&- >&- 2>&-"}


class WithoutReader(io.StringIO):
    """A stream whose reader has closed it."""

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_stream_without_a_reader_does_not_keep_the_other_from_being_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = io.StringIO()
    monkeypatch.setattr(flushed, "flush", lambda: flushed.write("flushed"))
    monkeypatch.setattr(sys, "stdout", WithoutReader())
    monkeypatch.setattr(sys, "stderr", flushed)
    flush_streams()
    assert flushed.getvalue() == "flushed"


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
def test_a_gateway_serves_and_restarts_workers_although_its_messages_have_no_reader(tmp_path: Path, workers: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with serving(tmp_path, workers, stderr=writer) as (process, url):
            for pid in children(process.pid):
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda pid=pid: pid not in children(process.pid))
            wait_until(lambda: len(children(process.pid)) == (workers if workers > 1 else 0) and is_ready(url))
    finally:
        os.close(writer)
