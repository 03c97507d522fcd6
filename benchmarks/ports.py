"""Ports for the servers of benchmarks and tests that cannot choose a port themselves."""

from __future__ import annotations

import atexit
import contextlib
import secrets
import socket
from collections import deque
from pathlib import Path

LOWEST = 12_000
"""Lowest port. Well-known servers of a developer's machine listen below it."""
MAX_RESERVED = 200
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_reserved: deque[socket.socket] = deque()


def free_port() -> int:
    """Return a port of 127.0.0.1 on which no server listens.

    Between the choice of a port and its use, neither a connection nor a server with port 0 takes it, because the system gives them
    ephemeral ports, and this port is none. Nor does this function return it again, in any process, while a UDP socket reserves it.
    """
    while True:
        port = LOWEST + secrets.randbelow(_first_ephemeral() - LOWEST)
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _reserved.append(reservation)
        if len(_reserved) > MAX_RESERVED:
            _reserved.popleft().close()
        return port


def _first_ephemeral() -> int:
    """Return the first ephemeral port, or the usual one if the system does not tell it or leaves too few other ports."""
    with contextlib.suppress(OSError, ValueError):
        first = int(_EPHEMERAL.read_text().split()[0])
        if first >= LOWEST + 1000:
            return first
    return 32_768


@atexit.register
def _close() -> None:
    while _reserved:
        _reserved.pop().close()
