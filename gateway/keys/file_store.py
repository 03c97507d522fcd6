"""Run-time keys and teams in files of the state folder, for a gateway without Redis. The files contain hashes, not keys."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Generic

import msgspec

from gateway.keys.store import Entry, RuntimeKey
from gateway.keys.stored_key import KEYS, EntryKind, decode_entry, encode_entry
from gateway.store import locked_file
from gateway.store.errors import StoreUnavailableError


class FileStore(Generic[Entry]):
    """Entries in a file that is replaced atomically. Gateways with the same configuration may share the file."""

    is_volatile = False

    def __init__(self, folder: Path, kind: EntryKind[Entry]) -> None:
        self._kind = kind
        self._path = folder / kind.file
        self._version: tuple[int, int, int] | None = None
        self._entries: dict[str, Entry] = {}

    async def put(self, name: str, entry: Entry | None, *, new: bool, before: Entry | None = None) -> bool:
        """Add, replace or remove an entry. The change is on disk when this returns."""
        return await asyncio.to_thread(self._put, name, entry, new, before)

    async def read_if_changed(self) -> Mapping[str, Entry] | None:
        """Return all entries if the file has been replaced since the last call, else None."""
        version = self._file_version()
        if version is None or version == self._version:  # the next change writes a deleted file again
            return None
        self._entries, self._version = self._read(), version
        return self._entries

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    def _put(self, name: str, entry: Entry | None, new: bool, before: Entry | None) -> bool:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                entries = dict(self._entries) if self._file_version() is None else self._read()
                if (name in entries) == new or (before is not None and entries[name] != before):
                    return False
                if entry is not None:
                    entries[name] = entry
                else:
                    del entries[name]
                self._write(msgspec.json.encode({other: msgspec.Raw(encode_entry(each)) for other, each in entries.items()}))
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

    def _read(self) -> dict[str, Entry]:
        try:
            stored = msgspec.json.decode(self._path.read_bytes(), type=dict[str, msgspec.Raw])
            return {name: decode_entry(entry, self._kind) for name, entry in stored.items()}
        except OSError as error:
            raise StoreUnavailableError(f"{self._path}: {error.strerror}") from None
        except msgspec.DecodeError:
            raise StoreUnavailableError(f"{self._path} has invalid content") from None


class FileKeyStore(FileStore[RuntimeKey]):
    """Run-time keys in a file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, KEYS)
