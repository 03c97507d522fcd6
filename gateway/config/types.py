"""The configuration as frozen structs: every key of the YAML with its type, default, description and example.

The reader, the JSON Schema and docs/configuration.md follow these types. A `form` in the metadata of a type names how its
text is written (see formats.py); `short` names the field that a bare value sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.field_types import Duration, File, KeyHash, Listen, Name, Pause, Secrets, Size
from gateway.config.formats import Address
from gateway.config.limit import HedgeDelay, LimitsConfig
from gateway.config.provider import ProviderConfig
from gateway.config.route import Balance, Ref, Route
from gateway.config.secret import Url
from gateway.config.telemetry import MetricsConfig, TracesConfig

_KEY_HASH = "sha256:447b9e85ddf3f879fbafe09c54faded276f03073c96626cf2aee056126327dda"
_STRICT = "Reject (400) what a target cannot honour, instead of adjusting the request and reporting the adjustment."
_Models = tuple[Annotated[str, Meta(min_length=1)], ...]
_Tokens = Annotated[int, Meta(ge=1)]


class TlsConfig(Struct, frozen=True):
    """Certificate and private key of the callers' listener. Files that change are loaded again on reload."""

    cert: Annotated[
        File,
        Meta(
            description="PEM file with the certificate and its chain. Relative paths start at the folder of the YAML file.",
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
            description="SHA-256 of the admin key, as `sha256:` and 64 hexadecimal digits. Required unless the listener is on "
            "loopback.",
            examples=[_KEY_HASH],
        ),
    ] = None
    metrics: Annotated[
        Literal["keyed", "open"],
        Meta(description="Whether `/metrics` requires the admin key (`keyed`) or not (`open`).", examples=["open"]),
    ] = "keyed"


class CallersConfig(Struct, frozen=True):
    """Timeouts for the connections of callers."""

    headers: Annotated[
        Duration,
        Meta(
            description="Maximum time from a new connection to the complete head of its first request, and for each later "
            "head once it has begun.",
            examples=["5s"],
        ),
    ] = 10.0
    body: Annotated[
        Duration,
        Meta(
            description="Maximum pause within a request body. Also the maximum time for a whole body that arrives at less than "
            "4 KiB per second.",
            examples=["10s"],
        ),
    ] = 30.0
    write_stall: Annotated[
        Duration,
        Meta(description="Maximum time in which a caller reads nothing of its response.", examples=["30s"]),
    ] = 60.0
    heartbeat: Annotated[
        Duration,
        Meta(
            description="Pause in a stream after which the gateway sends a comment, to keep the connection open.",
            examples=["5s"],
        ),
    ] = 15.0


class ContextConfig(Struct, frozen=True):
    """What happens to a conversation that exceeds the context window. Without these settings the provider decides."""

    overflow: Annotated[
        Literal["truncate", "error"] | None,
        Meta(
            description="`truncate`: lower the output cap, then evict messages. `error`: reject the call (400). Applies to "
            "callers that do not choose themselves.",
            examples=["truncate"],
        ),
    ] = None
    policy: Annotated[
        Literal["oldest-first", "middle-out"] | None,
        Meta(
            description="Which messages are evicted first. System messages and the last user turn are never evicted. "
            "Default: `oldest-first`.",
            examples=["middle-out"],
        ),
    ] = None
    max_prompt_tokens: Annotated[
        _Tokens | None,
        Meta(
            description="Maximum prompt size. A longer prompt is truncated by `policy`, or rejected with `overflow: error`. "
            "Default: unlimited.",
            examples=[32000],
        ),
    ] = None
    window: Annotated[
        _Tokens | None,
        Meta(
            description="Tokens of prompt and output together. Default: the bundled catalog's value.", examples=[131072]
        ),
    ] = None
    output: Annotated[
        _Tokens | None,
        Meta(description="Maximum tokens of one answer. Default: the bundled catalog's value.", examples=[8192]),
    ] = None
    tokenizer: Annotated[
        File | None,
        Meta(
            description="The model's `tokenizer.json` for exact counts. Requires `pip install lockgate[tokenizers]`.",
            examples=["/models/llama/tokenizer.json"],
        ),
    ] = None


class MirrorConfig(Struct, frozen=True):
    """Copies of a model's calls to another target, whose responses are discarded. Callers neither wait nor pay for them."""

    target: Annotated[
        Ref,
        Meta(
            extra={"form": "ref"},
            description="Target of the copies: PROVIDER/MODEL, or another model of this file.",
            examples=["vllm/llama-3.3-70b"],
        ),
    ]
    share: Annotated[
        Annotated[float, Meta(extra={"form": "share"})],
        Meta(description="Share of the calls to copy.", examples=["10%"]),
    ] = 1.0
    max_concurrent: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="Maximum number of copies in flight. Further calls are not copied.",
            examples=[20],
        ),
    ] = 10
    timeout: Annotated[Duration, Meta(description="Maximum time for one copy.", examples=["30s"])] = 60.0


class HedgeConfig(Struct, frozen=True):
    """A second attempt at the next target if the first is slow to answer. The first answer wins; both attempts are billed."""

    after: Annotated[
        Annotated[HedgeDelay, Meta(extra={"form": "after"})],
        Meta(
            description="Delay before the second attempt: a time, or a percentile of the target's own time to first token.",
            examples=["p95"],
        ),
    ]
    budget: Annotated[
        Annotated[float, Meta(extra={"form": "share"})],
        Meta(description="Maximum share of the calls that get a second attempt. At most 5%.", examples=["2%"]),
    ] = 0.05


class ModelSettings(Struct, frozen=True, kw_only=True):
    """Settings of a model that also apply to the models it leads to. None: the next model on the route decides, then the provider."""

    timeout: Annotated[
        Duration | None,
        Meta(
            description="Maximum time for a call, all attempts together. Default: the provider's timeout.",
            examples=["60s"],
        ),
    ] = None
    first_byte_timeout: Annotated[
        Duration | None,
        Meta(
            description="Maximum time from sending a request to its response head. Default: the provider's setting.",
            examples=["20s"],
        ),
    ] = None
    idle_timeout: Annotated[
        Duration | None,
        Meta(
            description="Maximum pause between two pieces of a response. Default: the provider's setting.",
            examples=["30s"],
        ),
    ] = None
    retries: Annotated[
        Annotated[int, Meta(ge=0, le=10)] | None,
        Meta(description="Retries at the same target before the next one is tried. Default: 0.", examples=[1]),
    ] = None
    attempts: Annotated[
        Annotated[int, Meta(ge=1, le=10)] | None,
        Meta(
            description="Maximum number of upstream requests for one call, retries and fallbacks included. Default: 3.",
            examples=[4],
        ),
    ] = None
    strict: Annotated[bool | None, Meta(description=_STRICT, examples=[True])] = None
    json_repair: Annotated[
        bool | None,
        Meta(
            description="Repeat the request once if a JSON answer does not match `response_format`. Both requests are billed. "
            "Does not apply to streams.",
            examples=[True],
        ),
    ] = None
    continue_on_cut: Annotated[
        bool | None,
        Meta(
            description="Continue a broken stream at the next target that supports it (local, llama.cpp, vLLM, Anthropic). "
            "Both attempts are billed.",
            examples=[True],
        ),
    ] = None
    context: Annotated[
        ContextConfig | None,
        Meta(
            description="What happens to a conversation that exceeds the context window.",
            examples=[{"overflow": "truncate"}],
        ),
    ] = None
    require_parameters: Annotated[
        bool | None,
        Meta(
            description="Skip targets that would drop or change a parameter of the call. If none is left, the call is "
            "rejected (400).",
            examples=[True],
        ),
    ] = None
    hedge: Annotated[
        Annotated[HedgeConfig, Meta(extra={"short": "after"})] | None,
        Meta(
            description="Start a second attempt at the next target if the first is slow to answer. Default: off.",
            examples=["p95"],
        ),
    ] = None
    mirror: Annotated[
        Annotated[MirrorConfig, Meta(extra={"short": "target"})] | None,
        Meta(
            description="Copy calls to another target and discard the responses. Default: off.",
            examples=[{"target": "vllm/llama-3.3-70b", "share": "10%"}],
        ),
    ] = None


class ModelConfig(ModelSettings, frozen=True):
    """A model that callers can ask for: its targets, how they are balanced, its limits, and its settings."""

    name: Name
    targets: Annotated[
        Route,
        Meta(
            extra={"form": "route"},
            description="Where calls go: a target (PROVIDER/MODEL), another model of this file, a list (an order: the next is "
            "tried if one fails) or a mapping to weights (a split).",
            examples=[["vllm/llama-3.3-70b", "openai/gpt-4o"]],
        ),
    ]
    balance: Annotated[
        Balance | None,
        Meta(
            description="How a split chooses: `weighted` (default), `latency` (time to first token), `least_busy`, `cost`, or "
            "`session` (the same target for the same conversation).",
            examples=["latency"],
        ),
    ] = None
    session_header: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")] | None,
        Meta(
            description="With `balance: session`, the request header that identifies a conversation. Without it, the gateway "
            "uses the field `user`, then the beginning of the prompt. Default: `x-session-id`.",
            examples=["x-conversation-id"],
        ),
    ] = None
    limits: Annotated[
        LimitsConfig,
        Meta(description="Limits for all calls that ask for this model by name.", examples=[{"concurrent": 50}]),
    ] = LimitsConfig()


class TeamConfig(Struct, frozen=True):
    """A group of keys with common limits and models."""

    name: Name
    models: Annotated[
        _Models | None,
        Meta(
            description="Models that keys of this team may use, if the key itself allows them too. Default: all.",
            examples=[["smart", "fast"]],
        ),
    ] = None
    disabled: Annotated[bool, Meta(description="Reject all keys of this team.", examples=[True])] = False
    limits: Annotated[
        LimitsConfig,
        Meta(
            description="Limits for all calls with keys of this team together.", examples=[{"spend": "500 USD/month"}]
        ),
    ] = LimitsConfig()


class KeyConfig(Struct, frozen=True):
    """A virtual key: who may call, and for which models."""

    name: Name
    hash: Annotated[
        KeyHash,
        Meta(
            description="SHA-256 of the key, as `sha256:` and 64 hexadecimal digits, or `file:PATH`. "
            'To compute it: `printf %s "$KEY" | sha256sum`.',
            examples=[_KEY_HASH],
        ),
    ]
    models: Annotated[
        _Models | None, Meta(description="Models that this key may use. Default: all.", examples=[["smart", "fast"]])
    ] = None
    team: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="A team of this file. Its limits and models apply as well.", examples=["search"]),
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
    strict: Annotated[bool | None, Meta(description=_STRICT, examples=[True])] = None
    limits: Annotated[
        LimitsConfig, Meta(description="Limits for all calls with this key.", examples=[{"requests": "600/min"}])
    ] = LimitsConfig()
    limits_per_user: Annotated[
        LimitsConfig,
        Meta(
            description="Limits for each value of the request field `user` in calls with this key.",
            examples=[{"requests": "20/min"}],
        ),
    ] = LimitsConfig()


class Config(Struct, frozen=True):
    """A complete configuration. A reload creates a new one; calls in flight keep theirs."""

    path: Name = ""
    listen: Annotated[
        Listen,
        Meta(
            description="HOST:PORT of the callers' listener. Keys are required unless it is on loopback.",
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
            description="Where limits are counted: `memory://` for one process, a Redis URL for several, or `file:PATH` of a "
            "file that contains the URL.",
            examples=["redis://redis:6379/0"],
        ),
    ] = Url("memory://")
    store_password: Annotated[
        Secrets,
        Meta(
            description="Password of the store, unless it is part of the URL. A file is read again for each connection.",
            examples=["${REDIS_PASSWORD}"],
        ),
    ] = ()
    store_sentinel_password: Annotated[
        Secrets,
        Meta(
            description="Password of the Sentinels, if they require one. `store_password` is the one of their master.",
            examples=["${SENTINEL_PASSWORD}"],
        ),
    ] = ()
    store_ca: Annotated[
        File | None,
        Meta(
            description="PEM file with certificate authorities to trust for the store, in addition to those of the system.",
            examples=["/etc/ssl/redis-ca.pem"],
        ),
    ] = None
    journal: Annotated[
        Annotated[str, Meta(extra={"form": "journal"})] | None,
        Meta(
            description="Folder for usage and spend, so that a restart loses nothing; `off` for none. Default: under "
            "`$LOCKGATE_STATE`, else `$XDG_STATE_HOME/lockgate`, else `~/.local/state/lockgate`.",
            examples=["/var/lib/lockgate"],
        ),
    ] = None
    store_deadline: Annotated[
        Duration,
        Meta(
            description="Maximum time for one decision of the store, at most 10s. After it, limits apply their `outage` "
            "setting.",
            examples=["100ms"],
        ),
    ] = 0.05
    metrics: Annotated[
        MetricsConfig,
        Meta(description="Settings of `/metrics` on the admin listener.", examples=[{"max_series": 5000}]),
    ] = MetricsConfig()
    traces: Annotated[
        TracesConfig | None,
        Meta(
            description="OpenTelemetry traces. Default: off.",
            examples=[{"endpoint": "http://otel-collector:4318", "sample": 0.1}],
        ),
    ] = None
    providers: Annotated[
        dict[str, ProviderConfig],
        Meta(
            description="Providers by name: vendors and servers of your own, with your credentials there.",
            examples=[{"openai": {"api_key": "${OPENAI_API_KEY}"}}],
        ),
    ] = {}
    models: Annotated[
        dict[str, ModelConfig],
        Meta(
            description="Models that callers can ask for, by name. A name may end in `*`: `claude-*` is every name with that "
            "prefix, `*` every other name.",
            examples=[{"gpt-4o": "openai/gpt-4o"}],
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
        Meta(description="Virtual keys by name.", examples=[{"search-team": {"hash": _KEY_HASH}}]),
    ] = {}
    auth: Annotated[
        Literal["auto", "keys", "none"],
        Meta(
            description="Whether callers need a key. `auto`: yes if there are keys in this file; without any, only loopback "
            "is allowed. `keys`: always, even if all keys are created at run time. `none`: never.",
            examples=["keys"],
        ),
    ] = "auto"
    callers: Annotated[
        CallersConfig,
        Meta(description="Timeouts for the connections of callers.", examples=[{"write_stall": "30s"}]),
    ] = CallersConfig()
    grace: Annotated[
        Pause,
        Meta(
            description="After SIGTERM, how long new calls are still accepted while `/readyz` returns 503, so that load "
            "balancers can react.",
            examples=["5s"],
        ),
    ] = 0.0
    drain: Annotated[
        Pause,
        Meta(
            description="After `grace`, how long calls in flight may run before they are ended with an error.",
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
            description="Maximum number of retries and fallbacks, as a share of all calls. A few are always allowed.",
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
    strict: Annotated[bool, Meta(description=_STRICT, examples=[True])] = False

    @property
    def requires_keys(self) -> bool:
        """Whether callers need a key."""
        return self.auth == "keys" or (self.auth == "auto" and bool(self.keys))

    def find_model(self, name: str) -> ModelConfig | None:
        """Return the model of this name, else the one with the longest matching prefix, else None."""
        model = self.models.get(name)
        return model if model is not None else self.models.get(matching_wildcard(name, self.models) or "")


def matching_wildcard(name: str, patterns: Iterable[str]) -> str | None:
    """Return the longest pattern `prefix*` that matches `name`, or None."""
    matching = [pattern for pattern in patterns if pattern.endswith("*") and name.startswith(pattern[:-1])]
    return max(matching, key=len, default=None)
