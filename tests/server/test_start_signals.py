"""The start of a process: a signal that arrives during the imports, or as soon as the port is open."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """Yield a port that the kernel gives to no other process, and that a process may listen on with SO_REUSEADDR."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        yield port


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """Return the ports of both listeners."""
    with held_port() as callers, held_port() as admin:
        yield callers, admin


FIRST_IMPORT = """
import os, runpy, signal, sys

class FirstImport:
    def find_spec(self, name, path=None, target=None):
        if name in ("click", "gateway.commands.cli"):
            os.write(1, signal.getsignal(signal.SIGHUP).name.encode())
            os._exit(0)

signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.meta_path.insert(0, FirstImport())
runpy.run_module("gateway", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(("args", "action"), [
    ([], "SIG_IGN"), (["serve", "--port", "0"], "SIG_IGN"), (["--port", "0"], "SIG_IGN"), (["top"], "SIG_DFL"), (["--help"], "SIG_DFL"),
])  # fmt: skip
def test_sighup_is_ignored_before_the_imports_of_a_server(args: list[str], action: str) -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_IMPORT, *args], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == action


def test_sighup_as_soon_as_the_port_is_open_does_not_end_the_process(tmp_path: Path, ports: tuple[int, int]) -> None:
    port, admin = ports
    path = tmp_path / "gateway.yaml"
    path.write_text(
        f"listen: 127.0.0.1:{port}\nadmin: 127.0.0.1:{admin}\njournal: 'off'\n"
        "providers: { up: { type: openai-compatible, base_url: 'http://127.0.0.1:9/v1' } }\nmodels: { m: up/mock }\n"
    )
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(path)]
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a child inherits an ignored signal, which would prove nothing
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    signal.signal(signal.SIGHUP, before)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
        for _ in range(20):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.01)
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError, urllib.error.URLError):
                with urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=5) as answer:
                    assert answer.status == 200
                break
            time.sleep(0.05)
    finally:
        process.terminate()
        assert process.wait(30) == 0
