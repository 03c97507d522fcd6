"""The files that a configuration refers to: their contents, and fingerprints that reveal changes."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial
from hashlib import blake2b, file_digest
from pathlib import Path

import msgspec

from gateway.config.secret import Secret, read_secret
from gateway.config.yamlfile import MAX_BYTES

MAX_SECRET_BYTES = 1 << 20
MISSING = "missing"
SETTLE_S = 2.0
"""Time after which a file whose status is unchanged counts as settled. Some file systems round the times of files to 2 seconds."""


class Files:
    """The files opened while one configuration is read.

    `given` maps paths to contents that replace those on disk. `known` contains the paths of files that
    existed at an earlier reading and may be missing now.
    """

    def __init__(self, given: Mapping[str, str] | None = None, known: Container[str] = ()) -> None:
        self._given = given or {}
        self._known = known
        self.secrets: dict[str, str] = {}
        """Contents of the files that were read, such as secrets and certificates, by path."""
        self.fingerprints: dict[str, str] = {}
        """Fingerprints of all files, including unreadable ones, by path."""

    def secret(self, path: Path, written: str = "") -> Secret:
        """Return the secret in a file. Raise ValueError if the file is unusable."""
        name = str(path)
        self.watch(path)
        secret = Secret(self._given[name], path) if name in self._given else read_secret(path, written)
        self.secrets[name] = secret.reveal()
        return secret

    def text(self, path: Path) -> str:
        """Return the content that a file had when it was first read. Raise OSError or ValueError if it is unreadable."""
        name = str(path)
        if name not in self.secrets:
            self.secrets[name] = self._given[name] if name in self._given else path.read_bytes()[:MAX_SECRET_BYTES].decode()
        return self.secrets[name]

    def is_given(self, path: Path) -> bool:
        """Return whether the content was given and not read from disk."""
        return str(path) in self._given

    def was_present(self, path: Path) -> bool:
        """Return whether the file existed at an earlier reading, so that its absence is not an error now."""
        return str(path) in self._known

    def watch(self, path: Path) -> None:
        """Record the fingerprint of a file, so that a change is detected."""
        self.fingerprints[str(path)] = fingerprint(str(path))


def fingerprint(path: str) -> str:
    """Return a digest of a file's content. Symbolic links are followed.

    For a file that is too large to read often, or is not a regular file, return its size, time and inode instead. For an
    inaccessible file, return MISSING.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"
        with open(path, "rb") as file:
            return file_digest(file, partial(blake2b, digest_size=16)).hexdigest()
    except (OSError, ValueError):
        return MISSING


def _status_of(path: str) -> tuple[int, ...] | None:
    """Return the device, inode, size and times of a file, one of which differs after every change, or None if it is inaccessible."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class _Watched(msgspec.Struct):
    status: tuple[int, ...] | None
    since: float
    """The time at which this status was first seen."""
    digest: str
    is_settled: bool = False


class Watch:
    """Fingerprints of files that are checked often: a file is read only after its status has changed, and once more when it has settled."""

    def __init__(self, read: Callable[[str], str] = fingerprint, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._files: dict[str, _Watched] = {}

    def fingerprints(self, paths: Iterable[str]) -> dict[str, str]:
        """Return the current fingerprints of these files, and forget all other files."""
        self._files = {path: self._checked(path) for path in paths}
        return {path: file.digest for path, file in self._files.items()}

    def _checked(self, path: str) -> _Watched:
        status, now, known = _status_of(path), self._clock(), self._files.get(path)
        if known is None or known.status != status:
            return _Watched(status, now, self._read(path))
        if not known.is_settled:
            # Two writes in quick succession may leave the same status, so the file is also read some time after its last change.
            known.is_settled = now - known.since >= SETTLE_S
            known.digest = self._read(path)
        return known
