"""Cerebras. Facts: a description of its Python package, and cerebras-cloud-sdk 1.91.0.

A request is charged in advance with its prompt and its cap, so that an oversized cap alone can cause a 429.
"""

from __future__ import annotations

from collections.abc import Sequence

from providers.openai_compatible import PATHS, OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY, LOGPROBS, NEAREST_EFFORT, SAMPLING
from providers.rules.engine import ForModels, Takes
from providers.rules.messages import Parts, Roles
from providers.rules.shapes import Choices, Format, Functions, Stop, StreamUsage, ToolChoice, Tools
from providers.rules.values import BiasRange, Cap, Drop, OneOf, Range, Rename, ToHeader
from providers.streams import ChunkRepairs, with_choices

_WITH_DEVELOPER = Roles(takes=("system", "developer", "user", "assistant", "tool"))


class CerebrasChunks(ChunkRepairs):
    """Chunks may lack `choices` or `delta`; errors bring the status they would have had."""

    def __init__(self) -> None:
        super().__init__((with_choices,), (b"{",))

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """The chunk with both."""
        if b'"choices":[{' in data and b'"delta"' in data and b'"error"' not in data:
            return (data,)
        return super().feed(event, data)


CEREBRAS = OpenAICompatible(
    "cerebras",
    Wire(
        label="Cerebras",
        caller_headers=("cf-ray", "x-amz-cf-id", "x-delay-time"),
        base_url="https://api.cerebras.ai/v1",
        paths={name: PATHS[name] for name in ("chat", "completions")},
        decoder=lambda _: CerebrasChunks(),
        source="cerebras-cloud-sdk 1.91.0",
    ),
    (
        *GATEWAY,
        *CONTEXT_POLICY,
        Takes("model messages stream user parallel_tool_calls prompt_cache_key prediction model_parameters"),
        Takes("clear_thinking disable_reasoning"),
        Roles(takes=("system", "user", "assistant", "tool")),
        Parts(takes=("text", "image_url", "image")),
        Cap("max_completion_tokens"),
        Rename("min_tokens", "min_completion_tokens"),
        Range("min_completion_tokens", -1),
        *SAMPLING,
        Choices(param="n", most=128, hint=True),
        Stop("stop", limit=4),
        BiasRange("logit_bias"),
        *LOGPROBS,
        Functions("functions"),
        Tools("tools"),
        ToolChoice("tool_choice"),
        Format("response_format"),
        StreamUsage("stream_options", only_streams=False),
        OneOf("service_tier", ("auto", "default", "flex", "priority")),
        OneOf("reasoning_effort", ("none", "low", "medium", "high"), to=NEAREST_EFFORT),
        OneOf("reasoning_format", ("none", "parsed", "text_parsed", "raw", "hidden")),
        ToHeader("cf_ray", "CF-RAY"),
        ToHeader("x_amz_cf_id", "X-Amz-Cf-Id"),
        ToHeader("x_delay_time", "X-delay-time"),
        ForModels(("gpt-oss",), (_WITH_DEVELOPER, Drop("disable_reasoning", why="this model always reasons"))),
        ForModels(
            ("kimi-k3", "glm-5.3", "zai-glm-5.3"),
            (OneOf("reasoning_effort", ("low", "high", "max"), to={"minimal": "low", "medium": "high", "xhigh": "max"}),),
        ),
    ),
)
