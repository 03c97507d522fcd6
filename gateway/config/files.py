"""The files beside the YAML that its values name: read for their secrets, remembered so that a change of one is noticed."""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterable, Mapping
from hashlib import blake2b
from pathlib import Path

from gateway.config.secret import Secret, read_secret
from gateway.config.yamlfile import MAX_BYTES

MISSING = "missing"


class Files:
    """What one reading of a configuration opened.

    `given` has the contents that stand for the disk's, by path; `known` are files that were there at an earlier reading and may be gone.
    """

    def __init__(self, given: Mapping[str, str] | None = None, known: Container[str] = ()) -> None:
        self._given = given or {}
        self._known = known
        self.secrets: dict[str, str] = {}
        """The content of each file that is a secret or a certificate, by path."""
        self.fingerprints: dict[str, str] = {}
        """What tells each file's content from another, by path; files that could not be read included."""

    def secret(self, path: Path, written: str = "") -> Secret:
        """The secret in a file; ValueError says what is wrong with it."""
        name = str(path)
        self.watch(path)
        found = Secret(self._given[name], path) if name in self._given else read_secret(path, written)
        self.secrets[name] = found.reveal()
        return found

    def text(self, path: Path) -> str:
        """The content of a file that goes on as it was read; OSError or ValueError when it cannot be read."""
        name = str(path)
        if name not in self.secrets:
            self.secrets[name] = self._given[name] if name in self._given else path.read_bytes()[:MAX_BYTES].decode()
        return self.secrets[name]

    def is_given(self, path: Path) -> bool:
        """Whether it is taken as it was, not as the disk has it."""
        return str(path) in self._given

    def was_present(self, path: Path) -> bool:
        """Whether it was there before, so that its absence now is no mistake of who wrote the configuration."""
        return str(path) in self._known

    def watch(self, path: Path) -> None:
        """A file whose change matters."""
        self.fingerprints[str(path)] = fingerprint(str(path))


def fingerprint(path: str) -> str:
    """A file's content as a digest, or its size and time when it is too large to be read often; links are followed."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"
        with open(path, "rb") as file:
            return blake2b(file.read(MAX_BYTES + 1), digest_size=16).hexdigest()
    except (OSError, ValueError):
        return MISSING


def fingerprints(paths: Iterable[str]) -> dict[str, str]:
    """The marks of several files as they are now."""
    return {path: fingerprint(path) for path in paths}
