"""Settings of a model: targets, timeouts, retries, load balancing, hedging, mirroring, context window."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.cache import CacheConfig
from gateway.config.field_types import STRICT_DESCRIPTION, Duration, File, Name
from gateway.config.limit import HedgeDelay, LimitsConfig
from gateway.config.route import Balance, Ref, Route

_Tokens = Annotated[int, Meta(ge=1)]
FallbackCondition = Literal["content_filter", "invalid_request"]


class ContextConfig(Struct, frozen=True, gc=False):
    """Handling of conversations that exceed the context window.

    Without these settings, the provider decides.
    """

    overflow: Annotated[
        Literal["truncate", "error"] | None,
        Meta(
            description="`truncate`: lower the output cap, then evict messages. `error`: reject the call (400). "
            "Applies to calls that do not set `context_length_exceeded_behavior`.",
            examples=["truncate"],
        ),
    ] = None
    policy: Annotated[
        Literal["oldest-first", "middle-out"] | None,
        Meta(
            description="Order in which messages are evicted. System messages, the last user message and the last message are "
            "never evicted. Default: `oldest-first`.",
            examples=["middle-out"],
        ),
    ] = None
    max_prompt_tokens: Annotated[
        _Tokens | None,
        Meta(
            description="Maximum prompt size. A longer prompt is truncated by `policy`, or, with `overflow: "
            "error`, rejected. Default: unlimited.",
            examples=[32000],
        ),
    ] = None
    window: Annotated[
        _Tokens | None,
        Meta(
            description="Maximum tokens of prompt and output together. Default: the value in the catalog, or that of the local engine.",
            examples=[131072],
        ),
    ] = None
    output: Annotated[
        _Tokens | None,
        Meta(description="Maximum tokens of one answer. Default: the value in the catalog.", examples=[8192]),
    ] = None
    tokenizer: Annotated[
        File | None,
        Meta(
            description="The model's `tokenizer.json` for exact counts. Requires the extra `tokenizers` (docs/installation.md).",
            examples=["/models/llama/tokenizer.json"],
        ),
    ] = None


class MirrorConfig(Struct, frozen=True, gc=False):
    """Copies of a model's calls, sent to another target. The responses to the copies are discarded.

    Callers do not wait for the copies and do not pay for them.
    """

    target: Annotated[
        Ref,
        Meta(
            extra={"form": "ref"},
            description="Target of the copies: PROVIDER/MODEL, or another model in this file.",
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
            description="Maximum number of copies in flight at the target, per process. Further calls are not copied.",
            examples=[20],
        ),
    ] = 10
    timeout: Annotated[Duration, Meta(description="Maximum time for one copy.", examples=["30s"])] = 60.0


class HedgeConfig(Struct, frozen=True, gc=False):
    """A second attempt at the next target if the first attempt is slow.

    The answer that begins first is used; both attempts are billed.
    """

    after: Annotated[
        Annotated[HedgeDelay, Meta(extra={"form": "after"})],
        Meta(
            description="Delay before the second attempt: a time, or a percentile of the first target's time to first "
            "token (for calls without streaming, of its time to the whole answer).",
            examples=["p95"],
        ),
    ]
    budget: Annotated[
        Annotated[float, Meta(extra={"form": "share"})],
        Meta(description="Maximum share of calls that get a second attempt. At most 5%.", examples=["2%"]),
    ] = 0.05


class ModelSettings(Struct, frozen=True, gc=False, kw_only=True):
    """Settings of a model that also apply to the models it leads to.

    If a setting is None, the setting of the next model on the route applies, else that of the provider.
    """

    timeout: Annotated[
        Duration | None,
        Meta(
            description="Maximum time for a call, including all attempts. Default: the provider's timeout.",
            examples=["60s"],
        ),
    ] = None
    first_byte_timeout: Annotated[
        Duration | None,
        Meta(
            description="Maximum time from sending a request to the head of the response. Default: the provider's setting.",
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
            description="Maximum number of attempts for one call, including retries and fallbacks. "
            "Default: 3.",
            examples=[4],
        ),
    ] = None
    fallback_on: Annotated[
        list[FallbackCondition] | None,
        Meta(
            description="Try the next target also after these refusals, which otherwise end the call: `content_filter` "
            "(a content filter refused the prompt, or withheld the whole answer) and `invalid_request` (any other error "
            "that the upstream attributes to the request). A missing model, a prompt that exceeds the context window and "
            "a request that is too large always lead to the next target. Default: none.",
            examples=[["content_filter"]],
        ),
    ] = None
    strict: Annotated[bool | None, Meta(description=STRICT_DESCRIPTION, examples=[True])] = None
    json_repair: Annotated[
        bool | None,
        Meta(
            description="Repeat the request once if a JSON answer does not match `response_format`. Both requests "
            "are billed. Does not apply to streams.",
            examples=[True],
        ),
    ] = None
    continue_on_cut: Annotated[
        bool | None,
        Meta(
            description="Continue a broken stream at the next target that supports it (local, llama.cpp, vLLM, "
            "Mistral, Anthropic). Both attempts are billed.",
            examples=[True],
        ),
    ] = None
    context: Annotated[
        ContextConfig | None,
        Meta(
            description="Handling of conversations that exceed the context window.",
            examples=[{"overflow": "truncate"}],
        ),
    ] = None
    require_parameters: Annotated[
        bool | None,
        Meta(
            description="Skip targets that would drop or change a parameter of the call. If no target is left, the call is rejected (400).",
            examples=[True],
        ),
    ] = None
    hedge: Annotated[
        Annotated[HedgeConfig, Meta(extra={"short": "after"})] | None,
        Meta(
            description="Start a second attempt at the next target if the first attempt is slow. Default: off.",
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
    cache: Annotated[
        Annotated[CacheConfig, Meta(extra={"short": "ttl"})] | None,
        Meta(
            description="Store answers, and send them again for equal requests. Default: off.",
            examples=[{"ttl": "10m", "scope": "team"}],
        ),
    ] = None


class ModelConfig(ModelSettings, frozen=True, gc=False):
    """A model that callers can ask for: its targets, load balancing, limits and settings."""

    name: Name
    targets: Annotated[
        Route,
        Meta(
            extra={"form": "route"},
            description="Route of the calls: a target (PROVIDER/MODEL), another model in this file, a list (an "
            "order: the next one is tried if one fails), or a mapping of these to weights (a split).",
            examples=[["vllm/llama-3.3-70b", "openai/gpt-4o"]],
        ),
    ]
    balance: Annotated[
        Balance | None,
        Meta(
            description="Criterion by which a split selects a target: weight (`weighted`), time to first token (`latency`), "
            "calls in flight (`least_busy`), price (`cost`), conversation (`session`: all calls of a conversation go to "
            "the same target) or the beginning of the prompt (`prefix`: calls go where their beginning is cached, unless "
            "that target is overloaded). Default: `weighted`.",
            examples=["latency"],
        ),
    ] = None
    session_header: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")] | None,
        Meta(
            description="With `balance: session`, the request header that identifies a conversation. If a call lacks it, "
            "the field `user` is used, or else the beginning of the prompt. Default: `x-session-id`.",
            examples=["x-conversation-id"],
        ),
    ] = None
    limits: Annotated[
        LimitsConfig,
        Meta(description="Limits for all calls that ask for this model by name.", examples=[{"concurrent": 50}]),
    ] = LimitsConfig()
