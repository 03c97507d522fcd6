"""Settings of the issuers whose signed tokens (JSON Web Tokens, RFC 7519) are accepted as well as keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.field_types import STRICT_DESCRIPTION, Duration, File, Name, Pause
from gateway.config.key import KeyConfig, ModelAccess
from gateway.config.limit import LimitsConfig
from gateway.config.problem import join
from gateway.config.secret import Url

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signature algorithms with a public key. With a shared secret (HS256), everyone who can verify a token could issue one."""
ALGORITHMS: tuple[Algorithm, ...] = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
OTHERS = "*"
"""The name of the policy for tokens to which no other policy applies."""

_Text = Annotated[str, Meta(min_length=1)]
_Texts = Annotated[tuple[str, ...], Meta(extra={"form": "text"})]
_Values = Annotated[tuple[str, ...], Meta(extra={"form": "claim_value"})]
_Models = tuple[_Text, ...] | dict[str, ModelAccess]


class PolicyConfig(Struct, frozen=True):
    """A policy for callers with a token of an issuer. Its settings have the same meaning as those of a key."""

    name: Name
    models: Annotated[
        _Models | None,
        Meta(
            description="Models that these callers may use: a list, or a mapping of names and patterns to their settings. "
            "A name may end in `*`. Default: all.",
            examples=[["smart", "fast"]],
        ),
    ] = None
    passthrough: Annotated[
        tuple[_Text, ...] | None,
        Meta(
            description="Patterns of `passthrough` that these callers may use. A name may end in `*`, and `*` stands for all. "
            "Default: all, or none if `models` is set.",
            examples=[["/v1/audio/*"]],
        ),
    ] = None
    team: Annotated[
        _Text | None,
        Meta(
            description="The team of these callers, unless their token names a known one (`team_claim`). Its limits and models "
            "apply as well.",
            examples=["search"],
        ),
    ] = None
    tags: Annotated[
        tuple[Annotated[str, Meta(extra={"form": "tag"})], ...],
        Meta(description="Tags of all calls of these callers, in addition to those that a call names.", examples=[["search"]]),
    ] = ()
    disabled: Annotated[bool, Meta(description="Reject these callers.", examples=[True])] = False
    strict: Annotated[bool | None, Meta(description=STRICT_DESCRIPTION, examples=[True])] = None
    limits: Annotated[
        LimitsConfig, Meta(description="Limits of each caller, for all its tokens together.", examples=[{"spend": "20 USD/day"}])
    ] = LimitsConfig()
    limits_per_user: Annotated[
        LimitsConfig,
        Meta(
            description="Limits for each end user of a caller. The end user is taken from `user_claim`, or else from the call.",
            examples=[{"requests": "20/min"}],
        ),
    ] = LimitsConfig()
    bring_credentials: Annotated[
        tuple[_Text, ...],
        Meta(
            description="Providers for which these callers may bring their own credential, in the header "
            "`x-gateway-credential-PROVIDER`. Default: none.",
            examples=[["openai"]],
        ),
    ] = ()
    budget_brought_credentials: Annotated[
        bool,
        Meta(description="Whether spend on credentials that callers bring counts towards budgets.", examples=[False]),
    ] = True
    require_end_user: Annotated[
        bool, Meta(description="Reject calls that name no end user (400).", examples=[True])
    ] = False
    capture: Annotated[
        Literal["none", "content"],
        Meta(
            description="`content`: keep the text of requests and responses in the call records, for `calls.content_ttl`. It is not "
            "encrypted.",
            examples=["content"],
        ),
    ] = "none"
    priority: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | None,
        Meta(
            description="Weight of each of these callers in the queue of a target that has reached `max_concurrent`. "
            "Default: the priority of the team, else 100.",
            examples=[200],
        ),
    ] = None


class IssuerConfig(Struct, frozen=True):
    """An issuer of signed tokens (JWT), such as an OpenID provider. Its callers are named ISSUER/SUBJECT."""

    name: Name
    issuer: Annotated[
        _Text,
        Meta(
            description="The issuer exactly as its tokens state it (`iss`).",
            examples=["https://login.example.com/realms/staff"],
        ),
    ]
    audience: Annotated[
        _Texts,
        Meta(
            description="The audience of tokens for this gateway (`aud`), or a list of audiences. Tokens for other services are rejected.",
            examples=["lockgate"],
        ),
    ]
    jwks_url: Annotated[
        Annotated[str, Meta(extra={"form": "https_url"})] | None,
        Meta(
            description="URL of the issuer's public keys (a JSON Web Key Set). Default: `jwks_uri` in the document "
            "`/.well-known/openid-configuration` below `issuer`.",
            examples=["https://login.example.com/realms/staff/protocol/openid-connect/certs"],
        ),
    ] = None
    jwks_file: Annotated[
        File | None,
        Meta(
            description="File with the issuer's public keys, for a gateway that cannot reach the issuer. A changed file is loaded "
            "without a restart.",
            examples=["staff-jwks.json"],
        ),
    ] = None
    ca: Annotated[
        File | None,
        Meta(
            description="PEM file with certificate authorities to trust for the issuer, in addition to those of the system.",
            examples=["/etc/ssl/company-ca.pem"],
        ),
    ] = None
    proxy: Annotated[
        Annotated[Url, Meta(extra={"form": "proxy"})] | None,
        Meta(
            description="URL of a proxy to the issuer, or `env` to use HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.",
            examples=["http://proxy:3128"],
        ),
    ] = None
    refresh: Annotated[
        Duration,
        Meta(
            description="Interval at which the issuer's keys are fetched. A token that is signed with an unknown key causes an "
            "earlier fetch, at most every 10s.",
            examples=["10m"],
        ),
    ] = 600.0
    algorithms: Annotated[
        tuple[Algorithm, ...],
        Meta(description="Signature algorithms that are accepted. Default: all that the gateway supports.", examples=[["RS256", "ES256"]]),
    ] = ALGORITHMS
    leeway: Annotated[
        Pause,
        Meta(
            description="Clock difference that is tolerated when the times in a token are checked, at most 5m.",
            examples=["10s"],
        ),
    ] = 30.0
    require: Annotated[
        dict[str, _Values],
        Meta(
            description="Claims that tokens must have, with the accepted value or a list of accepted values. A token without the "
            "claim is rejected with a 401, and one with another value with a 403.",
            examples=[{"email_verified": True, "hd": "example.com"}],
        ),
    ] = {}
    caller_claim: Annotated[
        _Text,
        Meta(
            description="Claim that identifies the caller. Limits apply, and usage is counted, for each of its values. Parts of a "
            "nested claim are separated by dots.",
            examples=["azp"],
        ),
    ] = "sub"
    blocked: Annotated[
        tuple[_Text, ...],
        Meta(
            description="Values of `caller_claim` that are rejected (403) even in a valid token.",
            examples=[["mallory"]],
        ),
    ] = ()
    user_claim: Annotated[
        _Text | None,
        Meta(
            description="Claim that names the end user. It takes precedence over headers and fields of the request. Default: none.",
            examples=["email"],
        ),
    ] = None
    team_claim: Annotated[
        _Text | None,
        Meta(
            description="Claim with the name of the team or a list of groups. In a list, the first name of a known team applies. "
            "Default: the team of the policy.",
            examples=["department"],
        ),
    ] = None
    teams: Annotated[
        dict[str, _Text],
        Meta(
            description="Team by value of `team_claim`. Default: the value is the name of the team.",
            examples=[{"9f6c1e2a-search": "search"}],
        ),
    ] = {}
    policy_claim: Annotated[
        _Text | None,
        Meta(
            description="Claim that selects the policy: one value or a list, such as roles or groups; `scope` is split at spaces.",
            examples=["realm_access.roles"],
        ),
    ] = None
    policies: Annotated[
        dict[str, PolicyConfig],
        Meta(
            description="Policies by value of `policy_claim`. If a token has several of these values, the first policy in the order "
            "of this mapping applies. `*` applies to tokens that have none; without `*`, they are rejected (403). Default: one policy "
            "without restrictions.",
            examples=[{"ml-engineer": {"models": ["smart"]}, "*": {"models": ["fast"]}}],
        ),
    ] = {}
    key_set: Annotated[str, Meta(extra={"form": "outside"})] = ""
    """The content of `jwks_file`."""


def key_of_policy(policy: PolicyConfig, name: str, team: str | None) -> KeyConfig:
    """Return a policy in the form of a key, for the caller `name` and its team, if any. The key has no hash, as a policy has no secret."""
    return KeyConfig(
        name,
        "",
        policy.models,
        policy.passthrough,
        team,
        policy.disabled,
        strict=policy.strict,
        limits=policy.limits,
        limits_per_user=policy.limits_per_user,
        bring_credentials=policy.bring_credentials,
        budget_brought_credentials=policy.budget_brought_credentials,
        require_end_user=policy.require_end_user,
        capture=policy.capture,
        priority=policy.priority,
    )


def policies_of(issuer: IssuerConfig) -> dict[str, PolicyConfig]:
    """Return the policies by value of the claim. An issuer without policies has one policy without restrictions for all tokens."""
    return issuer.policies or {OTHERS: PolicyConfig(OTHERS)}


def policy_keys(issuers: Mapping[str, IssuerConfig]) -> list[tuple[str, KeyConfig]]:
    """Return the path of each policy in the configuration, and the policy in the form of a key."""
    return [
        (join(f"{join('issuers', name)}.policies", value), key_of_policy(policy, name, policy.team))
        for name, issuer in issuers.items()
        for value, policy in issuer.policies.items()
    ]


def caller_name(issuer: str, subject: str) -> str:
    """Return the name of a token's caller. By this name, limits are enforced and usage is counted."""
    return f"{issuer}/{subject}"
