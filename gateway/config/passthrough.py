"""Settings of `passthrough:`: the paths whose calls are passed to a provider as they are."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.field_types import Duration, Name, Size

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
METHODS: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""The methods that are passed. TRACE is never passed: its response would contain the provider's credential."""
VERSION_PREFIX = "/v1"
"""The beginning of callers' paths that `base_url` replaces at the provider."""


class PassthroughConfig(Struct, frozen=True):
    """A path, and the provider to which its calls are passed. `/*` at the end stands for the path and all paths below it."""

    name: Name
    provider: Annotated[
        Annotated[str, Meta(min_length=1)],
        Meta(description="A provider in this file. It gets the calls with its own credential.", examples=["openai"]),
    ]
    path: Annotated[
        str | None,
        Meta(
            description="Path at the provider, appended to its `base_url`. `/*` at the end stands for the same part as in "
            "the pattern. Default: the pattern without its `/v1`; required if the pattern does not begin with `/v1/`.",
            examples=["/queue/*"],
        ),
    ] = None
    methods: Annotated[
        tuple[Method, ...],
        Meta(description="Methods that are passed. Others are rejected (405).", examples=[["GET", "POST"]]),
    ] = METHODS
    max_body: Annotated[
        Size,
        Meta(
            description="Maximum size of a request body, which is streamed. With `hooks`, the body is kept in memory and may have at "
            "most 32MiB.",
            examples=["100MiB"],
        ),
    ] = 1 << 30
    websocket: Annotated[
        bool,
        Meta(
            description="Whether to pass WebSocket connections, such as those of OpenAI's realtime API. If not, they are rejected (426).",
            examples=[True],
        ),
    ] = False
    websocket_idle: Annotated[
        Duration,
        Meta(description="Time without data in either direction after which a WebSocket connection is closed.", examples=["30m"]),
    ] = 600.0
