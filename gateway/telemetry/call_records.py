"""The call records of one process: log lines, kept in a file for queries of past calls.

A thread writes the lines, in batches. Lines that cannot be written, and lines beyond MAX_LINES that wait, are dropped and
counted: a full disk or a locked file never delays a call.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from gateway.config.state_folder import state_folder
from gateway.config.types import Config
from gateway.telemetry.record_file import FILE_NAME, RecordFile

MAX_LINES = 10_000
WRITE_INTERVAL_S = 0.5


def records_path(config: Config, environ: Mapping[str, str]) -> Path | None:
    """Return the file of the call records, or None if calls are not recorded."""
    folder = state_folder(config, environ)
    return folder / FILE_NAME if folder is not None and config.calls.max_bytes else None


class CallRecords:
    """Collects lines on the event loop and writes them in a thread."""

    def __init__(self, file: RecordFile, report: Callable[[str], None]) -> None:
        """Create the records; the first line starts the thread.

        `report` receives one line when records cannot be written and one when they are written again.
        """
        self._file = file
        self._report = report
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._work: queue.SimpleQueue[tuple[list[bytes], Callable[[], object]] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._writing = False
        self._failing = False
        self._dropped = 0
        self._unwritten = 0

    @property
    def drops(self) -> int:
        """Number of calls that were not recorded."""
        return self._dropped + self._unwritten

    def add(self, line: bytes) -> None:
        """Queue a log line. Drop and count it if MAX_LINES lines are waiting."""
        if len(self._lines) >= MAX_LINES:
            self._dropped += 1
            return
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_INTERVAL_S, self._on_timer)

    async def flush(self) -> None:
        """Wait until the lines that were added before are written or dropped."""
        written, loop = asyncio.Event(), asyncio.get_running_loop()
        self._start_writing(lambda: loop.call_soon_threadsafe(written.set))
        await written.wait()

    def _on_timer(self) -> None:
        self._timer = None
        if self._writing:
            self._timer = asyncio.get_running_loop().call_later(WRITE_INTERVAL_S, self._on_timer)
        else:
            self._start_writing(_do_nothing)

    def _start_writing(self, when_written: Callable[[], object]) -> None:
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_queued, name="call records", daemon=True)
            self._writer.start()
        self._writing = True
        self._work.put((self._lines, when_written))
        self._lines = []

    def _write_queued(self) -> None:
        """Write queued lines until None is queued. This runs in the thread."""
        while (item := self._work.get()) is not None:
            lines, when_written = item
            if lines:
                self._write(lines)
            self._writing = False
            when_written()
        self._file.close()

    def _write(self, lines: list[bytes]) -> None:
        try:
            self._file.append(lines, time.time())
        except (OSError, sqlite3.Error, msgspec.MsgspecError) as error:
            self._unwritten += len(lines)
            if not self._failing:
                self._report(f"calls: {error}: calls are not recorded until this is repaired")
            self._failing = True
            return
        if self._failing:
            self._report("calls: calls are recorded again")
        self._failing = False

    def close(self, timeout_s: float = 1.0) -> None:
        """Write the remaining lines. Wait at most `timeout_s` until they are written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            self._start_writing(_do_nothing)
        if self._writer is not None:
            self._work.put(None)
            self._writer.join(timeout_s)
            self._writer = None


def _do_nothing() -> None:
    """Serve as the callback of a write that no caller waits for."""
