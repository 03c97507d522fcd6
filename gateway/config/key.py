"""Settings of virtual keys and teams."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.field_types import KEY_HASH_EXAMPLE, STRICT_DESCRIPTION, KeyHash, Name
from gateway.config.limit import LimitsConfig


class ModelAccess(Struct, frozen=True, gc=False):
    """Settings of a key or team for a model, or for the models of a pattern."""

    limits: Annotated[
        LimitsConfig,
        Meta(
            description="Limits for all calls that ask for this model, or for any model of this pattern.",
            examples=[{"spend": "5 USD/day"}],
        ),
    ] = LimitsConfig()


DEFAULT_PRIORITY = 100
"""The priority of a key if neither the key nor its team sets one."""

_Models = tuple[Annotated[str, Meta(min_length=1)], ...] | dict[str, ModelAccess]
_Patterns = tuple[Annotated[str, Meta(min_length=1)], ...]


class TeamConfig(Struct, frozen=True, gc=False):
    """A group of keys with common limits and models."""

    name: Name
    models: Annotated[
        _Models | None,
        Meta(
            description="Models that keys of this team may use, if the key itself allows them too: a list, or a mapping "
            "of names and patterns to their settings. Default: all.",
            examples=[["smart", "fast"]],
        ),
    ] = None
    passthrough: Annotated[
        _Patterns | None,
        Meta(
            description="Patterns of `passthrough` that keys of this team may use, if the key itself allows them too. An "
            "entry may end in `*`. Default: all, or none if `models` is set.",
            examples=[["/v1/audio/*"]],
        ),
    ] = None
    disabled: Annotated[bool, Meta(description="Reject all keys of this team.", examples=[True])] = False
    limits: Annotated[
        LimitsConfig,
        Meta(
            description="Limits for all calls with keys of this team together.", examples=[{"spend": "500 USD/month"}]
        ),
    ] = LimitsConfig()
    priority: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | None,
        Meta(
            description="Priority of each key of this team that has no `priority` of its own.",
            examples=[200],
        ),
    ] = None


class KeyConfig(Struct, frozen=True, gc=False):
    """A virtual key: the credential of a caller, with its models and limits."""

    name: Name
    hash: Annotated[
        KeyHash,
        Meta(
            description="SHA-256 of the key, as `sha256:` and 64 hexadecimal digits, or `file:PATH`. "
            'To compute it: `printf %s "$KEY" | sha256sum`.',
            examples=[KEY_HASH_EXAMPLE],
        ),
    ]
    models: Annotated[
        _Models | None,
        Meta(
            description="Models that this key may use: a list, or a mapping of names and patterns to their settings. "
            "A name may end in `*`. Default: all.",
            examples=[["smart", "fast"]],
        ),
    ] = None
    passthrough: Annotated[
        _Patterns | None,
        Meta(
            description="Patterns of `passthrough` that this key may use. A name may end in `*`, and `*` stands for all. "
            "Default: all, or none if `models` is set.",
            examples=[["/v1/audio/*"]],
        ),
    ] = None
    team: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="A team in this file. Its limits and models apply as well.", examples=["search"]),
    ] = None
    disabled: Annotated[bool, Meta(description="Reject this key.", examples=[True])] = False
    expires: Annotated[
        Annotated[datetime, Meta(extra={"form": "expires"})] | None,
        Meta(
            description="Last day (UTC) on which the key is accepted, or the moment from which it is rejected. "
            "Default: never.",
            examples=["2027-12-31"],
        ),
    ] = None
    strict: Annotated[bool | None, Meta(description=STRICT_DESCRIPTION, examples=[True])] = None
    limits: Annotated[
        LimitsConfig, Meta(description="Limits for all calls with this key.", examples=[{"requests": "600/min"}])
    ] = LimitsConfig()
    limits_per_user: Annotated[
        LimitsConfig,
        Meta(
            description="Limits for each end user of this key. A call names its end user in `user` or `safety_identifier` (in the "
            "Messages API, `metadata.user_id`) or in the header that `end_user_header` names. All calls that name no "
            "end user count as one user.",
            examples=[{"requests": "20/min"}],
        ),
    ] = LimitsConfig()
    bring_credentials: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Providers for which callers with this key may bring their own credential, in the header "
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
            description="Weight of this key in the queue of a target that has reached `max_concurrent`: a key with 200 gets "
            "twice as many tokens as a key with 100. Default: the priority of the team, else 100.",
            examples=[200],
        ),
    ] = None


def model_limits(entry: KeyConfig | TeamConfig) -> dict[str, LimitsConfig]:
    """Return the limits of each model or pattern for which an entry sets limits."""
    if not isinstance(entry.models, dict):
        return {}
    return {name: access.limits for name, access in entry.models.items() if access.limits != LimitsConfig()}
