"""Run-time keys in a file of the state folder, for a gateway without Redis. The file contains hashes, not keys."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.keys.store import RuntimeKey
from gateway.keys.stored_key import decode_key, encode_key
from gateway.store import locked_file
from gateway.store.errors import StoreUnavailableError

FILE_NAME = "run-time-keys.json"


class FileKeyStore:
    """Keys in a file that is replaced atomically. Gateways with the same configuration may share the file."""

    is_volatile = False

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._version: tuple[int, int, int] | None = None
        self._keys: dict[str, RuntimeKey] = {}

    async def put(self, name: str, key: RuntimeKey | None, *, new: bool) -> bool:
        """Add, replace or remove a key. The change is on disk when this returns."""
        return await asyncio.to_thread(self._put, name, key, new)

    async def read_if_changed(self) -> Mapping[str, RuntimeKey] | None:
        """Return all keys if the file has been replaced since the last call, else None."""
        version = self._file_version()
        if version is None or version == self._version:  # the next change writes a deleted file again
            return None
        self._keys, self._version = self._read(), version
        return self._keys

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    def _put(self, name: str, key: RuntimeKey | None, new: bool) -> bool:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                keys = dict(self._keys) if self._file_version() is None else self._read()
                if (name in keys) == new:
                    return False
                changed = {**keys, name: key} if key is not None else {other: entry for other, entry in keys.items() if other != name}
                self._write(msgspec.json.encode({other: msgspec.Raw(encode_key(entry)) for other, entry in changed.items()}))
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StoreUnavailableError(f"{self._path}: {error.strerror or error}") from None
        return True

    def _write(self, data: bytes) -> None:
        temporary = self._path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            locked_file.append_and_sync(descriptor, data)
        finally:
            os.close(descriptor)
        os.rename(temporary, self._path)

    def _file_version(self) -> tuple[int, int, int] | None:
        """Return an identifier of the file's current version, or None if there is no file."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailableError(f"{self._path}: {error.strerror}") from None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _read(self) -> dict[str, RuntimeKey]:
        try:
            stored = msgspec.json.decode(self._path.read_bytes(), type=dict[str, msgspec.Raw])
            return {name: decode_key(entry) for name, entry in stored.items()}
        except OSError as error:
            raise StoreUnavailableError(f"{self._path}: {error.strerror}") from None
        except msgspec.DecodeError:
            raise StoreUnavailableError(f"{self._path} has invalid content") from None
