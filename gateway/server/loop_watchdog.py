"""Notices when the event loop stands still and says where, from a thread of its own: everything else runs on that loop."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

MAX_BLOCK_S = 1.0
"""Seconds of standstill that are told."""
MAX_FRAMES = 6


class LoopWatchdog:
    """One loop's beat, and who listens for it. Each standstill is told once, with the innermost places of the loop's thread."""

    def __init__(self, report: Callable[[str], None], *, max_block_s: float = MAX_BLOCK_S) -> None:
        self._report = report
        self._max_block_s = max_block_s
        self._beat_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._ended = threading.Event()
        self._watched = threading.get_ident()

    def start(self) -> None:
        """Begin, on the loop that is watched."""
        self._watched = threading.get_ident()
        self._beat()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """End; a standstill after it is nobody's business."""
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(self._max_block_s / 4, self._beat)

    def _watch(self) -> None:
        told = 0.0
        while not self._ended.wait(self._max_block_s / 4):
            last = self._beat_at
            silence = time.monotonic() - last
            if silence > self._max_block_s and last != told:
                told = last
                self._report(f"the event loop has stood still for {silence:.1f} s, in {self._stack()}")

    def _stack(self) -> str:
        """File, line and function of the innermost frames, outermost first; no values, as they might be a caller's."""
        frame = sys._current_frames().get(self._watched)
        found = traceback.extract_stack(frame)[-MAX_FRAMES:] if frame is not None else []
        return ", ".join(f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in found)
