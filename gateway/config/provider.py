"""What a provider's block may say: whom we call, what it costs there, and when a target is left alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.config.field_types import Dollars, Duration, File, Header, Name, Secrets
from gateway.config.limit import LimitsConfig
from gateway.config.secret import Url


class Price(Struct, frozen=True):
    """What a model's tokens cost, in USD per million."""

    prompt: Annotated[Dollars, Meta(description="Prompt tokens.")]
    output: Annotated[Dollars, Meta(description="Output tokens, reasoning included.")]
    cached: Annotated[Dollars | None, Meta(description="Prompt tokens that the provider had cached; as prompt when left out.")] = None
    cache_write: Annotated[Dollars | None, Meta(description="Prompt tokens that it put into its cache; as prompt when left out.")] = None
    reasoning: Annotated[Dollars | None, Meta(description="Reasoning tokens, where their price differs; as output when left out.")] = None


class CooldownConfig(Struct, frozen=True):
    """When a target is left alone for a while, and for how long. A 429 or a Retry-After cools it too, for the time it names up to `max`."""

    failures: Annotated[int, Meta(ge=1, le=1000, description="Failures in a row after which a target is skipped.")] = 5
    rate: Annotated[
        Annotated[float, Meta(extra={"form": "share"})],
        Meta(description="Share of the calls of half a minute (20 at least) after whose failure a target is skipped; 100%: never."),
    ] = 0.5
    time: Annotated[Duration, Meta(description="How long at first; as much again for each further time in a row.")] = 30.0
    max: Annotated[Duration, Meta(description="Longest time, whatever the upstream asks for.")] = 300.0


class ProbeConfig(Struct, frozen=True):
    """A request that asks a provider how it is, whether callers come or not."""

    path: Annotated[str, Meta(pattern="^/", description="What to GET, after base_url: /models")]
    every: Annotated[Duration, Meta(description="Time between two probes.")] = 10.0


class TargetConfig(Struct, frozen=True):
    """One model at a provider, whichever names callers have for it."""

    limits: Annotated[LimitsConfig, Meta(description="For all calls to this target; a call over one goes to the next.")] = LimitsConfig()


class ProviderConfig(Struct, frozen=True):
    """Whom we can call: a vendor or engine, its address and our credentials there."""

    name: Name
    type: Annotated[str, Meta(description="The wire it speaks. May be left out when the provider's name is itself a type.")] = ""
    base_url: Annotated[
        Annotated[str, Meta(extra={"form": "base_url"})] | None,
        Meta(description="Everything before the operation's path, version included: https://api.openai.com/v1"),
    ] = None
    api_key: Annotated[Secrets, Meta(description='Our credential there, "${NAME}" or file:PATH; a list rotates.')] = ()
    ca: Annotated[File | None, Meta(description="PEM file of a certificate authority to trust besides the system's.")] = None
    proxy: Annotated[
        Annotated[Url, Meta(extra={"form": "proxy"})] | None,
        Meta(description="URL of a proxy, or 'env' to take it from HTTPS_PROXY and friends. Never taken from there unasked."),
    ] = None
    transport: Annotated[
        Literal["native", "httpx"], Meta(description="Who opens connections: our own HTTP/1.1 client, or httpx (HTTP/2, proxies).")
    ] = "native"
    headers: Annotated[dict[str, Header], Meta(description="Extra request headers.")] = {}
    connect: Annotated[Duration, Meta(description="Longest time to connect.")] = 2.0
    tls: Annotated[Duration, Meta(description="Longest time for the TLS handshake.")] = 3.0
    first_byte_timeout: Annotated[Duration, Meta(description="Longest wait from the request sent to the answer's head.")] = 60.0
    idle_timeout: Annotated[Duration, Meta(description="Longest silence between two pieces of an answer.")] = 60.0
    timeout: Annotated[Duration, Meta(description="Longest time for one attempt as a whole.")] = 600.0
    max_connections: Annotated[int, Meta(ge=1, le=100_000, description="Most connections at once to one address.")] = 1000
    max_concurrent: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None,
        Meta(description="Most calls at once to each target of this provider, by this process; others wait or go to the next target."),
    ] = None
    max_queue: Annotated[int, Meta(ge=0, le=100_000, description="Calls that may wait for their turn under max_concurrent.")] = 100
    max_wait: Annotated[Duration, Meta(description="Longest wait for a turn under max_concurrent.")] = 5.0
    cooldown: Annotated[CooldownConfig, Meta(description="When a target that fails is skipped, and for how long.")] = CooldownConfig()
    probe: Annotated[ProbeConfig | None, Meta(description="Ask the provider itself how it is; off when left out.")] = None
    limits: Annotated[
        LimitsConfig, Meta(description="For all calls to this provider; a call over one of them goes to the next target.")
    ] = LimitsConfig()
    models: Annotated[dict[str, TargetConfig], Meta(description="Settings of single models there, by their names at the provider.")] = {}
    bills_aborted_prompt: Annotated[
        bool, Meta(description="The provider bills the prompt of a call that was ended before it had any output.")
    ] = False
    drain: Annotated[
        bool, Meta(description="The provider bills whole answers: read those to the end whose caller left, to know what they cost.")
    ] = False
    prices: Annotated[
        dict[str, Price], Meta(description="USD per million tokens by the model's name there, over the catalog's; '*' is any other.")
    ] = {}
    options: Annotated[dict[str, Any], Meta(extra={"form": "outside"})] = {}
    """The type's own keys, by their Python names, defaults filled in."""
