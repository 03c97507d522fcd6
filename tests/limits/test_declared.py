"""The limits that a configuration and its run-time keys declare."""

from __future__ import annotations

from gateway.config.key import KeyConfig
from gateway.config.limit import LimitsConfig, Rate
from gateway.config.load import parse
from gateway.limits.declared import caller_limits, declared_limits

YAML = b"""
providers:
  a: { type: vllm, base_url: "http://h/v1", limits: { requests: 1/h }, models: { x: { limits: { concurrent: 2 } } } }
models:
  m: { targets: a/x, limits: { requests: [3/s, 4/min] } }
teams: { t: { limits: { tokens: 5/h }, models: { "*": { limits: { requests: 6/h } } } } }
keys: { k: { hash: "sha256:HASH", team: t, limits: { requests: 7/h }, limits_per_user: { requests: 1/h }, models: { m: {} } } }
""".replace(b"HASH", b"0" * 62 + b"1f")


def test_every_limit_is_listed_once_with_its_owner() -> None:
    made = KeyConfig("made", "sha256:" + "ab" * 32, limits=LimitsConfig(requests=(Rate(8, "day"),)))
    found = [(limit.owner, limit.model, str(limit), limit.side) for limit in declared_limits(parse(YAML, "g.yaml", environ={}), [made])]
    assert found == [
        ("key:k", "", "7 requests per h", "caller"),
        ("key:made", "", "8 requests per day", "caller"),
        ("team:t", "", "5 tokens per h", "caller"),
        ("team:t", "*", "6 requests per h", "caller"),
        ("model:m", "", "3 requests per s", "caller"),
        ("model:m", "", "4 requests per min", "caller"),
        ("provider:a", "", "1 request per h", "target"),
        ("target:a/x", "", "2 concurrent calls", "target"),
    ]


def test_the_limits_of_some_owners_are_listed_without_those_of_other_keys_teams_and_models() -> None:
    config = parse(YAML, "g.yaml", environ={})
    owners = ["key:k", "key:gone", "model:m", "user:k/alice"]
    found = {limit.owner for limit in declared_limits(config, owners=owners)}
    assert found == {"key:k", "model:m", "provider:a", "target:a/x"}
    assert {limit.owner for limit in declared_limits(config, owners=["team:t"])} == {"team:t", "provider:a", "target:a/x"}


ISSUERS = b"""
issuers:
  staff:
    issuer: https://login.example.com
    audience: lockgate
    policy_claim: roles
    policies:
      a: { limits: { requests: 5/h }, models: { m: { limits: { tokens: 9/h } } } }
      b: { limits: { requests: 5/h, concurrent: 2 } }
  bare: { issuer: https://other.example.com, audience: lockgate }
"""


def test_a_caller_with_a_token_has_the_limits_of_each_policy_once() -> None:
    config = parse(YAML + ISSUERS, "g.yaml", environ={})
    found = [(limit.owner, limit.model, str(limit)) for limit in caller_limits(config, "staff/alice")]
    assert found == [
        ("key:staff/alice", "", "5 requests per h"),
        ("key:staff/alice", "m", "9 tokens per h"),
        ("key:staff/alice", "", "2 concurrent calls"),
    ]
    assert [caller_limits(config, name) for name in ("bare/alice", "none/alice", "staff", "k", "")] == [[]] * 5
    assert not any(limit.owner.startswith("key:staff") for limit in declared_limits(config))
