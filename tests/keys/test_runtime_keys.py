"""Run-time keys as one process knows them: loaded at the start, updated by polling, kept during an outage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.config import load
from gateway.config.key import KeyConfig
from gateway.keys.file_store import FileKeyStore
from gateway.keys.redis_store import RedisKeyStore
from gateway.keys.runtime_keys import RuntimeKeys, key_store
from gateway.keys.store import MemoryKeyStore, RuntimeKey
from gateway.store.errors import StoreUnavailableError
from tests.flows.live import eventually


def entry(name: str) -> KeyConfig:
    """Return a key as a configuration has it."""
    return KeyConfig(name=name, hash=f"sha256:{name.encode().hex():0>64}")


class Observed:
    """Counts changes and collects reports."""

    def __init__(self) -> None:
        self.changes = 0
        self.reports: list[tuple[str, bool]] = []

    def on_change(self) -> None:
        self.changes += 1

    def report(self, line: str, unavailable: bool) -> None:
        self.reports.append((line, unavailable))


class FailingStore(MemoryKeyStore):
    """A store that can be made to fail, as a Redis that restarts."""

    is_volatile = False
    fails = False

    async def read_if_changed(self) -> Mapping[str, RuntimeKey] | None:
        if self.fails:
            raise StoreUnavailableError("connection refused")
        return await super().read_if_changed()


async def test_a_key_is_added_replaced_and_revoked() -> None:
    observed = Observed()
    keys = RuntimeKeys(MemoryKeyStore(), observed.on_change, observed.report)
    await keys.start()
    assert keys.is_loaded
    key = await keys.add(entry("app"), "lg-...abcd")
    assert key is not None
    assert await keys.add(entry("app"), "lg-...abcd") is None
    assert keys.entries == [entry("app")]
    assert await keys.replace(key)
    assert await keys.revoke("app")
    assert not await keys.revoke("app")
    assert not await keys.replace(key)
    assert (keys.entries, keys.revoked, observed.changes) == ([], 1, 4)


async def test_changes_of_another_process_are_polled(tmp_path: Path) -> None:
    observed = Observed()
    keys = RuntimeKeys(FileKeyStore(tmp_path), observed.on_change, observed.report)
    other = RuntimeKeys(FileKeyStore(tmp_path), lambda: None, observed.report)
    await keys.start()
    await other.add(entry("app"), "lg-...abcd")
    await eventually(lambda: keys.entries == [entry("app")])
    await keys.stop()
    assert observed.reports == []


async def test_an_outage_is_reported_once_and_keeps_the_keys() -> None:
    store, observed = FailingStore(), Observed()
    keys = RuntimeKeys(store, observed.on_change, observed.report)
    await keys.start()
    await keys.add(entry("app"), "lg-...abcd")
    store.fails = True
    await eventually(lambda: len(observed.reports) == 1)
    with pytest.raises(StoreUnavailableError):
        await keys.revoke("app")
    assert keys.entries == [entry("app")]
    store.fails = False
    await eventually(lambda: len(observed.reports) == 2)
    await keys.stop()
    assert observed.reports == [
        ("store: run-time keys cannot be read (connection refused); the last known keys stay valid", True),
        ("store: run-time keys can be read again", False),
    ]


async def test_keys_are_not_loaded_while_the_store_was_never_available() -> None:
    store, observed = FailingStore(), Observed()
    store.fails = True
    keys = RuntimeKeys(store, observed.on_change, observed.report)
    await keys.start()
    await keys.stop()
    assert not keys.is_loaded


@pytest.mark.parametrize(
    ("yaml", "kind"),
    [("", FileKeyStore), ("journal: 'off'\n", MemoryKeyStore), ("store: redis://127.0.0.1:1/0\n", RedisKeyStore)],
)
def test_the_configuration_chooses_the_store(yaml: str, kind: type, tmp_path: Path) -> None:
    text = f"{yaml}providers: {{local: {{}}}}\nmodels: {{m: local/x}}\n"
    config = load.parse(text.encode(), "g.yaml", environ={})
    assert type(key_store(config, {"XDG_STATE_HOME": str(tmp_path)})) is kind
