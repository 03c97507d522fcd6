"""Journal files: each run of a process has its own file, which the process locks until it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.store.locked_file import try_lock

JOURNAL_SUFFIX = ".journal"


class AbandonedJournal:
    """The journal of a process that has ended, locked until it is taken over."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def read(self) -> bytes:
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            return file.read()

    def remove(self) -> None:
        """Delete the file after its content has been taken over."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


def abandoned_journals(folder: Path) -> Iterator[AbandonedJournal]:
    """Lock and yield each journal in a folder that no running process has locked."""
    for path in sorted(folder.glob(f"*{JOURNAL_SUFFIX}")):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # another process has just taken the file over and removed it, or the file belongs to another user
        if try_lock(descriptor):
            yield AbandonedJournal(path, descriptor)
        else:
            os.close(descriptor)


def remove_stray_files(folder: Path) -> None:
    """Remove temporary files over an hour old, left by processes that were killed while writing."""
    for stray in folder.glob("*.new"):
        try:
            if stray.stat().st_mtime < time.time() - 3600:
                stray.unlink()
        except OSError:
            continue  # already deleted, or owned by another user
