"""Settings of the two listeners: TLS, the admin listener, and the settings for callers."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.field_types import KEY_HASH_EXAMPLE, Duration, File, KeyHash, Listen
from gateway.config.formats import Address


class TlsConfig(Struct, frozen=True):
    """Certificate and private key of the callers' listener. A reload loads changed files again."""

    cert: Annotated[
        File,
        Meta(
            description="PEM file with the certificate and its chain. A relative path is resolved against the "
            "folder of the YAML file.",
            examples=["/etc/lockgate/tls.crt"],
        ),
    ]
    key: Annotated[
        File,
        Meta(description="PEM file with the private key, without a passphrase.", examples=["/etc/lockgate/tls.key"]),
    ]


class AdminConfig(Struct, frozen=True):
    """The admin listener for health, metrics and administration. Callers use the other listener."""

    listen: Annotated[Listen, Meta(description="HOST:PORT of the admin listener.", examples=["0.0.0.0:8081"])] = (
        Address("127.0.0.1", 8081)
    )
    key_hash: Annotated[
        KeyHash | None,
        Meta(
            description="SHA-256 of the admin key, as `sha256:` and 64 hexadecimal digits. Required unless the "
            "listener is on loopback.",
            examples=[KEY_HASH_EXAMPLE],
        ),
    ] = None
    metrics: Annotated[
        Literal["keyed", "open"],
        Meta(description="Whether `/metrics` requires the admin key (`keyed`) or not (`open`).", examples=["open"]),
    ] = "keyed"
    hosts: Annotated[
        tuple[Annotated[str, Meta(extra={"form": "host"})], ...],
        Meta(
            description="Names besides localhost by which the admin listener is reached without an admin key. "
            "Requests with another name in `Host` are rejected (403), except for `/healthz`, `/readyz` and the files of the page.",
            examples=[["host.docker.internal"]],
        ),
    ] = ()


class CallersConfig(Struct, frozen=True):
    """Timeouts for the connections of callers, and the paths of their listener."""

    headers: Annotated[
        Duration,
        Meta(
            description="Maximum time from a new connection to the complete head of its first request, and from the beginning of "
            "each later head to its end.",
            examples=["5s"],
        ),
    ] = 10.0
    body: Annotated[
        Duration,
        Meta(
            description="Maximum pause within a request body. The whole body may take this time, and one second more for "
            "each 4 KiB received.",
            examples=["10s"],
        ),
    ] = 30.0
    write_stall: Annotated[
        Duration,
        Meta(description="Maximum time for which a caller may read nothing of its response.", examples=["30s"]),
    ] = 60.0
    heartbeat: Annotated[
        Duration,
        Meta(
            description="Pause in a stream after which the gateway sends a comment, to keep the connection open.",
            examples=["5s"],
        ),
    ] = 15.0
    openapi: Annotated[
        bool,
        Meta(
            description="Whether callers may read the OpenAPI document of their APIs at `/openapi.json`. The admin "
            "listener always has it, for both listeners.",
            examples=[True],
        ),
    ] = False
    health: Annotated[
        bool,
        Meta(
            description="Whether this listener answers `/healthz` too, without a key, for load balancers that check the "
            "port to which they send calls.",
            examples=[True],
        ),
    ] = False
    base_path: Annotated[
        Annotated[str, Meta(pattern=r"^(/[A-Za-z0-9._~-]+)*$")],
        Meta(
            description="Path below which all paths of this listener are served as well, for reverse proxies that do not "
            "remove it.",
            examples=["/llm"],
        ),
    ] = ""
