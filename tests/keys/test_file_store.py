"""Run-time keys in a file: readable after a restart, shared by gateways, and unavailable if the file is broken."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from gateway.config.key import KeyConfig
from gateway.keys.file_store import FileKeyStore
from gateway.keys.store import RuntimeKey
from gateway.keys.stored_key import KEYS
from gateway.store.errors import StoreUnavailableError


def runtime_key(name: str) -> RuntimeKey:
    """Return a key of this name."""
    return RuntimeKey(KeyConfig(name=name, hash="sha256:" + "0" * 64), "lg-...abcd", 1.0)


async def test_a_key_survives_a_restart(tmp_path: Path) -> None:
    assert await FileKeyStore(tmp_path).put("app", runtime_key("app"), new=True)
    assert await FileKeyStore(tmp_path).read_if_changed() == {"app": runtime_key("app")}


async def test_the_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    await FileKeyStore(tmp_path / "state").put("app", runtime_key("app"), new=True)
    file = tmp_path / "state" / KEYS.file
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file)] == [0o700, 0o600]


async def test_names_are_unique_and_only_known_keys_are_replaced_or_removed(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path)
    assert not await store.put("app", runtime_key("app"), new=False)
    assert not await store.put("app", None, new=False)
    assert await store.put("app", runtime_key("app"), new=True)
    assert not await store.put("app", runtime_key("app"), new=True)
    assert await store.put("app", None, new=False)
    assert await store.read_if_changed() == {}


async def test_keys_are_read_only_after_a_change(tmp_path: Path) -> None:
    one, other = FileKeyStore(tmp_path), FileKeyStore(tmp_path)
    assert await one.read_if_changed() is None
    await other.put("app", runtime_key("app"), new=True)
    assert await one.read_if_changed() == {"app": runtime_key("app")}
    assert await one.read_if_changed() is None


async def test_gateways_that_write_at_once_lose_no_key(tmp_path: Path) -> None:
    stores = [FileKeyStore(tmp_path) for _ in range(4)]
    names = [f"key-{number}" for number in range(20)]
    added = await asyncio.gather(*(stores[i % 4].put(name, runtime_key(name), new=True) for i, name in enumerate(names)))
    assert all(added)
    assert set(await FileKeyStore(tmp_path).read_if_changed() or ()) == set(names)


async def test_a_deleted_file_is_written_again_with_the_keys_known_last(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path)
    await store.put("old", runtime_key("old"), new=True)
    await store.read_if_changed()
    (tmp_path / KEYS.file).unlink()
    assert await store.read_if_changed() is None
    await store.put("new", runtime_key("new"), new=True)
    assert set(await store.read_if_changed() or ()) == {"old", "new"}


async def test_a_broken_file_is_an_unavailable_store(tmp_path: Path) -> None:
    (tmp_path / KEYS.file).write_text("{")
    with pytest.raises(StoreUnavailableError, match="has invalid content"):
        await FileKeyStore(tmp_path).read_if_changed()
