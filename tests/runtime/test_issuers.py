"""The keys of issuers outlive a reload that does not concern them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.config.issuer import IssuerConfig
from gateway.config.types import Config
from gateway.runtime.issuers import Issuers
from tests.flows.live import eventually
from tests.support.issuer import key_set, private_key, public_jwk

KEYS = key_set(public_jwk(private_key("ES256"), "k1"))


def config(**settings: Any) -> Config:
    """Return a configuration with one issuer."""
    return Config(issuers={"staff": IssuerConfig("staff", "https://login.example.com", ("lockgate",), **settings)})


async def serve(issuer: IssuerConfig, url: str, limit: int) -> bytes:
    """Return a key set."""
    return KEYS.encode()


async def test_a_source_is_used_again_while_its_settings_are_the_same(tmp_path: Path) -> None:
    issuers = Issuers(serve, tmp_path, lambda line: None)
    first = config(jwks_url="https://a.example.com")
    issuers.start(first)
    source = issuers.sources(first)["staff"]
    assert issuers.sources(config(jwks_url="https://a.example.com", leeway=1.0))["staff"] is source
    other = config(jwks_url="https://b.example.com")
    assert issuers.sources(other)["staff"] is not source
    assert len({*map(str, (issuers.sources(each)["staff"]._path for each in (first, other)))}) == 2
    polling = source._polling
    assert polling is not None
    await issuers.keep_only([other])
    assert polling.done()
    assert issuers.sources(first)["staff"] is not source
    await issuers.keep_only([])


async def test_fetches_are_counted_by_issuer(tmp_path: Path) -> None:
    issuers = Issuers(serve, None, lambda line: None)
    given = config(jwks_url="https://a.example.com")
    issuers.start(given)
    await eventually(lambda: issuers.fetches(given)["staff", "ok"] > 0)
    assert issuers.fetches(given) == {("staff", "ok"): 1, ("staff", "failed"): 0}
    assert issuers.fetch_times(given)["staff",] > 0
    await issuers.keep_only([])
    fixed = config(key_set=KEYS, jwks_file="keys.json")
    assert (issuers.fetches(fixed), issuers.fetch_times(fixed)) == ({}, {})
