"""Cerebras. Sources: the description of Cerebras' Python package, and cerebras-cloud-sdk 1.91.0.

Cerebras' rate limiter counts the prompt and `max_completion_tokens` in advance, so an output cap that is too high can cause a 429.
"""

from __future__ import annotations

from providers.openai_compatible import PATHS, OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES, LOGPROBS, NEAREST_EFFORT, SAMPLING
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.messages import ContentParts, Roles
from providers.rules.model_tables import NewerThan, efforts_rule
from providers.rules.names import OutputCap, Rename
from providers.rules.rule import Accepts, ForModels
from providers.rules.schemas import StrictFormat, StrictTools
from providers.rules.shapes import Choices, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.values import BiasRange, Drop, MoveToHeader, OneOf, Range
from providers.schema_dialects import CEREBRAS_SCHEMAS

_LOW_HIGH_MAX = (
    OneOf("reasoning_effort", ("low", "high", "max"), nearest={"none": "low", "minimal": "low", "medium": "high", "xhigh": "max"}),
)
_WITH_DEVELOPER = Roles(accepts=("system", "developer", "user", "assistant", "tool"))


CEREBRAS = OpenAICompatible(
    "cerebras",
    Wire(
        label="Cerebras",
        base_url="https://api.cerebras.ai/v1",
        paths={name: PATHS[name] for name in ("chat", "completions")},
        source="cerebras-cloud-sdk 1.91.0",
    ),
    (
        *GATEWAY_RULES,
        *CONTEXT_POLICY,
        Accepts("model messages stream user parallel_tool_calls prompt_cache_key prediction model_parameters"),
        Accepts("clear_thinking disable_reasoning"),
        Roles(accepts=("system", "user", "assistant", "tool")),
        ContentParts(accepts=("text", "image_url", "image")),
        OutputCap("max_completion_tokens"),
        Rename("min_tokens", "min_completion_tokens"),
        Range("min_completion_tokens", -1),
        *SAMPLING,
        Choices(param="n", max_choices=128, best_effort_seed=True),
        StopStrings("stop", limit=4),
        BiasRange("logit_bias"),
        *LOGPROBS,
        LegacyFunctions("functions", one_call=True),
        Tools("tools"),
        ToolChoice("tool_choice"),
        StrictTools(dialect=CEREBRAS_SCHEMAS),
        ResponseFormat("response_format"),
        StrictFormat(dialect=CEREBRAS_SCHEMAS),
        StreamUsage("stream_options", only_streams=False),
        OneOf("service_tier", ("auto", "default", "flex", "priority")),
        OneOf("reasoning_effort", ("none", "low", "medium", "high"), nearest=NEAREST_EFFORT),
        OneOf("reasoning_format", ("none", "parsed", "text_parsed", "raw", "hidden")),
        MoveToHeader("cf_ray", "CF-RAY"),
        MoveToHeader("x_amz_cf_id", "X-Amz-Cf-Id"),
        MoveToHeader("x_delay_time", "X-delay-time"),
        ForModels(
            ("gpt-oss",),
            (_WITH_DEVELOPER, Drop("disable_reasoning", why="this model always reasons"), efforts_rule(("low", "medium", "high"))),
        ),
        NewerThan(("kimi-k",), _LOW_HIGH_MAX, (3, 0), "kimi-k3"),
        NewerThan(("glm-", "zai-glm-"), _LOW_HIGH_MAX, (5, 3), "glm-5.3"),
        ForModels(("kimi-k3", "glm-5.3", "zai-glm-5.3"), _LOW_HIGH_MAX),
    ),
)
