"""The journal: what this process booked, on disk within 50 ms, and what processes before it left there.

A thread writes what the event loop collected (group commit: one fsync for all). A disk that is full or gone never stops a call: what
could not be written stays marked, is counted as an error, and goes out whole once there is room again.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.ledger import journal_files, records
from gateway.ledger.counters import Counters
from gateway.ledger.records import Numbering, Progress
from gateway.store import locked_file
from gateway.store.settled_spend import SettledSpend

COMMIT = 0.03
"""Seconds that bookings wait for company; with the writing itself about 50 ms."""
RETRY = 1.0
GROWS_TO = 8 << 20
"""Bytes after which the file is written anew, when that makes it smaller."""
PATIENCE = 2.0


class Journal:
    """One process's file. Only the event loop touches what is here; the thread gets bytes."""

    def __init__(
        self,
        folder: Path,
        counters: Counters,
        spent: SettledSpend,
        report: Callable[[str], None],
        *,
        grows_to: int = GROWS_TO,
        retry: float = RETRY,
    ) -> None:
        """`report` gets one line for each change between writable and not; `retry` seconds after a failure it is tried again."""
        self._grows_to = grows_to
        self._retry = retry
        self._folder = folder
        self._path = folder / f"{counters.incarnation}{journal_files.ENDING}"
        self._counters = counters
        self._spent = spent
        self._report = report
        self._numbering = Numbering()
        self._descriptor = -1
        self._size = self._whole_size = 0
        self._whole = True
        self._under_way: tuple[Progress, ...] = ()
        self._said: set[str] = set()
        self._done: list[str] = []
        self._progress_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._writing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: queue.SimpleQueue[tuple[bytes, bool] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failing = False
        self.errors = 0
        """Writes that failed."""

    def open(self) -> None:
        """Take over what processes that are no more left behind, then begin a file of our own. OSError when that cannot be written."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        taken = list(journal_files.abandoned(self._folder))
        try:
            for one in taken:
                self._take_over(records.read(one.read()))
            data = self._everything()
            self._descriptor = locked_file.write_whole(self._path, data)
            self._size = self._whole_size = len(data)
            self._whole = False
            for one in taken:
                one.remove()
        finally:
            for one in taken:
                one.close()
        journal_files.sweep(self._folder)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_on, name="journal", daemon=True)
        self._thread.start()

    def _take_over(self, found: records.Found) -> None:
        for (incarnation, row), numbers in found.rows.items():
            self._counters.recover(incarnation, row, numbers)
        for share in found.all_shares():
            self._spent.recover(share)

    def changed(self) -> None:
        """Something was booked."""
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(self._retry if self._failing else COMMIT, self._commit)

    def ended(self, id: str) -> None:
        """A call's use is booked: what was said of it while it was under way counts no more."""
        if id in self._said:
            self._done.append(id)
            self.changed()

    def under_way(self, calls: Sequence[Progress]) -> None:
        """What calls that are not over used so far."""
        if calls or self._said:
            self._under_way = tuple(calls)
            self._said = {call.id for call in calls}
            self._done.clear()
            self._progress_due = True
            self.changed()

    def close(self) -> None:
        """Write what is left, waiting for the disk a moment only."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._thread is None:
            return
        if self._unwritten():
            self._work.put((self._everything(), True) if self._whole else (self._news(), False))
        self._work.put(None)
        self._thread.join(PATIENCE)
        self._thread = None
        self._loop = None

    def _unwritten(self) -> bool:
        return bool(self._counters.unwritten or self._spent.unwritten or self._done or self._progress_due)

    def _commit(self) -> None:
        self._timer = None
        if self._writing:
            return  # the thread's answer brings the next commit
        if not self._unwritten():
            return
        if self._size > max(self._grows_to, 4 * self._whole_size):
            self._whole = True
        whole = self._whole
        data = self._everything() if whole else self._news()
        self._writing = True
        self._work.put((data, whole))

    def _everything(self) -> bytes:
        """All that is known, numbered anew."""
        self._numbering = Numbering()
        lines: list[bytes] = []
        records.write_books(self._numbering, self._counters.all(), self._spent.all(), (), lines)
        left = [call for call in self._under_way if call.id not in self._done]
        if left:
            records.write_progress(self._numbering, self._counters.incarnation, left, lines)
        self._written()
        return _joined(lines)

    def _news(self) -> bytes:
        """What changed since the last commit."""
        lines: list[bytes] = []
        counters, spent = self._counters, self._spent
        if self._progress_due:
            records.write_progress(self._numbering, counters.incarnation, self._under_way, lines)
        if counters.unwritten or spent.unwritten or self._done:
            rows = [(counters.incarnation, row, counters.mine(row)) for row in counters.unwritten]
            records.write_books(self._numbering, rows, [spent.own(at) for at in spent.unwritten], self._done, lines)
        self._written()
        return _joined(lines)

    def _written(self) -> None:
        self._counters.unwritten.clear()
        self._spent.unwritten.clear()
        self._said.difference_update(self._done)
        self._under_way = tuple(call for call in self._under_way if call.id in self._said)
        self._done.clear()
        self._progress_due = False

    def _write_on(self) -> None:
        """The thread: one piece of work after another."""
        while (work := self._work.get()) is not None:
            error = ""
            try:
                self._write(*work)
            except OSError as failed:
                error = failed.strerror or str(failed)
            loop = self._loop
            if loop is not None and not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(self._wrote, len(work[0]), work[1], error)
                except RuntimeError:
                    return  # the loop was closed this very moment
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, data: bytes, whole: bool) -> None:
        if not whole:
            locked_file.append(self._descriptor, data)
            return
        descriptor = locked_file.write_whole(self._path, data)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor

    def _wrote(self, size: int, whole: bool, error: str) -> None:
        self._writing = False
        if error:
            self.errors += 1
            self._whole = True  # whatever a failed write left in the file is replaced
            if not self._failing:
                self._report(f"journal: {self._folder} cannot be written ({error}): calls go on, what they used is kept in memory")
            self._failing = True
            self._progress_due = True
            self.changed()
            return
        if self._failing:
            self._report(f"journal: {self._folder} can be written again")
        self._failing = False
        self._size = size if whole else self._size + size
        if whole:
            self._whole_size = size
            self._whole = False
        if self._unwritten():
            self.changed()


def _joined(lines: list[bytes]) -> bytes:
    return b"\n".join(lines) + b"\n" if lines else b""
