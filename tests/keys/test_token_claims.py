"""The claims of a token: the caller, the end user, the team and the policy."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.issuer import IssuerConfig, PolicyConfig
from gateway.errors import Forbidden, GatewayError, InvalidToken
from gateway.keys.token_claims import MAX_CLAIM_CHARS, claim, claim_values, read_identity
from tests.support.each import each

POLICIES = {"admin": PolicyConfig("admin", team="ops"), "dev": PolicyConfig("dev")}


def issuer(**settings: Any) -> IssuerConfig:
    """Return an issuer with these settings."""
    return IssuerConfig("staff", "https://login.example.com", ("lockgate",), **settings)


def refused(settings: dict[str, Any], claims: dict[str, Any]) -> tuple[type[GatewayError], str | None]:
    """Return the error for a token, without its text, which must not contain a value of a claim."""
    with pytest.raises(GatewayError) as error:
        read_identity(issuer(**settings), claims)
    assert "secret-value" not in str(error.value)
    return type(error.value), error.value.code


@each(
    ("path", "values"),
    [
        ("sub", ["alice"]),
        ("realm_access.roles", ["dev", "admin"]),
        ("https://example.com/roles", ["own"]),
        ("a.b", ["flat"]),
        ("scope", ["openid", "gateway:call"]),
        ("name", ["Alice Example"]),
        ("verified", ["true"]),
        ("level", ["3"]),
        ("mixed", ["x", "1", "false"]),
        ("nothing", []),
        ("sub.more", []),
        ("realm_access", []),
        ("empty", []),
    ],
)
def test_a_claim_is_found_by_its_name_or_its_path(path: str, values: list[str]) -> None:
    claims = {
        "sub": "alice", "realm_access": {"roles": ["dev", "admin"]}, "https://example.com/roles": ["own"],
        "a.b": "flat", "a": {"b": "deep"}, "scope": "openid gateway:call", "name": "Alice Example", "verified": True, "level": 3,
        "mixed": ["x", 1, False, None, {"y": 1}, ""], "empty": "",
    }  # fmt: skip
    assert claim_values(claims, path) == values


def test_a_nested_claim_is_returned_as_it_is() -> None:
    assert claim({"a": {"b": {"c": 1}}}, "a.b") == {"c": 1}
    assert claim({"a": [1]}, "a.0") is None


def test_a_caller_is_named_by_issuer_and_subject() -> None:
    identity = read_identity(issuer(), {"sub": "alice"})
    assert (identity.name, identity.policy.name, identity.teams, identity.end_user) == ("staff/alice", "*", (), "")
    other = read_identity(issuer(caller_claim="azp", user_claim="email"), {"sub": "alice", "azp": "app", "email": "a@example.com"})
    assert (other.name, other.end_user) == ("staff/app", "a@example.com")
    assert read_identity(issuer(caller_claim="id"), {"id": 7}).name == "staff/7"


def test_a_blocked_caller_is_rejected() -> None:
    settings = {"blocked": ("mallory", "7"), "caller_claim": "azp"}
    for name in ("mallory", 7):
        assert refused(settings, {"sub": "alice", "azp": name}) == (Forbidden, "key_disabled")
    assert read_identity(issuer(**settings), {"sub": "mallory", "azp": "alice"}).name == "staff/alice"


@each("value", [None, "", " alice", "a\nb", "x" * (MAX_CLAIM_CHARS + 1), ["alice"], {"a": 1}, True])
def test_a_caller_without_a_usable_name_is_rejected(value: Any) -> None:
    assert refused({}, {"sub": value}) == (InvalidToken, "invalid_token")
    assert refused({"user_claim": "email"}, {"sub": "alice", "email": value}) == (InvalidToken, "invalid_token")


@each(
    ("roles", "policy"),
    [("dev", "dev"), (["dev", "admin"], "admin"), (["other", "dev"], "dev"), (["other"], None), (None, None), ("*", None), (["DEV"], None)],
)
def test_the_first_policy_applies_that_the_token_has(roles: Any, policy: str | None) -> None:
    claims = {"sub": "alice", "roles": roles}
    settings: dict[str, Any] = {"policy_claim": "roles", "policies": POLICIES}
    if policy is None:
        assert refused(settings, claims) == (Forbidden, "token_not_allowed")
    else:
        assert read_identity(issuer(**settings), claims).policy.name == policy
    settings["policies"] = {"*": PolicyConfig("*"), **POLICIES}
    assert read_identity(issuer(**settings), {"sub": "alice", "roles": ["*", "dev"]}).policy.name == "dev"
    assert read_identity(issuer(**settings), claims).policy.name == (policy or "*")


@each(
    ("groups", "teams"),
    [
        (["g1"], ("search",)),
        (["x", "g2", "g1"], ("ops", "search")),
        ("g2", ("ops",)),
        (["x"], Forbidden),
        (None, InvalidToken),
        ([], InvalidToken),
    ],
)
def test_groups_lead_to_teams(groups: Any, teams: Any) -> None:
    settings = {"team_claim": "groups", "teams": {"g1": "search", "g2": "ops"}}
    claims = {"sub": "alice", "groups": groups}
    if isinstance(teams, tuple):
        assert read_identity(issuer(**settings), claims).teams == teams
    else:
        assert refused(settings, claims)[0] is teams


def test_the_team_of_the_policy_applies_if_the_token_names_none() -> None:
    settings: dict[str, Any] = {"policy_claim": "roles", "policies": POLICIES, "team_claim": "team"}
    assert read_identity(issuer(**settings), {"sub": "a", "roles": "admin"}).teams == ("ops",)
    assert read_identity(issuer(**settings), {"sub": "a", "roles": "admin", "team": "search"}).teams == ("search", "ops")
    assert refused(settings, {"sub": "a", "roles": "dev"}) == (InvalidToken, "invalid_token")


@each(
    ("claims", "error"),
    [
        ({"email_verified": True, "hd": "example.com"}, None),
        ({"email_verified": True, "hd": ["x", "example.org"]}, None),
        ({"email_verified": False, "hd": "example.com"}, Forbidden),
        ({"email_verified": True, "hd": "secret-value"}, Forbidden),
        ({"email_verified": True}, InvalidToken),
    ],
)
def test_required_claims_must_have_an_accepted_value(claims: dict[str, Any], error: type[GatewayError] | None) -> None:
    settings = {"require": {"email_verified": ("true",), "hd": ("example.com", "example.org")}}
    if error is None:
        assert read_identity(issuer(**settings), {"sub": "alice", **claims}).name == "staff/alice"
    else:
        assert refused(settings, {"sub": "alice", **claims})[0] is error
