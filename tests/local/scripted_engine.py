"""An engine library that follows a script, for failures that the real engine cannot be made to show.

A test copies this file beside its child as `xllamacpp.py`. LC_ENGINE selects the fault of the library: refuse, large, grow, mute or spin.
The process, its memory, its socket and its signals are real.
"""

from __future__ import annotations

import os
import socketserver
import threading
import time
from types import SimpleNamespace
from typing import Any

llama_pooling_type = int
script = os.environ.get("LC_ENGINE", "")


class CommonParams(SimpleNamespace):
    """Accepts any parameter."""

    def __init__(self) -> None:
        super().__init__(model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace())


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.rfile.readline()
        while script == "mute" or script == "spin":
            time.sleep(0.05)
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")


class _Listener(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class Server:
    """Listens, and follows the script."""

    def __init__(self, params: Any) -> None:
        if script == "refuse":
            raise RuntimeError("Failed to init server")
        self.held = [_filled(400)] if script == "large" else []
        self.listener = _Listener(params.hostnames[0], _Answer)
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self) -> None:
        """After a while, grow or compute without end if the script requires it."""
        time.sleep(0.3)
        if script == "grow":
            self.held.append(_filled(400))
        while script == "spin":
            sum(range(100_000))


def _filled(mebibytes: int) -> bytes:
    """Return memory that is really resident."""
    return b"\1" * (mebibytes << 20)
