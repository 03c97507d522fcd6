"""OpenRouter. Sources: openrouter.ai/docs (API reference, parameters).

OpenRouter routes to many providers and drops the parameters that the chosen provider does not support, unless the request has
`provider: {require_parameters: true}`.
"""

from __future__ import annotations

from providers.openai_compatible import PATHS, RERANK_PATH, OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES, LOGPROBS, SAMPLING
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.messages import Roles
from providers.rules.names import OutputCap
from providers.rules.rule import Accepts
from providers.rules.shapes import Choices, ResponseFormat, StreamUsage, ToolChoice, Tools
from providers.rules.values import BiasRange, OneOf, Range

OPENROUTER = OpenAICompatible(
    "openrouter",
    Wire(
        label="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        paths={**PATHS, **RERANK_PATH},
        unknown="new",
        reports_cost=True,
        source="openrouter.ai/docs",
    ),
    (
        *GATEWAY_RULES,
        *CONTEXT_POLICY,
        Accepts("model messages stream stop user verbosity prediction parallel_tool_calls modalities web_search_options"),
        Accepts("provider models route transforms reasoning usage plugins top_a structured_outputs include_reasoning"),
        Roles(accepts=("system", "developer", "user", "assistant", "tool")),
        OutputCap("max_tokens", accepts_both=True),
        *SAMPLING,
        Range("top_k", 0),
        Range("min_p", 0, 1),
        Range("repetition_penalty", 0, 2),
        Choices(param="n"),
        BiasRange("logit_bias"),
        *LOGPROBS,
        LegacyFunctions("functions", one_call=True),
        Tools("tools"),
        ToolChoice("tool_choice"),
        ResponseFormat("response_format"),
        StreamUsage("stream_options", only_streams=False),
        OneOf("reasoning_effort", ("none", "minimal", "low", "medium", "high", "xhigh"), nearest={"max": "xhigh"}),
    ),
)
