"""Starts the call of a request. If the whole body arrives soon, the call starts with it and can be served without a task.

Many clients write head and body separately, so a short body arrives just after its head. The call waits for the body, for
at most MAX_WAIT_S. The deadlines of the call begin only after this wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.http.cycle import FastCall, RequestCycle
from gateway.http.rounds import START, Rounds
from gateway.http.upgrade import UpgradableConnection

MAX_WAIT_S = 0.02
MAX_AWAITED_BYTES = 64 << 10
"""Size of a body above which the call starts at once, because the body may have to be rejected before it is read."""
ServeFast = Callable[[RequestCycle], bool]
"""Serves a complete request without a task. Returns False if the request needs the application."""


class StartingConnection(UpgradableConnection):
    """A connection that starts calls: in `serve_fast` if that function serves the request, else in a task that runs the application."""

    __slots__ = ("_serve_fast", "_wait", "fast_call", "ready", "rounds")

    def __init__(self, *args: Any, serve_fast: ServeFast | None = None, rounds: Rounds | None = None, **kwargs: Any) -> None:
        """`rounds` runs `serve_fast` and the steps of the calls that it serves. All connections of a process share it."""
        super().__init__(*args, **kwargs)
        self._serve_fast = serve_fast
        self.rounds = rounds or Rounds()
        self.fast_call: FastCall | None = None
        """The call that is served without a task, if there is one."""
        self.ready: RequestCycle | None = None
        """The request whose head has arrived and whose call has not started."""
        self._wait: asyncio.TimerHandle | None = None

    def start_or_wait(self, cycle: RequestCycle, *, is_alone: bool) -> None:
        """Start the call of the request `ready` after data was parsed, or wait for the rest of the request body.

        `is_alone`: the request is valid, and no other request follows it.
        """
        if is_alone and self._serve_fast is not None and not (cycle.more_body or cycle.disconnected):
            if self._wait is not None:
                self._stop_waiting(self._wait)  # the start may wait for a round for longer than MAX_WAIT_S
            self.rounds.add(START, self._start_whole)
        elif is_alone and cycle.more_body and self._awaits_body(cycle):
            if self._wait is None:
                self._wait = asyncio.get_running_loop().call_later(MAX_WAIT_S, self.start_call)
        else:
            self.start_call()

    def start_call(self) -> None:
        """Start the call of the request `ready`, if it is set, in a task."""
        cycle = self._take_ready()
        if cycle is not None:
            cycle.start_task(self.app)

    def _start_whole(self) -> None:
        """Start the call of a complete request, unless a task has started it. The connection's next request may be incomplete."""
        cycle = self._take_ready() if self.ready is not None and not self.ready.more_body else None
        if cycle is not None and not (self._serve_fast is not None and self._serve_fast(cycle)):
            cycle.start_task(self.app)

    def _take_ready(self) -> RequestCycle | None:
        cycle, self.ready = self.ready, None
        if self._wait is not None:
            self._stop_waiting(self._wait)
        return cycle

    def _stop_waiting(self, wait: asyncio.TimerHandle) -> None:
        wait.cancel()
        self._wait = None

    def _awaits_body(self, cycle: RequestCycle) -> bool:
        if self._serve_fast is None or cycle.expects_continue or cycle.disconnected:
            return False
        size = next((value for name, value in cycle.scope["headers"] if name == b"content-length"), b"")
        return size.isdigit() and len(size) < 6 and int(size) <= MAX_AWAITED_BYTES
