"""Settings for metrics and traces."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.field_types import Lifetime, Size
from gateway.config.secret import Secret

Url = Annotated[str, Meta(extra={"form": "base_url"})]
Header = Annotated[Secret, Meta(extra={"form": "header"})]


class MetricsConfig(Struct, frozen=True):
    """Settings of `/metrics`. A change needs a restart."""

    max_series: Annotated[
        int,
        Meta(
            ge=500,
            le=200_000,
            description="Maximum number of series in a scrape. Further label values are counted as `other`.",
            examples=[5000],
        ),
    ] = 2000


class TracesConfig(Struct, frozen=True):
    """OpenTelemetry traces.

    Settings that are missing here are taken from the OTEL_* environment variables. A change needs a restart.
    """

    endpoint: Annotated[
        Url | None,
        Meta(
            description="Base URL of a collector that accepts OTLP over HTTP.", examples=["http://otel-collector:4318"]
        ),
    ] = None
    headers: Annotated[
        dict[str, Header],
        Meta(description="Additional headers for the collector.", examples=[{"x-api-key": "${OTLP_KEY}"}]),
    ] = {}
    sample: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of calls to trace, from 0 to 1. A caller's own sampling decision (`traceparent`) has priority.",
            examples=[0.1],
        ),
    ] = 1.0
    capture_content: Annotated[
        bool, Meta(description="Include the text of prompts and answers in the spans.", examples=[True])
    ] = False


class CallsConfig(Struct, frozen=True):
    """Storage of call records, and limits on their age and total size. A change needs a restart."""

    store: Annotated[
        Literal["file", "redis"],
        Meta(
            description="`file`: each gateway has its own records in the folder of `journal`. `redis`: all gateways with the same "
            "`store` share their records in it.",
            examples=["redis"],
        ),
    ] = "file"
    ttl: Annotated[
        Lifetime, Meta(description="Time after which the record of a call is deleted.", examples=["30d"])
    ] = 7 * 24 * 3600.0
    max_bytes: Annotated[
        Size,
        Meta(
            description="Maximum total size of the records; the oldest are deleted first. With `0`, no calls are recorded.",
            examples=["1GiB"],
        ),
    ] = 256 << 20
    content_ttl: Annotated[
        Lifetime,
        Meta(description="Time after which the captured content of a call is deleted (`capture` of a key).", examples=["12h"]),
    ] = 24 * 3600.0
    content_max_bytes: Annotated[
        Size,
        Meta(description="Maximum total size of the captured content; the oldest content is deleted first.", examples=["256MiB"]),
    ] = 64 << 20
