"""The parts of the configuration that say what is shown of the gateway, and to whom."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from gateway.config.secret import Secret

Url = Annotated[str, Meta(extra={"form": "base_url"})]
Header = Annotated[Secret, Meta(extra={"form": "header"})]


class MetricsConfig(Struct, frozen=True):
    """What /metrics shows. Read when the process starts."""

    max_series: Annotated[
        int, Meta(ge=500, le=200_000, description="Most series of a scrape; what would be more is counted as 'other'.")
    ] = 2000


class TracesConfig(Struct, frozen=True):
    """OpenTelemetry traces. What is left out is taken from the OTEL_* variables. Read when the process starts."""

    endpoint: Annotated[
        Url | None,
        Meta(description="Base URL of a collector that takes OTLP over HTTP: http://otel-collector:4318"),
    ] = None
    headers: Annotated[dict[str, Header], Meta(description="Extra headers for the collector.")] = {}
    sample: Annotated[float, Meta(ge=0, le=1, description="The share of calls to trace, where the caller has not decided already.")] = 1.0
    capture_content: Annotated[bool, Meta(description="Put prompts and answers into the spans.")] = False
