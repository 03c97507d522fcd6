"""Limits built from the configuration."""

from __future__ import annotations

import pytest

from gateway.config.load import parse
from gateway.store.from_config import has_limits, limits_in, needs_token_count

BASE = "providers: {{ local: {{{provider}}} }}\nmodels: {{ m: local/any }}\n{rest}"
KEY = "keys: {{ a: {{ hash: 'sha256:{hash}', limits: {limits} }} }}"


def config(provider: str = "", rest: str = ""):  # type: ignore[no-untyped-def]
    return parse(BASE.format(provider=provider, rest=rest).encode(), "/etc/lockgate/gateway.yaml")


def key(limits: str):  # type: ignore[no-untyped-def]
    return config(rest=KEY.format(hash="0" * 62 + "1f", limits=limits)).keys["a"]


def test_each_kind_of_a_block_becomes_a_limit_of_its_owner() -> None:
    block = key("{ requests: 17/h, tokens: 1000/min, concurrent: 3, outage: closed }").limits
    limits = limits_in(block, "key:a")
    assert [(limit.kind, limit.amount, limit.window) for limit in limits] == [
        ("requests", 17, "h"),
        ("tokens", 1000, "min"),
        ("concurrent", 3, ""),
    ]
    assert {(limit.owner, limit.side, limit.outage, limit.strict) for limit in limits} == {("key:a", "caller", "closed", False)}
    assert [limit.strict for limit in limits_in(block, "key:a", strict=True)] == [True, True, False]


@pytest.mark.parametrize(("provider", "rest", "expected"), [("", "", False), ("limits: { requests: 1/h }", "", True)])
def test_has_limits(provider: str, rest: str, expected: bool) -> None:
    assert has_limits(config(provider, rest)) is expected


def test_keys_may_get_limits_at_run_time() -> None:
    assert has_limits(config(rest=KEY.format(hash="0" * 62 + "1f", limits="{}")))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [("{ requests: 1/h, concurrent: 2 }", False), ("{ tokens: 10/h }", True), ("{ spend: 1 USD/day }", True)],
)
def test_token_and_spend_limits_need_a_token_count(limits: str, expected: bool) -> None:
    assert needs_token_count(key(limits)) is expected
