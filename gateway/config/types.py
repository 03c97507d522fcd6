"""The configuration as one frozen struct: every top-level key with its type, default, description and example.

The structs of the parts of the configuration are in modules of their own, such as provider.py, model.py and key.py. The
reader, the JSON Schema and docs/configuration.md follow these types. In the metadata of a type, `form` names the format of
a value (formats.py), and `short` names the field that a scalar in place of the mapping sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.cache import CacheBounds
from gateway.config.field_types import (
    KEY_HASH_EXAMPLE,
    STRICT_DESCRIPTION,
    Duration,
    File,
    Listen,
    Name,
    Pause,
    Secrets,
    Size,
)
from gateway.config.formats import Address
from gateway.config.hook import HookConfig
from gateway.config.issuer import IssuerConfig
from gateway.config.key import KeyConfig, TeamConfig
from gateway.config.listener import AdminConfig, CallersConfig, TlsConfig
from gateway.config.mcp import McpConfig
from gateway.config.model import ModelConfig
from gateway.config.notify import NotifyConfig
from gateway.config.passthrough import PassthroughConfig
from gateway.config.provider import ProviderConfig
from gateway.config.responses import ResponsesConfig
from gateway.config.secret import Url
from gateway.config.telemetry import CallsConfig, MetricsConfig, TracesConfig


class Config(Struct, frozen=True):
    """A complete configuration. A reload creates a new one; calls in flight keep the old one."""

    path: Name = ""
    listen: Annotated[
        Listen,
        Meta(
            description="HOST:PORT of the callers' listener. Keys or issuers are required unless it is on loopback, or `auth` "
            "is `keys` or `none`.",
            examples=["0.0.0.0:8080"],
        ),
    ] = Address("127.0.0.1", 8080)
    admin: Annotated[
        Annotated[AdminConfig, Meta(extra={"short": "listen"})],
        Meta(description="The admin listener: health, metrics, keys, usage.", examples=["127.0.0.1:8081"]),
    ] = AdminConfig()
    store: Annotated[
        Annotated[Url, Meta(extra={"form": "store"})],
        Meta(
            description="Store that counts the usage of limits: `memory://` for one process, a Redis URL for several, or "
            "`file:PATH` of a file that contains the URL.",
            examples=["redis://redis:6379/0"],
        ),
    ] = Url("memory://")
    store_password: Annotated[
        Secrets,
        Meta(
            description="Password of the store, unless it is part of the URL. A file is read again for each "
            "connection.",
            examples=["${REDIS_PASSWORD}"],
        ),
    ] = ()
    store_sentinel_password: Annotated[
        Secrets,
        Meta(
            description="Password of the Sentinels, if they require one. `store_password` is the password of their master.",
            examples=["${SENTINEL_PASSWORD}"],
        ),
    ] = ()
    store_ca: Annotated[
        File | None,
        Meta(
            description="PEM file with certificate authorities to trust for the store, in addition to those of the "
            "system.",
            examples=["/etc/ssl/redis-ca.pem"],
        ),
    ] = None
    responses: Annotated[
        ResponsesConfig,
        Meta(
            description="Limits on the age and the total size of the responses that are stored for callers of the "
            "Responses API with `store: true`.",
            examples=[{"ttl": "7d", "max_bytes": "512MiB"}],
        ),
    ] = ResponsesConfig()
    cache: Annotated[
        CacheBounds,
        Meta(
            description="Limits on the size of the answers that models with `cache` store.",
            examples=[{"max_bytes": "512MiB"}],
        ),
    ] = CacheBounds()
    catalog: Annotated[
        File | None,
        Meta(
            description="File with prices and limits of models that are newer than those in the bundled catalog, as written by "
            "`lockgate catalog update`.",
            examples=["catalog.json"],
        ),
    ] = None
    journal: Annotated[
        Annotated[str, Meta(extra={"form": "journal"})] | None,
        Meta(
            description="Folder in which usage, spend and run-time keys survive a restart; `off` for no folder. "
            "Default: under `$LOCKGATE_STATE`, else `$XDG_STATE_HOME/lockgate`, else `~/.local/state/lockgate`.",
            examples=["/var/lib/lockgate"],
        ),
    ] = None
    store_deadline: Annotated[
        Duration,
        Meta(
            description="Maximum time for one decision of the store, at most 10s. After this time, limits apply "
            "their `outage` setting.",
            examples=["100ms"],
        ),
    ] = 0.05
    metrics: Annotated[
        MetricsConfig,
        Meta(description="Settings of `/metrics` on the admin listener.", examples=[{"max_series": 5000}]),
    ] = MetricsConfig()
    calls: Annotated[
        CallsConfig,
        Meta(
            description="Records of past calls for `lockgate calls`, without prompts and answers unless a key captures them.",
            examples=[{"ttl": "30d", "max_bytes": "1GiB"}],
        ),
    ] = CallsConfig()
    traces: Annotated[
        TracesConfig | None,
        Meta(
            description="OpenTelemetry traces. Default: off.",
            examples=[{"endpoint": "http://otel-collector:4318", "sample": 0.1}],
        ),
    ] = None
    notify: Annotated[
        NotifyConfig | None,
        Meta(
            description="Notifications about budgets and targets, sent to a webhook. Default: off.",
            examples=[{"webhook": "https://hooks.example.com/services/1", "budget_thresholds": ["80%", "100%"]}],
        ),
    ] = None
    providers: Annotated[
        dict[str, ProviderConfig],
        Meta(
            description="Providers by name: vendors and servers of your own, with your credentials for them.",
            examples=[{"openai": {"api_key": "${OPENAI_API_KEY}"}}],
        ),
    ] = {}
    models: Annotated[
        dict[str, ModelConfig],
        Meta(
            description="Models that callers can ask for, by name. A name may end in `*`: `claude-*` stands for "
            "every name with that prefix, and `*` for every other name.",
            examples=[{"gpt-4o": "openai/gpt-4o"}],
        ),
    ] = {}
    passthrough: Annotated[
        dict[str, Annotated[PassthroughConfig, Meta(extra={"short": "provider"})]],
        Meta(
            description="Paths of other APIs, by pattern. Their calls are passed to a provider as they are: the bytes stay the "
            "same unless a hook changes them, and the provider's credential replaces the caller's key. The longest pattern that "
            "matches applies.",
            examples=[{"/v1/audio/*": "openai", "/v1/batches": "openai"}],
        ),
    ] = {}
    hooks: Annotated[
        tuple[Annotated[HookConfig, Meta(extra={"short": "use"})], ...],
        Meta(
            description="Rules that check or change the texts of calls, or refuse calls. They run in the order of this list. Each "
            "is a hook of your own (`MODULE:OBJECT`), the masker, the HTTP guard or the deny list.",
            examples=[[{"mask": {"kinds": ["email", "card"]}}, "team_rules:TopicRule"]],
        ),
    ] = ()
    mcp: Annotated[
        dict[str, Annotated[McpConfig, Meta(extra={"short": "url"})]],
        Meta(
            description="Servers of the Model Context Protocol by name. Callers reach a server at `/mcp/NAME` with their key. Only "
            "streamable HTTP is supported.",
            examples=[{"tools": {"url": "https://tools.example.com/mcp", "tools": ["search_*"]}}],
        ),
    ] = {}
    teams: Annotated[
        dict[str, TeamConfig],
        Meta(
            description="Teams by name: groups of keys with common limits and models.",
            examples=[{"search": {"limits": {"spend": "500 USD/month"}}}],
        ),
    ] = {}
    keys: Annotated[
        dict[str, KeyConfig],
        Meta(description="Virtual keys by name.", examples=[{"search-team": {"hash": KEY_HASH_EXAMPLE}}]),
    ] = {}
    issuers: Annotated[
        dict[str, IssuerConfig],
        Meta(
            description="Issuers of signed tokens (JWT) by name. Callers with a valid token of an issuer need no virtual key. "
            "Requires the extra `jwt` (docs/installation.md).",
            examples=[{"staff": {"issuer": "https://login.example.com", "audience": "lockgate"}}],
        ),
    ] = {}
    end_user_header: Annotated[
        Annotated[str, Meta(extra={"form": "header_name"})] | None,
        Meta(
            description="Request header that names the end user of a call, if a platform in front of the gateway sets it. It "
            "takes precedence over the fields of the request. Default: none.",
            examples=["x-end-user"],
        ),
    ] = None
    tags: Annotated[
        tuple[Annotated[str, Meta(extra={"form": "tag"})], ...],
        Meta(
            description="Tags by which usage can be added up. Calls name their tags in the header `x-gateway-tags` or in "
            "`metadata.tags`. At most 200.",
            examples=[["search", "batch"]],
        ),
    ] = ()
    auth: Annotated[
        Literal["auto", "keys", "none"],
        Meta(
            description="Whether callers need a key or a token. `auto`: yes if this file has keys or issuers; otherwise the "
            "gateway may listen only on loopback. `keys`: always, even if all keys are created at run time. `none`: never.",
            examples=["keys"],
        ),
    ] = "auto"
    callers: Annotated[
        CallersConfig,
        Meta(
            description="Timeouts for the connections of callers, and the paths of their listener.",
            examples=[{"write_stall": "30s"}],
        ),
    ] = CallersConfig()
    grace: Annotated[
        Pause,
        Meta(
            description="Time after SIGTERM for which new calls are still accepted while `/readyz` returns 503, so "
            "that load balancers can react.",
            examples=["5s"],
        ),
    ] = 0.0
    drain: Annotated[
        Pause,
        Meta(
            description="Time after `grace` for which calls in flight may run before they are ended with an error.",
            examples=["60s"],
        ),
    ] = 30.0
    default_output_tokens: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Output tokens that a call without `max_tokens` reserves from limits.",
            examples=[1024],
        ),
    ] = 4096
    retry_budget: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Maximum number of retries and fallbacks, as a share of all calls. One per second is allowed in any "
            "case.",
            examples=[0.1],
        ),
    ] = 0.2
    max_body: Annotated[Size, Meta(description="Maximum size of a request body.", examples=["8MiB"])] = 32 << 20
    cors: Annotated[
        tuple[Annotated[str, Meta(extra={"form": "origin"})], ...],
        Meta(
            description="Browser origins that may call, or `*` for all. Default: none.",
            examples=[["https://app.example.com"]],
        ),
    ] = ()
    hosts: Annotated[
        tuple[Annotated[str, Meta(extra={"form": "host"})], ...],
        Meta(
            description="Names besides localhost by which callers reach a listener that requires no keys. Requests with "
            "another name in `Host` are rejected (403). Without this setting, a listener that is not on loopback accepts "
            "every name.",
            examples=[["host.docker.internal"]],
        ),
    ] = ()
    tls: Annotated[
        TlsConfig | None,
        Meta(
            description="Serve HTTPS on the callers' listener. Default: HTTP.",
            examples=[{"cert": "tls.crt", "key": "tls.key"}],
        ),
    ] = None
    trusted_proxies: Annotated[
        tuple[Annotated[str, Meta(extra={"form": "network"})], ...],
        Meta(
            description="Addresses or networks of proxies that may set X-Forwarded-* headers. Default: none.",
            examples=[["10.0.0.0/8"]],
        ),
    ] = ()
    expose_targets: Annotated[
        bool,
        Meta(
            description="Let callers ask for PROVIDER/MODEL as well, not only for the names under `models`.",
            examples=[True],
        ),
    ] = False
    strict: Annotated[bool, Meta(description=STRICT_DESCRIPTION, examples=[True])] = False

    @property
    def requires_keys(self) -> bool:
        """Whether callers need a key or a token."""
        return self.auth == "keys" or (self.auth == "auto" and bool(self.keys or self.issuers))


def matching_wildcard(name: str, patterns: Iterable[str]) -> str | None:
    """Return the longest pattern `prefix*` that matches `name`, or None."""
    matching = [pattern for pattern in patterns if pattern.endswith("*") and name.startswith(pattern[:-1])]
    return max(matching, key=len, default=None)
