"""The journal's files: one for each incarnation of a process, locked by its owner for as long as that lives."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.store.locked_file import try_lock

JOURNAL_SUFFIX = ".journal"


class AbandonedJournal:
    """A journal without a living owner, held until it was taken over."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def read(self) -> bytes:
        """All of it."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            return file.read()

    def remove(self) -> None:
        """It was taken over."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


def abandoned_journals(folder: Path) -> Iterator[AbandonedJournal]:
    """The journals in a folder that nobody holds."""
    for path in sorted(folder.glob(f"*{JOURNAL_SUFFIX}")):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # another process took it over just now
        if try_lock(descriptor):
            yield AbandonedJournal(path, descriptor)
        else:
            os.close(descriptor)


def remove_stray_files(folder: Path) -> None:
    """Remove what a process left that was killed while it wrote a file; nobody takes an hour for that."""
    for stray in folder.glob("*.new"):
        try:
            if stray.stat().st_mtime < time.time() - 3600:
                stray.unlink()
        except OSError:
            continue  # it is somebody's file after all
