"""Files locked by one process: locking, atomic replacement, and appending with a sync to disk."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def try_lock(descriptor: int) -> bool:
    """Lock a file until it is closed. Return False if another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def replace_file(path: Path, data: bytes) -> int:
    """Replace a file atomically. Return the descriptor of the new file, locked and open for appending."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        if not try_lock(descriptor):
            raise OSError("the file is in use by another process")
        append_and_sync(descriptor, data)
        os.rename(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def append_and_sync(descriptor: int, data: bytes) -> None:
    """Write all data and wait until it is on disk."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fdatasync(descriptor)
