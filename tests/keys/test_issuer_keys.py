"""The keys of an issuer: fetched from a real server, kept on disk, and fetched again without a flood of requests."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.config.issuer import IssuerConfig
from gateway.config.key_set import MAX_KEY_SET_BYTES
from gateway.keys import issuer_keys
from gateway.keys.issuer_keys import MIN_INTERVAL_S, IssuerKeys
from gateway.upstream.fetch import fetch
from gateway.upstream.native_transport import NativeTransport
from tests.flows.live import eventually
from tests.support.issuer import AUDIENCE, TokenIssuer, key_set, private_key, public_jwk


class Reading:
    """The keys of one issuer, and a clock that the test moves."""

    def __init__(self, issuer: TokenIssuer, transport: NativeTransport, path: Path | None = None, **settings: Any) -> None:
        self.now = 100.0
        self.reports: list[str] = []
        config = IssuerConfig("staff", issuer.url, (AUDIENCE,), **settings)
        self.keys = IssuerKeys(config, partial(_fetch, transport), path, self.reports.append, lambda: self.now)

    def has(self, *ids: str) -> bool:
        """Return whether exactly these keys are known, and no fetch is in progress."""
        known = self.keys.key_set
        return self.keys._fetching is None and known is not None and set(known._by_id) == set(ids)

    async def __aenter__(self) -> Reading:
        self.keys.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.keys.stop()


async def _fetch(transport: NativeTransport, issuer: IssuerConfig, url: str, limit: int) -> bytes:
    return await fetch(transport, url, limit)


@pytest.fixture
async def transport() -> AsyncIterator[NativeTransport]:
    """Return a transport."""
    transport = NativeTransport()
    yield transport
    await transport.aclose()


@pytest.fixture
async def issuer() -> AsyncIterator[TokenIssuer]:
    """Return a serving issuer with one key."""
    async with TokenIssuer() as serving:
        serving.add_key("k1")
        yield serving


async def test_keys_are_found_by_discovery(issuer: TokenIssuer, transport: NativeTransport) -> None:
    async with Reading(issuer, transport) as reading:
        await eventually(lambda: reading.has("k1"))
    assert issuer.requests == ["/.well-known/openid-configuration", "/keys"]
    assert reading.keys.fetches == {"ok": 1, "failed": 0}
    assert reading.keys.fetched_at > 0


async def test_the_url_of_the_keys_needs_no_discovery(issuer: TokenIssuer, transport: NativeTransport) -> None:
    async with Reading(issuer, transport, jwks_url=f"{issuer.url}/keys") as reading:
        await eventually(lambda: reading.has("k1"))
    assert issuer.requests == ["/keys"]


async def test_keys_are_fetched_at_the_interval(issuer: TokenIssuer, transport: NativeTransport) -> None:
    async with Reading(issuer, transport, refresh=0.01) as reading:
        await eventually(lambda: reading.has("k1"))
        issuer.private.clear()
        issuer.add_key("k2")
        await eventually(lambda: reading.has("k2"))
    assert reading.keys.version == 2


async def test_an_unknown_key_is_found_by_a_fetch(issuer: TokenIssuer, transport: NativeTransport) -> None:
    async with Reading(issuer, transport) as reading:
        await eventually(lambda: reading.has("k1"))
        issuer.add_key("k2")
        reading.now += MIN_INTERVAL_S
        assert await reading.keys.refreshed() is True
        assert reading.has("k1", "k2")


async def test_fetches_are_not_repeated_within_the_minimum_interval(issuer: TokenIssuer, transport: NativeTransport) -> None:
    async with Reading(issuer, transport, jwks_url=f"{issuer.url}/keys") as reading:
        await eventually(lambda: reading.has("k1"))
        for _ in range(1000):
            assert await reading.keys.refreshed() is False
        reading.now += MIN_INTERVAL_S - 0.1
        assert await reading.keys.refreshed() is False
        assert len(issuer.requests) == 1
        reading.now += 0.2
        assert await reading.keys.refreshed() is True
        assert len(issuer.requests) == 2


async def test_concurrent_calls_wait_for_one_fetch(issuer: TokenIssuer, transport: NativeTransport) -> None:
    async with Reading(issuer, transport, jwks_url=f"{issuer.url}/keys") as reading:
        await eventually(lambda: reading.has("k1"))
        reading.now += MIN_INTERVAL_S
        issuer.released.clear()
        waiting = [asyncio.create_task(reading.keys.refreshed()) for _ in range(100)]
        await eventually(lambda: len(issuer.requests) == 2)
        issuer.released.set()
        assert await asyncio.gather(*waiting) == [True] * 100
    assert len(issuer.requests) == 2


async def test_the_last_keys_stay_valid_during_an_outage(issuer: TokenIssuer, transport: NativeTransport) -> None:
    async with Reading(issuer, transport, jwks_url=f"{issuer.url}/keys") as reading:
        await eventually(lambda: reading.has("k1"))
        await issuer.close()
        for _ in range(3):
            reading.now += MIN_INTERVAL_S
            assert await reading.keys.refreshed() is False
        assert reading.has("k1")
        assert reading.keys.has_failed
        (line,) = reading.reports
        assert line.startswith("issuer staff: the keys cannot be fetched (")
        assert line.endswith("the last known keys stay valid")
        await issuer.listen()
        reading.now += MIN_INTERVAL_S
        assert await reading.keys.refreshed() is True
    assert reading.reports[1:] == ["issuer staff: the keys can be fetched again"]


async def test_a_start_during_an_outage_uses_the_kept_keys(issuer: TokenIssuer, transport: NativeTransport, tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys.json"
    async with Reading(issuer, transport, path) as reading:
        await eventually(lambda: path.exists() and reading.keys.fetches["ok"] == 1)
    assert path.stat().st_mode & 0o777 == 0o600
    await issuer.close()
    async with Reading(issuer, transport, path) as reading:
        await eventually(lambda: reading.keys.fetches["failed"] == 1)
        assert reading.has("k1")
        assert 0 < reading.keys.fetched_at <= path.stat().st_mtime
    assert [file.name for file in path.parent.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"x" * (MAX_KEY_SET_BYTES + 1)])
async def test_damaged_kept_keys_are_reported_and_replaced(
    issuer: TokenIssuer, transport: NativeTransport, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    async with Reading(issuer, transport, path) as reading:
        await eventually(lambda: reading.has("k1") and path.read_bytes() != content)
    assert "the saved keys are unusable" in reading.reports[0]


async def test_a_token_with_a_new_key_causes_a_fetch_while_the_last_keys_are_saved(
    issuer: TokenIssuer, transport: NativeTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, released, saved = tmp_path / "keys.json", threading.Event(), list[bytes]()

    def save(path: Path, content: bytes) -> None:
        released.wait(60)
        saved.append(content)

    monkeypatch.setattr(issuer_keys, "_save", save)
    async with Reading(issuer, transport, path) as reading:
        try:
            await eventually(lambda: reading.has("k1"))
            issuer.add_key("k2")
            reading.now += MIN_INTERVAL_S
            assert await reading.keys.refreshed()
            assert reading.has("k1", "k2")
        finally:
            released.set()
        await eventually(lambda: len(saved) == 2)
    assert [b"k2" in content for content in saved] == [False, True], "the last keys are saved last"


async def test_a_folder_that_cannot_be_written_is_reported(issuer: TokenIssuer, transport: NativeTransport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with Reading(issuer, transport, tmp_path / "file" / "keys.json") as reading:
        await eventually(lambda: len(reading.reports) == 2 and reading.has("k1"))
    assert "the keys cannot be saved" in reading.reports[1]


UNUSABLE = [
    ("", "it is not valid JSON"),
    ("[]", "it is not a JSON Web Key Set"),
    ('{"keys": []}', "it has no public key"),
    (key_set(*[public_jwk(private_key("ES256"), str(number)) for number in range(101)]), "it has 101 keys"),
    (json.dumps({"keys": [], "padding": "x" * MAX_KEY_SET_BYTES}), "exceeds 262144 bytes"),
    (key_set({**public_jwk(private_key("ES256"), "k1"), "d": "AAAA"}), "contains a private key"),
]


@pytest.mark.parametrize(("served", "problem"), UNUSABLE)
async def test_an_unusable_key_set_changes_nothing(issuer: TokenIssuer, transport: NativeTransport, served: str, problem: str) -> None:
    async with Reading(issuer, transport) as reading:
        await eventually(lambda: reading.has("k1"))
        issuer.published = served or " "
        reading.now += MIN_INTERVAL_S
        assert await reading.keys.refreshed() is False
        assert reading.has("k1")
    assert problem in reading.reports[0]


async def test_an_error_of_the_server_is_a_failed_fetch(issuer: TokenIssuer, transport: NativeTransport) -> None:
    issuer.status = 500
    async with Reading(issuer, transport) as reading:
        await eventually(lambda: reading.keys.fetches["failed"] == 1)
    reason = "127.0.0.1 answered with status 500 instead of 200"
    assert reading.reports == [f"issuer staff: the keys cannot be fetched ({reason}); calls with its tokens are rejected"]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("[]", "is not a JSON object with 'jwks_uri': set jwks_url"),
        ('{"issuer": "URL"}', "is not a JSON object with 'jwks_uri'"),
        ('{"issuer": "https://evil.example.com", "jwks_uri": "URL/keys"}', "names another issuer"),
        ('{"issuer": "URL", "jwks_uri": "http://192.0.2.1/keys"}', "use https"),
        ('{"issuer": "URL", "jwks_uri": "file:///etc/passwd"}', "expected a URL"),
    ],
)
async def test_an_unusable_openid_configuration_is_a_failed_fetch(
    issuer: TokenIssuer, transport: NativeTransport, document: str, problem: str
) -> None:
    issuer.configuration = document.replace("URL", issuer.url)
    async with Reading(issuer, transport) as reading:
        await eventually(lambda: reading.keys.fetches["failed"] == 1)
    assert problem in reading.reports[0]
    assert issuer.requests == ["/.well-known/openid-configuration"]


async def test_keys_of_a_file_are_never_read_from_the_issuer(issuer: TokenIssuer, transport: NativeTransport) -> None:
    async with Reading(issuer, transport, key_set=issuer.keys(), jwks_file="keys.json") as reading:
        assert await reading.keys.refreshed() is False
        assert reading.has("k1")
        assert reading.keys.is_fixed
    assert issuer.requests == []


async def test_a_silent_issuer_does_not_hold_calls(
    issuer: TokenIssuer, transport: NativeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.keys.issuer_keys.MAX_WAIT_S", 0.05)
    issuer.released.clear()
    async with Reading(issuer, transport) as reading:
        assert await reading.keys.refreshed() is False
        issuer.released.set()
        await eventually(lambda: reading.has("k1"))


async def test_kept_keys_never_replace_fetched_ones(issuer: TokenIssuer, transport: NativeTransport, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(key_set(public_jwk(private_key("ES256"), "old")))
    reading = Reading(issuer, transport, path)
    loading = asyncio.create_task(reading.keys._load_kept())
    await asyncio.sleep(0)  # the thread that reads the file has begun
    reading.keys._use(issuer.keys().encode(), 7.0)
    await loading
    assert reading.has("k1")
    assert reading.keys.fetched_at == 7.0
