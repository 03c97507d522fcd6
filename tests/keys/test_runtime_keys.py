"""Run-time keys in one process: loaded at the start, updated by polling, kept during an outage."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from gateway.config import load
from gateway.config.key import KeyConfig, TeamConfig
from gateway.keys.authenticate import Keys
from gateway.keys.file_store import FileKeyStore, FileStore
from gateway.keys.from_config import VirtualKeys
from gateway.keys.redis_store import RedisKeyStore, RedisStore
from gateway.keys.runtime_keys import MAX_PREVIOUS_SECRETS, RuntimeKeys, RuntimeTeams, key_store, rotated, team_store
from gateway.keys.store import EntryStore, MemoryKeyStore, MemoryStore, PreviousSecret, RuntimeKey
from gateway.keys.stored_key import TEAMS
from gateway.keys.virtual_key import KeyRejectedError
from gateway.store.errors import StoreUnavailableError
from tests.flows.live import eventually


def entry(name: str) -> KeyConfig:
    """Return a key as it appears in a configuration."""
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


Stores = tuple[EntryStore[RuntimeKey], EntryStore[RuntimeKey]]


@pytest.fixture(params=["file", "redis"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """Return the stores of two gateways that share their keys."""
    if request.param == "file":
        return FileKeyStore(tmp_path), FileKeyStore(tmp_path)
    address = request.getfixturevalue("redis")
    return RedisKeyStore(address), RedisKeyStore(address)


class FailingStore(MemoryKeyStore):
    """A store that can be made to fail, like a Redis that restarts."""

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
    other = replace(key, shown="lg-...efgh")
    assert await keys.change("app", lambda _: other) == (key, other)
    assert await keys.revoke("app")
    assert not await keys.revoke("app")
    assert await keys.change("app", lambda _: other) is None
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


def runtime(name: str = "app", **more: object) -> RuntimeKey:
    """Return a run-time key."""
    return RuntimeKey(msgspec.structs.replace(entry(name), **more), "lg-...abcd", 1.0)


def test_a_rotated_key_keeps_its_settings_and_accepts_both_secrets_until_the_grace_ends() -> None:
    key = runtime(models=("m",))
    changed = rotated(key, "sha256:new", "lg-...new", 60.0)
    assert (changed.entry.hash, changed.entry.models, changed.shown, changed.created) == ("sha256:new", ("m",), "lg-...new", 1.0)
    assert [previous.hash for previous in changed.previous] == [key.entry.hash]
    keys = RuntimeKeys(MemoryKeyStore(), lambda: None, Observed().report)
    keys.by_name = {"app": changed}
    old, new = keys.accepted
    assert (old.hash, old.models, new) == (key.entry.hash, ("m",), changed.entry)
    assert old.expires is not None
    assert 50 < old.expires.timestamp() - time.time() <= 60


async def test_a_replaced_secret_has_another_error_than_an_expired_key() -> None:
    now = [time.time()]
    keys = RuntimeKeys(MemoryKeyStore(), lambda: None, Observed().report)
    secret, later = "lg-old", datetime.now(UTC) + timedelta(seconds=3600)
    key = runtime(hash="sha256:" + hashlib.sha256(secret.encode()).hexdigest(), expires=later)
    keys.by_name = {"app": rotated(key, "sha256:" + "0" * 64, "s", 60.0)}
    found = Keys({}, open_to_all=False, clock=lambda: now[0])
    found.set_runtime_keys(VirtualKeys(keys.accepted, {}, keys.replaced))
    sent = [(b"authorization", f"Bearer {secret}".encode())]
    assert found.authenticate(sent) is not None
    now[0] += 61
    with pytest.raises(KeyRejectedError, match="This secret of the key 'app' was replaced") as error:
        found.authenticate(sent)
    assert (error.value.status, error.value.code, error.value.key.name) == (401, "key_replaced", "app")
    assert (b"www-authenticate", b"Bearer") in error.value.headers
    assert secret not in str(error.value)


async def test_the_old_secret_of_an_expired_key_has_expired() -> None:
    now = [time.time()]
    keys = RuntimeKeys(MemoryKeyStore(), lambda: None, Observed().report)
    key = runtime(hash="sha256:" + hashlib.sha256(b"lg-old").hexdigest(), expires=datetime.now(UTC) + timedelta(seconds=5))
    keys.by_name = {"app": rotated(key, "sha256:" + "0" * 64, "s", 60.0)}
    found = Keys({}, open_to_all=False, clock=lambda: now[0])
    found.set_runtime_keys(VirtualKeys(keys.accepted, {}, keys.replaced))
    now[0] += 10
    with pytest.raises(KeyRejectedError, match="has expired"):
        found.authenticate([(b"authorization", b"Bearer lg-old")])


def test_the_old_secret_never_outlives_the_key() -> None:
    ends = datetime.now(UTC) + timedelta(seconds=5)
    keys = RuntimeKeys(MemoryKeyStore(), lambda: None, Observed().report)
    keys.by_name = {"app": rotated(runtime(expires=ends), "sha256:new", "s", 3600.0)}
    assert [each.expires for each in keys.accepted] == [ends, ends]


def test_rotations_keep_the_secrets_whose_grace_lasts_and_only_the_latest_of_many() -> None:
    key = msgspec.structs.replace(runtime(), previous=(PreviousSecret("sha256:past", time.time() - 1),))
    key = rotated(key, "sha256:0", "s", 60.0)
    assert "sha256:past" not in [previous.hash for previous in key.previous]
    for number in range(1, MAX_PREVIOUS_SECRETS + 2):
        key = rotated(key, f"sha256:{number}", "s", 60.0)
    assert [previous.hash for previous in key.previous] == [f"sha256:{number}" for number in range(1, MAX_PREVIOUS_SECRETS + 1)]


async def test_a_rotation_counts_as_a_revocation_only_without_grace() -> None:
    keys = RuntimeKeys(MemoryKeyStore(), lambda: None, Observed().report)
    await keys.start()
    assert await keys.add(entry("app"), "s")
    await keys.change("app", lambda key: rotated(key, "sha256:1", "s", 60.0))
    assert keys.revoked == 0
    await keys.change("app", lambda key: rotated(key, "sha256:2", "s", 0.0))
    assert keys.revoked == 1


async def test_run_time_teams_are_merged_with_those_of_the_configuration(tmp_path: Path) -> None:
    teams = RuntimeTeams(FileStore(tmp_path, TEAMS), lambda: None, Observed().report)
    await teams.start()
    for name in ("a", "b"):
        assert await teams.add(TeamConfig(name, disabled=True))
    await teams.stop()
    configured = TeamConfig("b")
    assert teams.merged({"b": configured}) == {"a": TeamConfig("a", disabled=True), "b": configured}
    restarted = RuntimeTeams(FileStore(tmp_path, TEAMS), lambda: None, Observed().report)
    await restarted.start()
    await restarted.stop()
    assert set(restarted.by_name) == {"a", "b"}


@pytest.mark.parametrize(
    ("yaml", "kind"), [("", FileStore), ("journal: 'off'\n", MemoryStore), ("store: redis://127.0.0.1:1/0\n", RedisStore)]
)
def test_teams_have_the_same_kind_of_store_as_keys(yaml: str, kind: type, tmp_path: Path) -> None:
    text = f"{yaml}providers: {{local: {{}}}}\nmodels: {{m: local/x}}\n"
    config = load.parse(text.encode(), "g.yaml", environ={})
    assert type(team_store(config, {"XDG_STATE_HOME": str(tmp_path)})) is kind


async def test_a_change_keeps_what_another_gateway_has_just_changed(stores: Stores) -> None:
    observed = Observed()
    one, other = (RuntimeKeys(store, observed.on_change, observed.report) for store in stores)
    await one.start()
    added = await one.add(entry("app"), "lg-...abcd")
    await other.start()
    assert added is not None
    assert await one.change("app", lambda key: replace(key, entry=replace(key.entry, disabled=True)))
    changed = await other.change("app", lambda key: rotated(key, "sha256:" + "1" * 64, "lg-...efgh", 60))
    assert changed is not None
    assert [key.entry.disabled for key in changed] == [True, True]
    assert [each.hash for each in changed[1].previous] == [added.entry.hash]
    await one.stop()
    await other.stop()


async def test_changes_by_several_gateways_at_once_are_all_kept(stores: Stores) -> None:
    observed = Observed()
    gateways = [RuntimeKeys(store, observed.on_change, observed.report) for store in stores]
    await gateways[0].start()
    assert await gateways[0].add(entry("app"), "lg-...abcd")
    await gateways[1].start()

    def append(number: int) -> Callable[[RuntimeKey], RuntimeKey]:
        return lambda key: replace(key, previous=(*key.previous, PreviousSecret(f"sha256:{number:064}", time.time() + 60)))

    await asyncio.gather(*(gateways[number % 2].change("app", append(number)) for number in range(8)))
    changed = await gateways[0].change("app", lambda key: key)
    assert changed is not None
    assert {each.hash for each in changed[1].previous} == {f"sha256:{number:064}" for number in range(8)}
    for gateway in gateways:
        await gateway.stop()
