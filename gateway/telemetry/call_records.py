"""The call records of one process: log lines, kept in a file or in Redis for queries of past calls.

A thread writes the lines, in batches. Lines that cannot be written to the file, and waiting lines beyond MAX_LINES, are
dropped and counted. A full disk, a locked file or a dead Redis therefore never delays a call.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.config.state_folder import state_folder
from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.store.errors import StoreUnavailableError
from gateway.store.limit import LimitStatus
from gateway.store.limit_state import MAX_STATES, encoded_state
from gateway.store.responses import Bounds
from gateway.telemetry.call_content import CallContent
from gateway.telemetry.record_file import FILE_NAME, RecordFile
from gateway.telemetry.record_stream import RecordStream

MAX_LINES = 10_000
WRITE_INTERVAL_S = 0.5
RETRY_INTERVAL_S = 1.0
MAX_WAITING_CONTENT_BYTES = 64 << 20
_Line = bytes | tuple[bytes, Sequence[LimitStatus]]
"""A log line, or a line with the states of the limits that admitted the call."""
_Work = tuple[list[_Line], "list[CallContent]", Callable[[], object]]


def records_path(config: Config, environ: Mapping[str, str]) -> Path | None:
    """Return the file of the call records, or None if calls are not recorded."""
    folder = state_folder(config, environ)
    return folder / FILE_NAME if folder is not None and config.calls.max_bytes else None


class Recorder(Protocol):
    """The file or the stream that records are written to. Only one thread uses it."""

    @property
    def waits(self) -> bool:
        """Whether lines of earlier calls to `append` wait to be written."""

    @property
    def drops(self) -> int:
        """Number of waiting lines that were dropped."""

    def append(self, lines: Iterable[bytes], now: float, contents: Sequence[CallContent] = ()) -> None:
        """Add lines and the contents of calls.

        Raise OSError, sqlite3.Error, MsgspecError or StoreUnavailableError if they cannot be added.
        """

    def close(self) -> None:
        """Release the file or the connection."""


def content_bounds(config: Config) -> Bounds:
    """Return the limits on the captured contents of calls."""
    return Bounds(config.calls.content_ttl, config.calls.content_max_bytes)


def recorder_of(config: Config, environ: Mapping[str, str]) -> Recorder | None:
    """Return the recorder of a configuration, or None if calls are not recorded."""
    kept = config.calls
    if kept.store == "redis":
        return RecordStream(store_address(config), kept.ttl, kept.max_bytes, content_bounds(config)) if kept.max_bytes else None
    path = records_path(config, environ)
    return RecordFile(path, kept.ttl, kept.max_bytes, content_bounds(config)) if path is not None else None


class CallRecords:
    """Collects lines on the event loop and writes them in a thread."""

    def __init__(self, recorder: Recorder, report: Callable[[str], None]) -> None:
        """Create the records; the first line starts the thread.

        `report` receives one line when records cannot be written and one when they are written again.
        """
        self._recorder = recorder
        self._report = report
        self._lines: list[_Line] = []
        self._contents: list[CallContent] = []
        self._content_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._writing = False
        self._failing = False
        self._dropped = 0
        self._unwritten = 0

    @property
    def drops(self) -> int:
        """Number of lines that were dropped, plus the number of contents that were dropped without their lines."""
        return self._dropped + self._unwritten + self._recorder.drops

    def add(self, line: bytes, content: CallContent | None = None, limits: Sequence[LimitStatus] = ()) -> None:
        """Queue a log line, the content of the call, and the states of the limits that admitted it.

        Drop and count what exceeds MAX_LINES or MAX_WAITING_CONTENT_BYTES.
        """
        if len(self._lines) >= MAX_LINES:
            self._dropped += 1
            return
        self._lines.append((line, limits) if limits else line)
        if content is not None:
            if self._content_bytes + content.size > MAX_WAITING_CONTENT_BYTES:
                self._dropped += 1
            else:
                self._contents.append(content)
                self._content_bytes += content.size
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_INTERVAL_S, self._on_timer)

    async def flush(self) -> None:
        """Wait until the thread has tried to write the lines that were added before."""
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
        self._work.put((self._lines, self._contents, when_written))
        self._lines, self._contents, self._content_bytes = [], [], 0

    def _write_queued(self) -> None:
        """Write queued lines until None is queued. This method runs in the thread."""
        while (item := self._next_work()) is not None:
            lines, contents, when_written = item
            if lines or self._recorder.waits:
                self._write(lines, contents)
            self._writing = False
            when_written()
        self._recorder.close()

    def _next_work(self) -> _Work | None:
        """Return the next work. If earlier lines wait to be written, return empty work if none arrives within RETRY_INTERVAL_S."""
        try:
            return self._work.get(timeout=RETRY_INTERVAL_S if self._recorder.waits else None)
        except queue.Empty:
            return [], [], _do_nothing

    def _write(self, lines: Sequence[_Line], contents: list[CallContent]) -> None:
        whole = (line if isinstance(line, bytes) else _with_limits(*line) for line in lines)  # a few at a time are in the processor's cache
        try:
            self._recorder.append(whole, time.time(), contents)
        except (OSError, sqlite3.Error, msgspec.MsgspecError, StoreUnavailableError) as error:
            self._unwritten += 0 if self._recorder.waits else len(lines)
            if not self._failing:
                what = "records of calls wait" if self._recorder.waits else "calls are not recorded"
                self._report(f"calls: {error}: {what} until this is repaired")
            self._failing = True
            return
        if self._failing:
            self._report("calls: calls are recorded again")
        self._failing = False

    async def stop(self, timeout_s: float = 1.0) -> None:
        """Write the remaining lines. Wait at most `timeout_s` until they are written, without blocking the event loop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            self._start_writing(_do_nothing)
        if self._writer is not None:
            self._work.put(None)
            await asyncio.to_thread(self._writer.join, timeout_s)
            self._writer = None


def _with_limits(line: bytes, limits: Sequence[LimitStatus]) -> bytes:
    """Return a log line with the states of the limits that admitted the call; the log itself leaves these states out."""
    states = ",".join([encoded_state(status) for status in limits[:MAX_STATES]])
    return line[:-2] + f',"limits":[{states}]}}\n'.encode()


def _do_nothing() -> None:
    """Serve as the callback of a write that no caller waits for."""
