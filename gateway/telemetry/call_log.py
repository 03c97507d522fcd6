"""The call log: one line per call, as JSON or as a short line for a terminal.

A thread writes the lines, so a full pipe or a slow disk never blocks a call. Lines that exceed the buffer are dropped
and counted. Log lines contain no prompts, answers or secrets.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.call import Call
from gateway.store.limit import LimitStatus
from gateway.telemetry.call_content import content_of
from gateway.telemetry.line_writer import LineWriter
from gateway.telemetry.log_record import human_line, json_line

if TYPE_CHECKING:
    from gateway.telemetry.call_records import CallRecords

MAX_LINES = 10_000
FLUSH_INTERVAL_S = 0.1


class CallLog:
    """Collects lines on the event loop and writes them in a thread, after at most `flush_interval_s`."""

    def __init__(self, descriptor: int, *, human: bool, flush_interval_s: float = FLUSH_INTERVAL_S) -> None:
        self._output = LineWriter(descriptor)
        self._human = human
        self._flush_interval_s = flush_interval_s
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._work: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._writing = False
        self._dropped = 0
        self.records: CallRecords | None = None
        """Keeps the lines for queries of past calls, if calls are recorded."""

    @property
    def drops(self) -> int:
        """Number of lines dropped, because their reader was too slow or because they could not be written."""
        return self._dropped + self._output.dropped

    def add(self, call: Call, ended: float) -> None:
        """Queue the log line of a finished call, and also record it if calls are recorded."""
        if self.records is None and self._human:
            self.write(human_line(call, ended))
            return
        line = json_line(call, ended)
        if self.records is not None:
            self.records.add(line, content_of(call), _limits_of(call))
        self.write(human_line(call, ended) if self._human else line)

    def write(self, line: bytes) -> None:
        """Queue a line. Drop and count it if MAX_LINES lines are waiting."""
        if len(self._lines) >= MAX_LINES:
            self._dropped += 1
            return
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._flush_interval_s, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._writing:
            self._timer = asyncio.get_running_loop().call_later(self._flush_interval_s, self._flush)
            return
        self._start_writing()

    def _start_writing(self) -> None:
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_queued, name="log", daemon=True)
            self._writer.start()
        self._writing = True
        self._work.put(b"".join(self._lines))
        self._lines.clear()

    def _write_queued(self) -> None:
        """Write queued data until None is queued. This method runs in the thread."""
        while (data := self._work.get()) is not None:
            self._output.write(data)
            self._writing = False

    def close(self, timeout_s: float = 1.0) -> None:
        """Write the remaining lines. Wait at most `timeout_s` until they are written."""
        if self._timer is not None:
            self._timer.cancel()
        if self._lines:
            self._start_writing()
        if self._writer is not None:
            self._work.put(None)
            self._writer.join(timeout_s)
            self._writer = None


def _limits_of(call: Call) -> Sequence[LimitStatus]:
    """Return the states of the limits that admitted a call. The line of a refused call already contains the states of its limits."""
    return call.reservation.statuses if call.reservation is not None and call.error is None else ()


def internal_error(id: str, error: Exception) -> bytes:
    """Return a log line with type and location of an internal error, without its message, which may quote a prompt."""
    frames = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-4:]]
    return msgspec.json.encode({"level": "error", "id": id, "error": type(error).__name__, "at": frames}) + b"\n"
