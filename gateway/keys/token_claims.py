"""Reads the claims of a verified token: the caller, the end user, the team and the policy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from gateway.config.issuer import OTHERS, IssuerConfig, PolicyConfig, caller_name, policies_of
from gateway.errors import Forbidden, InvalidToken

MAX_CLAIM_CHARS = 255
"""Maximum length of the name of a caller or end user: the same as for a subject in OpenID Connect."""
SCOPES = ("scope", "scp")
"""Claims whose text is a list separated by spaces (RFC 8693)."""


class TokenIdentity(msgspec.Struct, frozen=True):
    """The caller of a token."""

    name: str
    """The name of the caller, by which limits are enforced and usage is counted: ISSUER/SUBJECT."""
    policy: PolicyConfig
    teams: tuple[str, ...]
    """Names of teams. The first known team is the caller's. If there are no names, the caller has no team."""
    end_user: str


def read_identity(issuer: IssuerConfig, claims: dict[str, Any]) -> TokenIdentity:
    """Return the caller of a token. Raise InvalidToken if a claim is missing or unusable, and Forbidden if the caller is not allowed."""
    _check_required(issuer, claims)
    subject = _name_in(claims, issuer.caller_claim)
    name = caller_name(issuer.name, subject)
    if subject in issuer.blocked:
        raise Forbidden(f"The caller '{name}' is blocked. Ask the operator for access.", code="key_disabled")
    end_user = _name_in(claims, issuer.user_claim) if issuer.user_claim is not None else ""
    policy = _policy_of(issuer, claims)
    return TokenIdentity(name, policy, _teams_in(issuer, policy, claims), end_user)


def claim(claims: dict[str, Any], path: str) -> Any:
    """Return a claim, or None.

    `path` is the name of a claim, such as `https://example.com/roles`. If no claim has this name, `path` is read as the names
    of nested claims, separated by dots.
    """
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def claim_values(claims: dict[str, Any], path: str) -> list[str]:
    """Return the values of a claim as a list of texts, which may be empty."""
    value = claim(claims, path)
    if isinstance(value, str) and path in SCOPES:
        return value.split()
    return [text for each in (value if isinstance(value, list) else [value]) if (text := _text(each))]


def _text(value: Any) -> str:
    """Return a string, a boolean or an integer as text, as in JSON but without quotes; "" for any other value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else ""


def _name_in(claims: dict[str, Any], path: str) -> str:
    value = claim(claims, path)
    name = _text(value) if not isinstance(value, bool) else ""
    if not name:
        raise InvalidToken(f"The token has no text in its claim '{path}'. Request a token with this claim.")
    if len(name) > MAX_CLAIM_CHARS or not name.isprintable() or name != name.strip():
        text = f"The token's claim '{path}' must be printable text of at most {MAX_CLAIM_CHARS} characters, without spaces around it."
        raise InvalidToken(text)
    return name


def _check_required(issuer: IssuerConfig, claims: dict[str, Any]) -> None:
    for path, accepted in issuer.require.items():
        values = claim_values(claims, path)
        if not values:
            raise InvalidToken(f"The token has no claim '{path}'. Request a token with this claim.")
        if not _has_any(values, accepted):
            raise Forbidden(f"The token's claim '{path}' has no value that is accepted here.", code="token_not_allowed")


def _has_any(values: Collection[str], accepted: Collection[str]) -> bool:
    return any(value in accepted for value in values)


def _policy_of(issuer: IssuerConfig, claims: dict[str, Any]) -> PolicyConfig:
    policies = policies_of(issuer)
    values = claim_values(claims, issuer.policy_claim) if issuer.policy_claim is not None else []
    for name, policy in policies.items():
        if name != OTHERS and name in values:
            return policy
    if OTHERS in policies:
        return policies[OTHERS]
    text = f"No policy applies to this token: its claim '{issuer.policy_claim}' has none of the values that are accepted here."
    raise Forbidden(f"{text} Ask the operator for access.", code="token_not_allowed")


def _teams_in(issuer: IssuerConfig, policy: PolicyConfig, claims: dict[str, Any]) -> tuple[str, ...]:
    own = () if policy.team is None else (policy.team,)
    if issuer.team_claim is None:
        return own
    values = claim_values(claims, issuer.team_claim)
    named = tuple(issuer.teams[value] for value in values if value in issuer.teams) if issuer.teams else tuple(values)
    if named or own:
        return named + own
    if values:
        text = f"The token's claim '{issuer.team_claim}' names no team of this gateway. Ask the operator for a team."
        raise Forbidden(text, code="team_unknown")
    raise InvalidToken(f"The token has no team in its claim '{issuer.team_claim}'. Request a token with this claim.")
