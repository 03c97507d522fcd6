"""Settings of `load_metrics`, which reads the load of a server from its Prometheus metrics."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from gateway.config.field_types import Duration


class LoadMetricsConfig(Struct, frozen=True):
    """The load that a vLLM server reports. It is read only if `balance: prefix` compares targets of the provider."""

    enabled: Annotated[bool, Meta(description="Whether the load is read.", examples=[False])] = True
    path: Annotated[
        Annotated[str, Meta(pattern="^/")] | None,
        Meta(
            description="Path of the metrics at the server. Default: `/metrics` in place of the `/v1` at the end of `base_url`.",
            examples=["/metrics"],
        ),
    ] = None
    every: Annotated[
        Duration,
        Meta(
            description="Time between two requests to a server. With many servers, the time is longer, so that a process sends at most 100 "
            "requests per second.",
            examples=["2s"],
        ),
    ] = 1.0
