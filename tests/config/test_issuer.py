"""The settings of issuers: their values, and policies in the form of keys."""

from __future__ import annotations

from gateway.config import load
from gateway.config.issuer import ALGORITHMS, IssuerConfig, PolicyConfig, caller_name, key_of_policy, policies_of, policy_keys
from gateway.config.limit import Rate

FULL = """
providers: { local: {}, openai: { api_key: "${K}" } }
models: { smart: openai/gpt-4o, fast: local/x }
tags: [chat]
teams: { search: {} }
issuers:
  staff:
    issuer: https://login.example.com/realms/staff
    audience: [lockgate, batch]
    jwks_url: https://login.example.com/keys
    refresh: 5m
    algorithms: [RS256, ES256]
    leeway: 10s
    require: { email_verified: true, hd: [example.com, example.org], level: 3 }
    caller_claim: azp
    user_claim: email
    team_claim: groups
    teams: { 9f6c: search }
    policy_claim: realm_access.roles
    policies:
      ml:
        models: { smart: { limits: { requests: 5/min } } }
        team: search
        tags: [chat]
        limits: { spend: 20 USD/day }
        limits_per_user: { requests: 1/s }
        bring_credentials: [openai]
        budget_brought_credentials: false
        require_end_user: true
        strict: true
      "*": { disabled: true }
"""


def parsed(text: str) -> IssuerConfig:
    """Return the issuer of a configuration."""
    return load.parse(text.encode(), "g.yaml", environ={"K": "x"}).issuers["staff"]


def test_all_settings_are_read() -> None:
    issuer = parsed(FULL)
    assert (issuer.name, issuer.audience, issuer.algorithms) == ("staff", ("lockgate", "batch"), ("RS256", "ES256"))
    assert (issuer.refresh, issuer.leeway) == (300.0, 10.0)
    assert issuer.require == {"email_verified": ("true",), "hd": ("example.com", "example.org"), "level": ("3",)}
    assert (issuer.caller_claim, issuer.user_claim, issuer.team_claim) == ("azp", "email", "groups")
    assert issuer.policy_claim == "realm_access.roles"
    assert list(issuer.policies) == ["ml", "*"]


def test_two_settings_are_enough() -> None:
    issuer = parsed("issuers: { staff: { issuer: 'https://login.example.com', audience: lockgate } }")
    assert (issuer.audience, issuer.algorithms, issuer.caller_claim, issuer.leeway) == (("lockgate",), ALGORITHMS, "sub", 30.0)
    assert policies_of(issuer) == {"*": PolicyConfig("*")}
    assert not any(name.startswith(("HS", "none")) for name in ALGORITHMS)


def test_a_policy_is_a_key_without_a_secret() -> None:
    issuer = parsed(FULL)
    key = key_of_policy(issuer.policies["ml"], caller_name("staff", "alice"), "search")
    assert (key.name, key.hash, key.team, key.expires) == ("staff/alice", "", "search", None)
    assert key.limits.spend == (Rate(20 * 10**9, "day"),)
    assert (key.limits_per_user.requests, key.bring_credentials, key.require_end_user) == ((Rate(1, "s"),), ("openai",), True)
    assert (key.budget_brought_credentials, key.strict, key.disabled) == (False, True, False)
    assert key_of_policy(issuer.policies["*"], "staff/bob", None).disabled


def test_policies_have_their_paths() -> None:
    found = policy_keys({"staff": parsed(FULL)})
    assert [(path, key.team) for path, key in found] == [("issuers.staff.policies.ml", "search"), ("issuers.staff.policies.*", None)]
