"""Settings of a provider: address, credentials, prices, timeouts, concurrency and cooldowns."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from gateway.catalog import Overlay
from gateway.config.discover import DiscoverConfig
from gateway.config.field_types import Duration, File, Header, Name, Secrets
from gateway.config.limit import LimitsConfig
from gateway.config.load_metrics import LoadMetricsConfig
from gateway.config.price import PriceConfig
from gateway.config.replicas import ReplicasConfig
from gateway.config.secret import Url


class CooldownConfig(Struct, frozen=True):
    """Cooldowns: the failures after which a target is skipped, and the duration.

    A 429, or a 503 or 529 with a Retry-After, also starts a cooldown.
    """

    failures: Annotated[
        int, Meta(ge=1, le=1000, description="Number of failures in a row that start a cooldown.", examples=[3])
    ] = 5
    rate: Annotated[
        Annotated[float, Meta(extra={"form": "share"})],
        Meta(
            description="Share of failed calls in the last 15 to 30 seconds that starts a cooldown, if there were at "
            "least 20 calls. `100%` turns this check off.",
            examples=["80%"],
        ),
    ] = 0.5
    time: Annotated[
        Duration,
        Meta(
            description="Length of the first cooldown. Each further cooldown in a row is longer by this time, up to "
            "`max`.",
            examples=["10s"],
        ),
    ] = 30.0
    max: Annotated[
        Duration,
        Meta(
            description="Maximum length of a cooldown, even if the upstream asks for more. If a quota is used up, `quota_max` "
            "applies instead. The cooldown of a rejected credential lasts 10 minutes in any case.",
            examples=["10m"],
        ),
    ] = 300.0
    quota_max: Annotated[
        Duration,
        Meta(
            description="Maximum length of a cooldown after a quota is used up, if the upstream states when the quota is reset.",
            examples=["2h"],
        ),
    ] = 86_400.0


class ProbeConfig(Struct, frozen=True):
    """Active health checks of a provider. A response with a status below 500 ends cooldowns that failures started."""

    path: Annotated[
        str, Meta(pattern="^/", description="Path to request with GET, appended to `base_url`.", examples=["/models"])
    ]
    every: Annotated[Duration, Meta(description="Time between two probes.", examples=["30s"])] = 10.0


class ClientCertificateConfig(Struct, frozen=True):
    """The certificate with which the gateway identifies itself to an upstream. A reload loads changed files again."""

    cert: Annotated[
        File, Meta(description="PEM file with the certificate and its chain.", examples=["/etc/lockgate/client.crt"])
    ]
    key: Annotated[
        File,
        Meta(description="PEM file with the private key, without a passphrase.", examples=["/etc/lockgate/client.key"]),
    ]


class TargetConfig(Struct, frozen=True):
    """Settings of one model at a provider, regardless of the names that callers use for it."""

    limits: Annotated[
        LimitsConfig,
        Meta(
            description="Limits for all calls to this target. A call over a limit goes to the next target.",
            examples=[{"concurrent": 50}],
        ),
    ] = LimitsConfig()


class ProviderConfig(Struct, frozen=True):
    """A vendor or a server of your own: its address and your credentials for it."""

    name: Name
    type: Annotated[
        str,
        Meta(
            description="Provider type, which determines the API format. Default: the name of the provider.",
            examples=["vllm"],
        ),
    ] = ""
    base_url: Annotated[
        Annotated[str, Meta(extra={"form": "base_url"})] | None,
        Meta(
            description="URL up to the path of the operation, including the version. Default: the vendor's address.",
            examples=["https://api.openai.com/v1"],
        ),
    ] = None
    api_key: Annotated[
        Secrets,
        Meta(
            description="Credential for the provider: `${NAME}`, `file:PATH`, or a list of them to use in turn.",
            examples=["${OPENAI_API_KEY}"],
        ),
    ] = ()
    ca: Annotated[
        File | None,
        Meta(
            description="PEM file with certificate authorities to trust in addition to those of the system.",
            examples=["/etc/ssl/company-ca.pem"],
        ),
    ] = None
    client_certificate: Annotated[
        ClientCertificateConfig | None,
        Meta(
            description="Certificate to present if the upstream requires one (mutual TLS). Default: none.",
            examples=[{"cert": "client.crt", "key": "client.key"}],
        ),
    ] = None
    proxy: Annotated[
        Annotated[Url, Meta(extra={"form": "proxy"})] | None,
        Meta(
            description="URL of a proxy, or `env` to use HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY. Without this "
            "setting, those variables are ignored.",
            examples=["http://proxy:3128"],
        ),
    ] = None
    transport: Annotated[
        Literal["native", "httpx"],
        Meta(
            description="HTTP client. `native`: the gateway's own HTTP/1.1 client. `httpx`: also supports HTTP/2. Requests "
            "through a proxy always use `httpx`.",
            examples=["httpx"],
        ),
    ] = "native"
    headers: Annotated[
        dict[str, Header],
        Meta(description="Additional request headers.", examples=[{"OpenAI-Organization": "org-123"}]),
    ] = {}
    forward_headers: Annotated[
        tuple[Annotated[str, Meta(extra={"form": "header_name"})], ...],
        Meta(
            description="Request headers of callers to forward, in addition to those that the provider defines and to "
            "`traceparent`, `tracestate` and `baggage`.",
            examples=[["x-tenant"]],
        ),
    ] = ()
    pass_fields: Annotated[
        tuple[str, ...],
        Meta(
            description="Fields of a request to pass unchanged, such as a field that the vendor has added recently. No "
            "rule of this provider applies to them.",
            examples=[["search_mode"]],
        ),
    ] = field(default=(), name="pass")
    connect: Annotated[Duration, Meta(description="Maximum time to connect.", examples=["5s"])] = 2.0
    tls: Annotated[Duration, Meta(description="Maximum time for the TLS handshake.", examples=["5s"])] = 3.0
    first_byte_timeout: Annotated[
        Duration, Meta(description="Maximum time from sending a request to the head of the response.", examples=["20s"])
    ] = 60.0
    idle_timeout: Annotated[
        Duration, Meta(description="Maximum pause between two pieces of a response.", examples=["30s"])
    ] = 60.0
    timeout: Annotated[Duration, Meta(description="Maximum time for one attempt.", examples=["2m"])] = 600.0
    max_connections: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None,
        Meta(
            description="Maximum number of connections to one address, per process. Default: half of the number of files that the "
            "process may open beyond 512, from 1,000 to 100,000.",
            examples=[200],
        ),
    ] = None
    max_concurrent: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None,
        Meta(
            description="Maximum number of calls in flight at each target of this provider, per process. Further "
            "calls wait in a queue or go to the next target. Default: unlimited.",
            examples=[32],
        ),
    ] = None
    max_queue: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="Maximum number of calls in the queue of a target. Requires `max_concurrent`.",
            examples=[20],
        ),
    ] = 100
    max_wait: Annotated[
        Duration,
        Meta(
            description="Maximum time for which a call waits in the queue of a target. Requires `max_concurrent`.",
            examples=["2s"],
        ),
    ] = 5.0
    cooldown: Annotated[
        CooldownConfig,
        Meta(
            description="Cooldowns: the failures after which a target is skipped, and the duration.",
            examples=[{"failures": 3, "time": "10s"}],
        ),
    ] = CooldownConfig()
    probe: Annotated[
        ProbeConfig | None,
        Meta(
            description="Active health checks of this provider. Default: off.",
            examples=[{"path": "/models", "every": "10s"}],
        ),
    ] = None
    discover: Annotated[
        Annotated[DiscoverConfig, Meta(extra={"short": "enabled"})] | None,
        Meta(
            description="Let callers use the models that the provider lists, as `PROVIDER/NAME`. Default: off.",
            examples=[{"as": "box-*", "every": "1m"}],
        ),
    ] = None
    replicas: Annotated[
        Annotated[ReplicasConfig, Meta(extra={"short": "source"})] | None,
        Meta(
            description="Make each address of the host of `base_url` a target of its own, which appears and disappears with its DNS "
            "record. Default: off.",
            examples=["dns"],
        ),
    ] = None
    load_metrics: Annotated[
        Annotated[LoadMetricsConfig, Meta(extra={"short": "enabled"})],
        Meta(
            description="Read from a vLLM server how many requests it runs and keeps waiting, for `balance: prefix`. `false`: compare only "
            "the calls of this process.",
            examples=[False],
        ),
    ] = LoadMetricsConfig()
    limits: Annotated[
        LimitsConfig,
        Meta(
            description="Limits for all calls to this provider. A call over a limit goes to the next target.",
            examples=[{"tokens": "2M/min"}],
        ),
    ] = LimitsConfig()
    models: Annotated[
        dict[str, TargetConfig],
        Meta(
            description="Settings of individual models, by their names at the provider.",
            examples=[{"gpt-4o": {"limits": {"concurrent": 50}}}],
        ),
    ] = {}
    bills_aborted_prompt: Annotated[
        bool | None,
        Meta(
            description="Whether the provider bills the prompt of a call that is aborted before any output. Default: true, except "
            "for servers of your own (local, llamacpp, ollama, vllm), where the tokens of the prompt are counted at no "
            "cost.",
            examples=[False],
        ),
    ] = None
    drain: Annotated[
        bool,
        Meta(
            description="Set this if the provider bills the whole answer after a disconnect. The gateway then reads "
            "the answer to its end, to determine the cost.",
            examples=[True],
        ),
    ] = False
    reports_cost: Annotated[
        bool | None,
        Meta(
            description="Set this if the cost that answers report in `usage` (`cost`, `estimated_cost`) is the amount that the "
            "provider charges, in USD. That cost is then used instead of `prices`. Default: true for OpenRouter and "
            "xAI.",
            examples=[True],
        ),
    ] = None
    prices: Annotated[
        dict[str, PriceConfig],
        Meta(
            description="Prices in USD per million tokens, by the model's name at the provider; `*` stands for any "
            "other model. These prices override those of the catalog.",
            examples=[{"*": {"prompt": 0.2, "output": 0.4}}],
        ),
    ] = {}
    overlay: Annotated[Overlay | None, Meta(extra={"form": "outside"})] = None
    """The entries of the file that `catalog` names."""
    options: Annotated[dict[str, Any], Meta(extra={"form": "outside"})] = {}
    """The values of the keys that the provider type adds to the common ones, by the keys' Python names, with defaults filled in."""

    @property
    def discovery(self) -> DiscoverConfig | None:
        """The settings of `discover`, or None if it is off."""
        return self.discover if self.discover is not None and self.discover.enabled else None
