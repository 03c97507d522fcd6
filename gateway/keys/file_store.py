"""Keys made at run time by a gateway without a shared store: a file beside its journal, with hashes alone."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.keys.runtime_keys import RuntimeKey
from gateway.store import locked_file
from gateway.store.errors import StoreUnavailableError

NAME = "run-time-keys.json"


class FileKeyStore:
    """Keys in a file that is replaced whole, so that it is never half written; two gateways of one configuration may share it."""

    is_volatile = False

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._mark: tuple[int, int, int] | None = None
        self._keys: dict[str, RuntimeKey] = {}

    async def put(self, name: str, key: RuntimeKey | None, *, new: bool) -> bool:
        """Add, replace or remove; on disk before this is over."""
        return await asyncio.to_thread(self._put, name, key, new)

    async def read_if_changed(self) -> Mapping[str, RuntimeKey] | None:
        """All keys, when the file is another one than last time."""
        mark = self._look()
        if mark is None or mark == self._mark:  # a file that is gone is written again with the next change
            return None
        self._keys, self._mark = self._read(), mark
        return self._keys

    async def close(self) -> None:
        """Nothing to let go of."""

    def _put(self, name: str, key: RuntimeKey | None, new: bool) -> bool:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                keys = dict(self._keys) if self._look() is None else self._read()
                if (name in keys) == new:
                    return False
                changed = {**keys, name: key} if key is not None else {other: each for other, each in keys.items() if other != name}
                self._write(msgspec.json.encode(changed))
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StoreUnavailableError(f"{self._path}: {error.strerror or error}") from None
        return True

    def _write(self, data: bytes) -> None:
        beside = self._path.with_suffix(".new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            locked_file.append_and_sync(descriptor, data)
        finally:
            os.close(descriptor)
        os.rename(beside, self._path)

    def _look(self) -> tuple[int, int, int] | None:
        """What tells the file from the one that was read last; None when there is none."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailableError(f"{self._path}: {error.strerror}") from None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _read(self) -> dict[str, RuntimeKey]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, RuntimeKey])
        except OSError as error:
            raise StoreUnavailableError(f"{self._path}: {error.strerror}") from None
        except msgspec.DecodeError:
            raise StoreUnavailableError(f"{self._path} is not as the gateway wrote it") from None
