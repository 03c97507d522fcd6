"""xAI. Sources: xai-sdk 1.21.0 (the same parameters over gRPC); other projects' notes on reasoning models.

Every answer reports its cost (docs.x.ai/developers/cost-tracking, as of 2026-11).
"""

from __future__ import annotations

from providers.openai_compatible import PATHS, OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.messages import Roles
from providers.rules.model_tables import NewerThan
from providers.rules.names import OutputCap
from providers.rules.pairs import Requires
from providers.rules.rule import Accepts, ForModels, Rule
from providers.rules.schemas import StrictFormat, StrictTools
from providers.rules.shapes import Choices, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.values import Drop, OneOf, Range, StopsEnforcedLocally
from providers.schema_dialects import XAI_SCHEMAS

_EFFORTS = ("none", "low", "medium", "high", "xhigh")
_NEAREST = {"minimal": "low", "max": "xhigh"}
_WHY = "reasoning models reject it"
_REASONING: tuple[Rule, ...] = (
    StopsEnforcedLocally(),
    Drop("frequency_penalty", why=_WHY),
    Drop("presence_penalty", why=_WHY),
)
_NO_EFFORT = Drop("reasoning_effort", why="this model rejects it")
_NO_REASONING = Drop("reasoning_effort", why="this model rejects it", neutral=("none",))
_NEWEST: tuple[Rule, ...] = (*_REASONING, OneOf("reasoning_effort", _EFFORTS[1:], nearest={**_NEAREST, "none": "low"}))


XAI = OpenAICompatible(
    "xai",
    Wire(
        label="xAI",
        base_url="https://api.x.ai/v1",
        paths={name: PATHS[name] for name in ("chat",)},
        reports_cost=True,
        source="xai-sdk 1.21.0",
    ),
    (
        *GATEWAY_RULES,
        *CONTEXT_POLICY,
        Accepts("model messages stream user safety_identifier parallel_tool_calls logit_bias logprobs service_tier search_parameters"),
        Roles(accepts=("system", "user", "assistant", "tool", "function")),
        OutputCap("max_completion_tokens", accepts_both=True),
        Range("temperature", 0, 2),
        Range("top_p", 0, 1),
        Range("frequency_penalty", -2, 2),
        Range("presence_penalty", -2, 2),
        Choices(param="n", max_choices=128, best_effort_seed=True),
        StopStrings("stop", limit=4),
        Range("top_logprobs", 0, 8),
        Requires("top_logprobs", "logprobs"),
        LegacyFunctions("functions", one_call=True),
        Tools("tools", limit=128),
        StrictTools(dialect=XAI_SCHEMAS),
        ToolChoice("tool_choice"),
        ResponseFormat("response_format"),
        StrictFormat(dialect=XAI_SCHEMAS),
        StreamUsage("stream_options"),
        OneOf("reasoning_effort", _EFFORTS, nearest=_NEAREST),
        Drop("store", why="the native API calls it store_messages"),
        Drop("web_search_options", why="the native API uses search_parameters"),
        ForModels(("grok-4-fast-non-reasoning", "grok-4-1-fast-non-reasoning"), (_NO_REASONING,)),
        ForModels(("grok-4.20", "grok-4-20"), (*_REASONING, _NO_EFFORT)),
        NewerThan(("grok-",), _NEWEST, (4, 6), "grok-4.6"),
        ForModels(("grok-4.5", "grok-4.6"), _NEWEST),
        ForModels(("grok-4.3",), (*_REASONING, OneOf("reasoning_effort", _EFFORTS, nearest=_NEAREST))),
        ForModels(("grok-3-mini",), _NEWEST),
        ForModels(("grok-3", "grok-2"), (_NO_REASONING,)),
        ForModels(("grok-4", "grok-code"), (*_REASONING, _NO_EFFORT)),
    ),
)
