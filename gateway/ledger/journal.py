"""The journal: writes booked usage to disk within about 50 ms, and inherits the journals of ended processes.

A thread writes the bookings that the event loop has collected (group commit: one fsync for all of them). A full or
missing disk never makes a call fail: failed writes are counted as errors, and the whole journal is written again once
the disk is writable.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.ledger import journal_files, records
from gateway.ledger.counters import UsageCounters
from gateway.ledger.records import CallProgress, Numbering
from gateway.store import locked_file
from gateway.store.settled_spend import SettledSpend
from gateway.store.window_usage import WindowUsage

COMMIT_DELAY_S = 0.03
"""Time for which bookings are collected before a write. With the write, a booking is on disk after about 50 ms."""
RETRY_DELAY_S = 1.0
MAX_FILE_BYTES = 8 << 20
"""The journal is rewritten if its file is larger than this and more than four times as large as after the last rewrite."""
CLOSE_TIMEOUT_S = 2.0


class Journal:
    """The journal of one process.

    All state belongs to the event loop, except the open file: only the writer thread, which receives bytes, uses it.
    """

    def __init__(
        self,
        folder: Path,
        counters: UsageCounters,
        settled_spend: SettledSpend,
        window_usage: WindowUsage,
        report: Callable[[str], None],
        *,
        max_file_bytes: int = MAX_FILE_BYTES,
        retry_delay_s: float = RETRY_DELAY_S,
    ) -> None:
        """Create a journal; `open` starts it.

        `report` receives one line when writes begin to fail and one when they succeed again. Failed writes are retried
        after `retry_delay_s`.
        """
        self._max_file_bytes = max_file_bytes
        self._retry_delay_s = retry_delay_s
        self._folder = folder
        self._path = folder / f"{counters.incarnation}{journal_files.JOURNAL_SUFFIX}"
        self._counters = counters
        self._settled_spend = settled_spend
        self._window_usage = window_usage
        self._report = report
        self._numbering = Numbering()
        self._descriptor = -1
        self._size = self._snapshot_size = 0
        self._rewrite_due = True
        self._in_flight: tuple[CallProgress, ...] = ()
        self._recorded_ids: set[str] = set()
        self._ended_ids: list[str] = []
        self._progress_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._writing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writes: queue.SimpleQueue[tuple[bytes, bool] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failing = False
        self.errors = 0
        """Number of failed writes."""

    def open(self) -> None:
        """Inherit the journals of ended processes, then start a new file. Raise OSError if the file cannot be written."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        abandoned = list(journal_files.abandoned_journals(self._folder))
        try:
            for journal in abandoned:
                self._inherit(records.read_journal(journal.read()))
            data = self._snapshot()
            self._descriptor = locked_file.replace_file(self._path, data)
            self._size = self._snapshot_size = len(data)
            self._rewrite_due = False
            for journal in abandoned:
                journal.remove()
        finally:
            for journal in abandoned:
                journal.close()
        journal_files.remove_stray_files(self._folder)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run_writer, name="journal", daemon=True)
        self._thread.start()

    def _inherit(self, contents: records.JournalContents) -> None:
        for (incarnation, row), counts in contents.rows.items():
            self._counters.merge_copy(incarnation, row, counts)
        for entry in contents.spend_entries():
            self._settled_spend.merge(entry)
        for window in contents.window_entries():
            self._window_usage.merge(window)

    def schedule_commit(self) -> None:
        """Schedule a write of the changes."""
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(self._retry_delay_s if self._failing else COMMIT_DELAY_S, self._commit)

    def call_ended(self, id: str) -> None:
        """Record that the usage of a call is booked, so that its recorded progress no longer counts."""
        if id in self._recorded_ids:
            self._ended_ids.append(id)
            self.schedule_commit()

    def record_progress(self, calls: Sequence[CallProgress]) -> None:
        """Record the usage of all calls in flight, as far as it is known."""
        if calls or self._recorded_ids:
            self._in_flight = tuple(calls)
            self._recorded_ids = {call.id for call in calls}
            self._ended_ids.clear()
            self._progress_due = True
            self.schedule_commit()

    def close(self) -> None:
        """Write the remaining changes. Wait at most CLOSE_TIMEOUT_S for the disk."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._thread is None:
            return
        if self._has_changes():
            self._writes.put((self._snapshot(), True) if self._rewrite_due else (self._changes(), False))
        self._writes.put(None)
        self._thread.join(CLOSE_TIMEOUT_S)
        self._thread = None
        self._loop = None

    def _has_changes(self) -> bool:
        changed = self._counters.unjournaled or self._settled_spend.unjournaled or self._window_usage.unjournaled
        return bool(changed or self._ended_ids or self._progress_due)

    def _commit(self) -> None:
        self._timer = None
        if self._writing:
            return  # _on_written schedules the next commit
        if not self._has_changes():
            return
        if self._size > max(self._max_file_bytes, 4 * self._snapshot_size):
            self._rewrite_due = True
        is_snapshot = self._rewrite_due
        data = self._snapshot() if is_snapshot else self._changes()
        self._writing = True
        self._writes.put((data, is_snapshot))

    def _snapshot(self) -> bytes:
        """Return the complete content of a new file."""
        self._numbering = Numbering()
        lines: list[bytes] = []
        records.write_totals(self._numbering, self._counters.all_copies(), self._settled_spend.all_entries(), (), lines)
        records.write_windows(self._numbering, self._window_usage.all_entries(), lines)
        in_flight = [call for call in self._in_flight if call.id not in self._ended_ids]
        if in_flight:
            records.write_progress(self._numbering, self._counters.incarnation, in_flight, lines)
        self._mark_journaled()
        return _joined(lines)

    def _changes(self) -> bytes:
        """Return the lines to append: the changes since the last commit."""
        lines: list[bytes] = []
        counters, spent = self._counters, self._settled_spend
        if self._progress_due:
            records.write_progress(self._numbering, counters.incarnation, self._in_flight, lines)
        if counters.unjournaled or spent.unjournaled or self._ended_ids:
            rows = [(counters.incarnation, row, counters.own_counts(row)) for row in counters.unjournaled]
            records.write_totals(self._numbering, rows, [spent.own_entry(period) for period in spent.unjournaled], self._ended_ids, lines)
        windows = self._window_usage
        records.write_windows(self._numbering, (windows.own_entry(*changed) for changed in windows.unjournaled), lines)
        self._mark_journaled()
        return _joined(lines)

    def _mark_journaled(self) -> None:
        self._counters.unjournaled.clear()
        self._settled_spend.unjournaled.clear()
        self._window_usage.unjournaled.clear()
        self._recorded_ids.difference_update(self._ended_ids)
        self._in_flight = tuple(call for call in self._in_flight if call.id in self._recorded_ids)
        self._ended_ids.clear()
        self._progress_due = False

    def _run_writer(self) -> None:
        """Run the writer thread until it receives None."""
        while (write := self._writes.get()) is not None:
            error = ""
            try:
                self._write(*write)
            except OSError as failed:
                error = failed.strerror or str(failed)
            loop = self._loop
            if loop is not None and not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(self._on_written, len(write[0]), write[1], error)
                except RuntimeError:
                    return  # the event loop has just been closed
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, data: bytes, is_snapshot: bool) -> None:
        if not is_snapshot:
            locked_file.append_and_sync(self._descriptor, data)
            return
        descriptor = locked_file.replace_file(self._path, data)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor

    def _on_written(self, size: int, is_snapshot: bool, error: str) -> None:
        self._writing = False
        if error:
            self.errors += 1
            self._rewrite_due = True  # replaces any partial line that the failed write left
            if not self._failing:
                self._report(f"journal: {self._folder} is not writable ({error}): usage is kept in memory")
            self._failing = True
            self._progress_due = True
            self.schedule_commit()
            return
        if self._failing:
            self._report(f"journal: {self._folder} is writable again")
        self._failing = False
        self._size = size if is_snapshot else self._size + size
        if is_snapshot:
            self._snapshot_size = size
            self._rewrite_due = False
        if self._has_changes():
            self.schedule_commit()


def _joined(lines: list[bytes]) -> bytes:
    return b"\n".join(lines) + b"\n" if lines else b""
