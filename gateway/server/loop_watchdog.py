"""Reports a blocked event loop and the code that blocks it, from a separate thread."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

MAX_BLOCK_S = 1.0
"""Time in seconds after which a blocked event loop is reported."""
MAX_FRAMES = 6


class LoopWatchdog:
    """Watches one event loop. Each blockage is reported once, with the innermost frames of the loop's thread."""

    def __init__(self, report: Callable[[str], None], *, max_block_s: float = MAX_BLOCK_S) -> None:
        self._report = report
        self._max_block_s = max_block_s
        self._beat_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._watched = threading.get_ident()

    def start(self) -> None:
        """Start watching. Call this on the loop."""
        self._watched = threading.get_ident()
        self._beat()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop the watchdog."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(self._max_block_s / 4, self._beat)

    def _watch(self) -> None:
        reported = 0.0
        while not self._stopped.wait(self._max_block_s / 4):
            last = self._beat_at
            blocked_s = time.monotonic() - last
            if blocked_s > self._max_block_s and last != reported:
                reported = last
                self._report(f"event loop blocked for {blocked_s:.1f} s at {self._stack()}")

    def _stack(self) -> str:
        """Return file, line and function of the innermost frames, outermost first.

        Values are omitted, because they may be a caller's data.
        """
        frame = sys._current_frames().get(self._watched)
        frames = traceback.extract_stack(frame)[-MAX_FRAMES:] if frame is not None else []
        return ", ".join(f"{Path(entry.filename).name}:{entry.lineno} {entry.name}" for entry in frames)
