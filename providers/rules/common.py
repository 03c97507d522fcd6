"""Rules that most providers share."""

from __future__ import annotations

from providers.rules.messages import SystemPrompt
from providers.rules.not_given import NOT_GIVEN
from providers.rules.other_forms import CountedLogprobs, PredictionText
from providers.rules.pairs import MinimumBelowCap, Requires
from providers.rules.rule import Accepts, Rule
from providers.rules.shapes import IncludeStop
from providers.rules.values import Drop, EnforcedLocally, OneOf, Range

SHARED_RULES: tuple[Rule, ...] = (
    SystemPrompt(),
    *NOT_GIVEN,
    MinimumBelowCap(),
    IncludeStop(),
    EnforcedLocally("timeout_microseconds", why="the gateway applies this time limit itself"),
)
"""Rules for parameters that the gateway handles itself, for every provider."""

OPENAI_FORMS: tuple[Rule, ...] = (CountedLogprobs(), PredictionText())
"""Rules for parameters that some vendors accept in two forms, for providers that accept only OpenAI's form."""

GATEWAY_RULES: tuple[Rule, ...] = (*SHARED_RULES, *OPENAI_FORMS)
"""Rules for every provider that accepts only OpenAI's forms."""

CONTEXT_POLICY: tuple[Rule, ...] = (
    OneOf("context_length_exceeded_behavior", ("truncate", "error"), refuse=True),
    Drop("context_length_exceeded_behavior"),
)
"""Rules for providers that reject a prompt that is too long. Both values are dropped; dropping `truncate` is lossy."""

SAMPLING: tuple[Rule, ...] = (
    Range("temperature", 0, 2),
    Range("top_p", 0, 1),
    Range("frequency_penalty", -2, 2),
    Range("presence_penalty", -2, 2),
)

LOGPROBS: tuple[Rule, ...] = (Accepts("logprobs"), Range("top_logprobs", 0, 20), Requires("top_logprobs", "logprobs"))

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")

NEAREST_EFFORT = {"minimal": "low", "xhigh": "high", "max": "high"}
