"""Ports for servers that cannot choose one themselves."""

from __future__ import annotations

import socket
import subprocess
import sys

from benchmarks import ports
from benchmarks.ports import MAX_RESERVED, free_port


def test_no_two_processes_get_the_same_port_and_the_system_gives_it_to_no_other() -> None:
    program = f"from benchmarks.ports import free_port\nprint(*[free_port() for _ in range({MAX_RESERVED})], flush=True)\ninput()"
    command = [sys.executable, "-c", program]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    chosen = []
    for process in processes:
        assert process.stdout is not None
        chosen += [int(port) for port in process.stdout.readline().split()]
    for process in processes:
        process.communicate("\n")
        assert process.returncode == 0
    assert len(set(chosen)) == len(chosen) == 3 * MAX_RESERVED
    assert max(chosen) < ports._first_ephemeral()


def test_a_port_can_be_used_and_one_in_use_is_never_returned() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert port not in {free_port() for _ in range(MAX_RESERVED)}
