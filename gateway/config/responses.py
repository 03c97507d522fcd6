"""Settings of the responses that are stored for callers of the Responses API."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from gateway.config.field_types import Lifetime, Size

DEFAULT_TTL_S = 30 * 24 * 3600.0
"""30 days, as with OpenAI."""


class ResponsesConfig(Struct, frozen=True):
    """Limits on the age and the total size of stored responses."""

    ttl: Annotated[
        Lifetime,
        Meta(description="Time after which a stored response is deleted.", examples=["7d"]),
    ] = DEFAULT_TTL_S
    max_bytes: Annotated[
        Size,
        Meta(
            description="Maximum total size of the stored responses; the oldest are deleted first. One response with its "
            "conversation may take up to an eighth of this size. With `0`, no responses are stored.",
            examples=["512MiB"],
        ),
    ] = 128 << 20
