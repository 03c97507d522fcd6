"""Workers that the supervisor forks from itself, so that all these processes share the memory of the imported modules.

A process can be forked safely only while it has one thread, no event loop and no engine. The workers are therefore forked before
the supervisor starts its own, and each waits for its order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable

from gateway.config.load import Config
from gateway.server.gc_tuning import freeze_before_fork
from gateway.server.standard_streams import flush_streams
from providers import is_built_in


class ForkedWorker:
    """A forked worker, as its supervisor sees it."""

    def __init__(self, pid: int, orders: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._orders = orders
        self._descriptor = os.pidfd_open(pid)

    async def send(self, order: bytes) -> None:
        """Send the order and let the worker start. Return also if the worker has already ended."""
        self._orders.setblocking(False)
        with self._orders, contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self._orders, order)

    async def wait(self) -> int:
        """Wait until the worker ends. Return its exit code, or the negative number of the signal that ended it."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._descriptor)
        return self._reap()

    def send_signal(self, number: int) -> None:
        """Send a signal. Raise ProcessLookupError if the worker has ended."""
        if self.returncode is not None:  # another process may have this process id now
            raise ProcessLookupError
        os.kill(self.pid, number)

    def dismiss(self) -> None:
        """End a worker that has no order, and wait until it has ended."""
        self._orders.close()
        self.send_signal(signal.SIGKILL)
        self._reap()

    def forget(self) -> None:
        """Close the descriptors of another worker in a process that has just been forked."""
        self._orders.close()
        os.close(self._descriptor)

    def _reap(self) -> int:
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._descriptor)
        return self.returncode


def can_fork(config: Config) -> bool:
    """Return whether this process can be forked safely: it has one thread, and no code of others, which may have opened connections."""
    is_ours = all(is_built_in(provider.type) for provider in config.providers.values()) and not any(hook.use for hook in config.hooks)
    return sys.platform == "linux" and is_ours and thread_count() == 1 and _has_process_descriptors()


def thread_count() -> int:
    """Return the number of threads of this process, including those that libraries have started."""
    return len(os.listdir("/proc/self/task"))


def _has_process_descriptors() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def fork_workers(count: int, run: Callable[[bytes], int]) -> list[ForkedWorker]:
    """Fork processes that call `run` with their order and exit with its result. They exit at once if this process ends before.

    Return fewer workers than `count` if the system allows no more processes or open files.
    """
    freeze_before_fork()
    flush_streams()
    workers: list[ForkedWorker] = []
    for _ in range(count):
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            break
        with theirs:
            pid = _fork()
            if pid == 0:  # not in a `try` of its parent, which would catch the errors of the worker
                ours.close()
                for other in workers:
                    other.forget()
                sys.exit(_run(theirs, run))
        worker = _watch(pid, ours)
        if worker is None:
            break
        workers.append(worker)
    return workers


def _fork() -> int:
    """Fork. Return -1 if the system refuses."""
    try:
        return os.fork()
    except OSError:
        return -1


def _watch(pid: int, orders: socket.socket) -> ForkedWorker | None:
    """Return a worker that has been forked; None, and leave no process, if that failed or its end cannot be noticed."""
    if pid > 0:
        with contextlib.suppress(OSError):
            return ForkedWorker(pid, orders)
    orders.close()
    if pid > 0:
        os.waitpid(pid, 0)  # it exits, because it gets no order
    return None


def _run(orders: socket.socket, run: Callable[[bytes], int]) -> int:
    os.setsid()  # Ctrl-C must reach only the supervisor, which lets calls finish
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    with orders, orders.makefile("rb") as file:
        order = file.read()
    return run(order) if order else 0
