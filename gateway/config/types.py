"""The configuration as frozen structs: what the YAML may say, what it defaults to, and the words an editor shows beside it.

A field's `form` names how its text is written (gateway.config.value); the reader and the JSON Schema both follow these types.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.field_types import Duration, File, KeyHash, Listen, Name, Pause, Secrets, Size
from gateway.config.formats import Address
from gateway.config.limit import After, LimitsConfig
from gateway.config.provider import ProviderConfig
from gateway.config.route import Balance, Ref, Route
from gateway.config.secret import Url
from gateway.config.telemetry import MetricsConfig, TracesConfig

STRICT = "Refuse (400) what cannot be honoured instead of adjusting and reporting it."


class Tls(Struct, frozen=True):
    """The certificate chain and private key of our listener, PEM files."""

    cert: Annotated[File, Meta(description="PEM file: the certificate and what it is signed by. Relative to this file.")]
    key: Annotated[File, Meta(description="PEM file: the private key, without a passphrase.")]


class Admin(Struct, frozen=True):
    """The other listener: health, metrics, status. Never the one that callers use."""

    listen: Annotated[Listen, Meta(description="HOST:PORT of the admin listener.")] = Address("127.0.0.1", 8081)
    key_hash: Annotated[KeyHash | None, Meta(description="sha256: of the admin key. Required when the listener is not on loopback.")] = None
    metrics: Annotated[Literal["keyed", "open"], Meta(description="Whether /metrics needs the admin key.")] = "keyed"


class CallersConfig(Struct, frozen=True):
    """How long callers may take."""

    headers: Annotated[
        Duration, Meta(description="Longest time from a connection to its first request's head, and for later heads once begun.")
    ] = 10.0
    body: Annotated[
        Duration,
        Meta(description="Longest silence within a request's body, and longest time for all of it at under 4 KiB a second."),
    ] = 30.0
    write_stall: Annotated[Duration, Meta(description="Longest time that a caller may take nothing of its answer.")] = 60.0
    heartbeat: Annotated[Duration, Meta(description="Silence of a stream after which its caller gets a comment.")] = 15.0


class ContextConfig(Struct, frozen=True):
    """What happens when a conversation does not fit the model's context window. Left out: what the provider does by itself."""

    overflow: Annotated[
        Literal["truncate", "error"] | None,
        Meta(
            description="truncate: lower the output cap, then evict messages; error: refuse (400). For callers who do not say themselves."
        ),
    ] = None
    policy: Annotated[
        Literal["oldest-first", "middle-out"] | None,
        Meta(description="Which messages leave first; system messages and the last user turn never do. oldest-first when left out."),
    ] = None
    max_prompt_tokens: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Longest prompt: more is evicted by `policy`, or refused with overflow: error.")
    ] = None
    window: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Tokens of prompt and output together, where the catalog is wrong or silent.")
    ] = None
    output: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Most tokens of one answer, where the catalog is wrong or silent.")
    ] = None
    tokenizer: Annotated[
        File | None, Meta(description="The model's tokenizer.json, to count by (needs the package tokenizers). Relative to this file.")
    ] = None


class MirrorConfig(Struct, frozen=True):
    """A copy of a model's calls goes to another target; its answer is read and discarded. Callers neither wait for it nor pay."""

    target: Annotated[Ref, Meta(extra={"form": "ref"}, description="Where the copies go: PROVIDER/MODEL, or another model of this file.")]
    share: Annotated[Annotated[float, Meta(extra={"form": "share"})], Meta(description="How many of the calls are copied: 10%.")] = 1.0
    max_concurrent: Annotated[int, Meta(ge=1, le=10_000, description="Copies under way at once; what comes on top is not copied.")] = 10
    timeout: Annotated[Duration, Meta(description="Longest time for one copy.")] = 60.0


class HedgeConfig(Struct, frozen=True):
    """A second attempt at the next target when the first is slow to say anything; the one that speaks first answers, both are billed."""

    after: Annotated[
        Annotated[After, Meta(extra={"form": "after"})],
        Meta(description="How long the first may take: a time such as 800ms, or a share of its own times such as p95."),
    ]
    budget: Annotated[
        Annotated[float, Meta(extra={"form": "share"})], Meta(description="Most second attempts, as a share of the calls: at most 5%.")
    ] = 0.05


class ModelConfig(Struct, frozen=True):
    """What callers may ask for by `name`, and where such a call goes. None: what a model on the way says, else the provider."""

    name: Name
    targets: Annotated[
        Route,
        Meta(extra={"form": "route"}, description="A target, a list (an order: the next when one fails) or a mapping to weights (a split)"),
    ]
    timeout: Annotated[Duration | None, Meta(description="Longest time for a call as a whole, all attempts together.")] = None
    first_byte_timeout: Annotated[Duration | None, Meta(description="Longest wait from the request sent to the answer's head.")] = None
    idle_timeout: Annotated[Duration | None, Meta(description="Longest silence between two pieces of an answer.")] = None
    retries: Annotated[
        Annotated[int, Meta(ge=0, le=10)] | None, Meta(description="How often the same target is tried again before the next one.")
    ] = None
    attempts: Annotated[
        Annotated[int, Meta(ge=1, le=10)] | None,
        Meta(description="Most requests sent upstream for one call, retries and all; 3 when left out."),
    ] = None
    strict: Annotated[bool | None, Meta(description=STRICT)] = None
    json_repair: Annotated[
        bool | None,
        Meta(description="Ask once more, and bill both, when a JSON answer is not what response_format asked for. Not for streams."),
    ] = None
    continue_on_cut: Annotated[
        bool | None,
        Meta(description="Have a stream that breaks gone on with by the next target that can (local, vLLM, Anthropic); both are billed."),
    ] = None
    context: Annotated[ContextConfig | None, Meta(description="What happens when a conversation does not fit the context window.")] = None
    require_parameters: Annotated[
        bool | None, Meta(description="Skip targets that would lose a parameter which a call sets; 400 when none is left.")
    ] = None
    balance: Annotated[
        Balance | None,
        Meta(
            description="How this model's split chooses: weighted (when left out), latency (time to first token), least_busy, cost, "
            "or session (the same target for the same conversation)."
        ),
    ] = None
    session_header: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")] | None,
        Meta(description="With balance: session, the header that names a conversation (else user, else the prompt); x-session-id if none."),
    ] = None
    hedge: Annotated[
        Annotated[HedgeConfig, Meta(extra={"short": "after"})] | None,
        Meta(description="Ask the next target too when one is slow to begin: after: (p95, 800ms) and budget:. Off when left out."),
    ] = None
    mirror: Annotated[
        Annotated[MirrorConfig, Meta(extra={"short": "target"})] | None,
        Meta(description="A target that gets a copy of these calls, whose answer nobody gets; or target: and share:."),
    ] = None
    limits: Annotated[LimitsConfig, Meta(description="For all calls that ask for this model by its name.")] = LimitsConfig()


class TeamConfig(Struct, frozen=True):
    """What holds for several keys together."""

    name: Name
    models: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...] | None,
        Meta(description="The models that its keys may ask for, as far as they may themselves; all when left out."),
    ] = None
    disabled: Annotated[bool, Meta(description="Refuse all its keys.")] = False
    limits: Annotated[LimitsConfig, Meta(description="For all calls with its keys together.")] = LimitsConfig()


class KeyConfig(Struct, frozen=True):
    """Who may call, and for which models."""

    name: Name
    hash: Annotated[KeyHash, Meta(description='sha256: of the key: printf %s "$KEY" | sha256sum; or file:PATH')]
    models: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...] | None, Meta(description="The models it may ask for; all when left out.")
    ] = None
    team: Annotated[Annotated[str, Meta(min_length=1)] | None, Meta(description="A team of this file: its limits and models hold too.")] = (
        None
    )
    disabled: Annotated[bool, Meta(description="Refuse this key.")] = False
    expires: Annotated[
        Annotated[datetime, Meta(extra={"form": "expires"})] | None,
        Meta(description="The last day (UTC), or the moment from which the key is refused."),
    ] = None
    strict: Annotated[bool | None, Meta(description=STRICT)] = None
    limits: Annotated[LimitsConfig, Meta(description="For all calls with this key.")] = LimitsConfig()
    limits_per_user: Annotated[LimitsConfig, Meta(description="For each value of the field user in calls with this key.")] = LimitsConfig()


class Config(Struct, frozen=True):
    """One generation of the configuration. A reload makes a new one; calls in flight keep theirs."""

    path: Name = ""
    listen: Annotated[Listen, Meta(description="HOST:PORT that callers use. Off loopback, keys are required.")] = Address("127.0.0.1", 8080)
    admin: Annotated[Admin, Meta(extra={"short": "listen"}, description="The admin listener: health, metrics, status.")] = Admin()
    store: Annotated[
        Annotated[Url, Meta(extra={"form": "store"})],
        Meta(description="Where counters live: memory:// for one process, a Redis URL for several; or file:PATH of a file with it."),
    ] = Url("memory://")
    store_password: Annotated[
        Secrets, Meta(description="The store's password, read again at each connection when it is a file; or as part of the URL.")
    ] = ()
    store_sentinel_password: Annotated[
        Secrets, Meta(description="What Sentinels ask for, if they do; store_password is their master's. Read again like that one.")
    ] = ()
    store_ca: Annotated[File | None, Meta(description="PEM file of a certificate authority to trust besides the system's.")] = None
    journal: Annotated[
        Annotated[str, Meta(extra={"form": "journal"})] | None,
        Meta(
            description="Folder for what was used and spent, so that a restart forgets nothing; 'off' for none. Relative to this file. "
            "Left out: under $LOCKGATE_STATE, else $XDG_STATE_HOME/lockgate, else ~/.local/state/lockgate."
        ),
    ] = None
    store_deadline: Annotated[
        Duration, Meta(description="Longest wait for one decision of the store, 10s at most; after it limits follow their outage mode.")
    ] = 0.05
    metrics: Annotated[MetricsConfig, Meta(description="What the admin listener's /metrics shows.")] = MetricsConfig()
    traces: Annotated[TracesConfig | None, Meta(description="OpenTelemetry traces; none when left out.")] = None
    providers: Annotated[dict[str, ProviderConfig], Meta(description="Whom we can call, with which credential.")] = {}
    models: Annotated[dict[str, ModelConfig], Meta(description='What callers may ask for. "*" is anything else, claude-* a prefix.')] = {}
    teams: Annotated[dict[str, TeamConfig], Meta(description="Keys that share limits and models: keys.NAME.team names one.")] = {}
    keys: Annotated[dict[str, KeyConfig], Meta(description="Who may call.")] = {}
    auth: Annotated[
        Literal["auto", "keys", "none"],
        Meta(
            description="Who may call. auto: who has a key; without any under keys whoever can connect, on loopback only. keys: who has a "
            "key, though all be made at run time. none: whoever can connect."
        ),
    ] = "auto"
    callers: Annotated[CallersConfig, Meta(description="How long callers may take.")] = CallersConfig()
    grace: Annotated[
        Pause, Meta(description="After SIGTERM: how long calls are still taken while /readyz says 503, so that what is in front notices.")
    ] = 0.0
    drain: Annotated[Pause, Meta(description="After that: how long calls in flight may take to end; then they get an error.")] = 30.0
    default_output_tokens: Annotated[
        int, Meta(ge=1, le=1_000_000, description="What a call without max_tokens reserves of limits on output.")
    ] = 4096
    retry_budget: Annotated[
        float, Meta(ge=0, le=1, description="Most retries and fallbacks, as a share of all calls; a few are always possible.")
    ] = 0.2
    max_body: Annotated[Size, Meta(description="Largest request body.")] = 32 << 20
    cors: Annotated[
        tuple[Annotated[str, Meta(extra={"form": "origin"})], ...], Meta(description="Browser origins that may call; none by default.")
    ] = ()
    tls: Annotated[Tls | None, Meta(description="Serve HTTPS on the callers' listener.")] = None
    trusted_proxies: Annotated[
        tuple[Annotated[str, Meta(extra={"form": "network"})], ...], Meta(description="Proxies whose X-Forwarded-* headers are believed.")
    ] = ()
    expose_targets: Annotated[bool, Meta(description="Let callers ask for PROVIDER/MODEL too, beside the names under models.")] = False
    strict: Annotated[bool, Meta(description=STRICT)] = False

    @property
    def asks_for_keys(self) -> bool:
        """Whether callers need a key."""
        return self.auth == "keys" or (self.auth == "auto" and bool(self.keys))

    def model(self, name: str) -> ModelConfig | None:
        """What `name` means to a caller: that very model, else the longest prefix with a `*`, else None."""
        found = self.models.get(name)
        return found if found is not None else self.models.get(wildcard(name, self.models) or "")


def wildcard(name: str, patterns: Iterable[str]) -> str | None:
    """The longest `prefix*` among `patterns` that fits `name`."""
    fitting = [pattern for pattern in patterns if pattern.endswith("*") and name.startswith(pattern[:-1])]
    return max(fitting, key=len, default=None)
