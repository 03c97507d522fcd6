"""Runs the steps of many calls stage by stage, because a processor runs a stage faster if it has just run it for another call.

A call takes several hundred functions from its request to the end of its answer. Their code and their data do not fit into the caches
of a core. If several calls wait, running a stage for all of them before the next stage takes less time than running one call after another.

    START      a request is complete: it is read, checked and routed, and the decision on its limits is requested
    ADAPT      the call is admitted: its request is adapted and sent
    READ       a response has arrived: it is read, and the answer is sent to the caller
    ACCOUNT    the answer has been sent: the call is accounted for

A round runs in the iteration of the event loop that follows the one in which its first step was added, so no step waits for a timer.
Each step runs at once while there are few calls, and while the processor is idle for a good part of the time: then the time of the
processor is not scarce, and calls whose steps run together would stay together, each of them waiting for the others.

A round begins with the steps of ACCOUNT that wait, and runs all of them: the next call of a caller that has its answer must find that
the answered call no longer takes a slot, a reservation or the connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic, thread_time

START, ADAPT, READ, ACCOUNT = STAGES = range(4)
FEW_CALLS = 3
"""Number of calls in flight up to which steps run at once."""
MAX_STEPS = 64
"""Maximum number of steps of each stage but ACCOUNT in a round. The next round runs the others, so that the loop can serve sockets."""

BUSY_PART = 0.7
"""The part of the time for which the event loop's thread uses a processor, from which it is busy."""
STEPS_MEASURED = 64
MIN_MEASURED_S = 0.005
"""That part is measured over at least so many steps and seconds."""

Step = Callable[[], None]


class Rounds:
    """The steps of the calls of one process. A step must not raise an exception."""

    __slots__ = ("_is_scheduled", "_measured_at", "_queues", "_steps_left", "_used_s", "calls", "is_busy")

    def __init__(self) -> None:
        self.calls = 0
        """Number of calls in flight, which the code that begins and ends calls sets."""
        self._queues: tuple[deque[Step], ...] = tuple(deque() for _ in STAGES)
        self._is_scheduled = False
        self.is_busy = True
        """Whether steps wait for a round if there are more than a few calls."""
        self._steps_left = STEPS_MEASURED
        self._measured_at = monotonic()
        self._used_s = thread_time()

    def add(self, stage: int, step: Step) -> None:
        """Run a step: at once, in the round that runs now if it has not come to the stage, or in the next round."""
        self._steps_left -= 1
        if not self._steps_left:
            self._measure()
        if (self.calls <= FEW_CALLS or not self.is_busy) and not self._is_scheduled:
            step()
            return
        self._queues[stage].append(step)
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        try:
            for stage in (ACCOUNT, *STAGES):
                steps = self._queues[stage]
                for _ in range(len(steps) if stage == ACCOUNT else min(len(steps), MAX_STEPS)):
                    steps.popleft()()
        finally:
            self._is_scheduled = any(self._queues)
            if self._is_scheduled:
                asyncio.get_running_loop().call_soon(self._run)

    def _measure(self) -> None:
        """Find out whether the processor is busy."""
        self._steps_left = STEPS_MEASURED
        now, used_s = monotonic(), thread_time()
        elapsed_s = now - self._measured_at
        if elapsed_s >= MIN_MEASURED_S:
            self.is_busy = used_s - self._used_s >= BUSY_PART * elapsed_s
            self._measured_at, self._used_s = now, used_s
