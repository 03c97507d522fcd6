"""Signals of a process: SIGTERM and SIGINT stop it, SIGHUP reloads its configuration."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from types import FrameType

from gateway.runtime.reload import Outcome, Reloader

_reloads: set[asyncio.Task[Outcome]] = set()
"""Keeps the tasks alive: the event loop holds only weak references to them."""


def handle_signals(on_stop: Callable[[], None], on_reload: Callable[[], None]) -> Callable[[], None]:
    """Call `on_stop` on SIGTERM and SIGINT, `on_reload` on SIGHUP. Return a function that ignores these signals from then on.

    Call that function last: after a clean shutdown, a further signal must not end the process with an error status.
    """
    # loop.add_signal_handler is not used: removing such a handler restores the default action for a moment, and a signal in that
    # moment kills the process. signal.signal replaces a handler at once.
    loop = asyncio.get_running_loop()
    callbacks = {signal.SIGTERM: on_stop, signal.SIGINT: on_stop, signal.SIGHUP: on_reload}

    def schedule(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(callbacks[signal.Signals(number)])

    def ignore() -> None:
        for number in callbacks:
            signal.signal(number, signal.SIG_IGN)

    for number in callbacks:
        signal.signal(number, schedule)
    return ignore


def request_reload(reloader: Reloader) -> None:
    """Reread the configuration file: on SIGHUP, or when an upstream refused a credential that may have been replaced."""
    task = asyncio.get_running_loop().create_task(reloader.reload())
    _reloads.add(task)
    task.add_done_callback(_reloads.discard)
