"""Settings of the cache of answers: for one model, and for all answers together."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.field_types import Lifetime, Size

Scope = Literal["key", "team", "global"]


class CacheConfig(Struct, frozen=True, gc=False):
    """The cache of a model: its answers are stored and sent again for equal requests."""

    ttl: Annotated[
        Lifetime,
        Meta(description="Time after which a cached answer expires.", examples=["10m"]),
    ]
    scope: Annotated[
        Scope,
        Meta(
            description="Callers that share cached answers: those with the same key (`key`), those of the same team (`team`; a key "
            "without a team shares with no other key), or all callers (`global`).",
            examples=["team"],
        ),
    ] = "key"


class CacheBounds(Struct, frozen=True):
    """Limits on the size of cached answers."""

    max_bytes: Annotated[
        Size,
        Meta(
            description="Maximum size of all cached answers. To make room, the store in memory drops the least recently "
            "used answers, and Redis drops those that expire first.",
            examples=["512MiB"],
        ),
    ] = 64 << 20
    max_answer_bytes: Annotated[
        Size,
        Meta(
            description="Maximum size of one cached answer, and at most an eighth of `max_bytes`. Larger answers are not cached.",
            examples=["4MiB"],
        ),
    ] = 1 << 20
