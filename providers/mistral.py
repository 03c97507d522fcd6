"""Mistral. Source: mistralai 3.7.0."""

from __future__ import annotations

from providers.openai_compatible import PATHS, OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.messages import Roles
from providers.rules.names import OutputCap, Rename
from providers.rules.pairs import Requires
from providers.rules.rule import Accepts
from providers.rules.schemas import StrictFormat, StrictTools
from providers.rules.shapes import Choices, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.values import OneOf, Range
from providers.schema_dialects import MISTRAL_SCHEMAS

MISTRAL = OpenAICompatible(
    "mistral",
    Wire(
        label="Mistral",
        base_url="https://api.mistral.ai/v1",
        paths={name: PATHS[name] for name in ("chat", "embeddings")},
        prefill={},
        source="mistralai 3.7.0",
    ),
    (
        *GATEWAY_RULES,
        *CONTEXT_POLICY,
        Accepts("model messages stream min_tokens top_k repetition_penalty frequency_penalty presence_penalty logprobs metadata"),
        Accepts("parallel_tool_calls prompt_cache_key prediction safe_prompt prompt_mode guardrails prompt_logprobs"),
        Roles(accepts=("system", "user", "assistant", "tool")),
        OutputCap("max_tokens"),
        Rename("min_completion_tokens", "min_tokens"),
        Range("temperature", 0, 1.5),
        Range("top_p", 0, 1),
        Choices(param="n", max_choices=128),
        Rename("seed", "random_seed"),
        StopStrings("stop"),
        Requires("top_logprobs", "logprobs"),
        LegacyFunctions("functions", one_call=True),
        Tools("tools"),
        StrictTools(dialect=MISTRAL_SCHEMAS),
        ToolChoice("tool_choice", ("auto", "none", "any", "required", "named")),
        ResponseFormat("response_format", warn_without_json=True),
        StrictFormat(dialect=MISTRAL_SCHEMAS),
        StreamUsage("stream_options", "always"),
        OneOf("service_tier", ("auto", "standard_only")),
        OneOf("reasoning_effort", ("none", "minimal", "low", "medium", "high", "xhigh", "max")),
    ),
)
