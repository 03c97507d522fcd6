"""Settings of `instances`, which makes each address of a provider's host a target of its own."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.field_types import Duration


class InstancesConfig(Struct, frozen=True):
    """Instances of a server behind one name, such as the pods of a headless Service."""

    source: Annotated[
        Literal["dns"],
        Meta(description="`dns`: the instances are the addresses to which the host of `base_url` resolves.", examples=["dns"]),
    ] = "dns"
    every: Annotated[Duration, Meta(description="Time between two lookups.", examples=["2s"])] = 5.0
