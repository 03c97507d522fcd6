"""OpenAI, and its reasoning models by prefix.

Sources: openai 3.52.0 (chat parameters and ranges), Azure's how-to on reasoning models, pydantic-ai-slim 2.68.0 (families).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from providers.openai_compatible import OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, EFFORTS, GATEWAY_RULES, LOGPROBS, SAMPLING
from providers.rules.engine import UNSUPPORTED, Accepts, ForModels, Rule, Work
from providers.rules.shapes import Choices, LegacyFunctions, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.values import BiasRange, Drop, MoveToHeader, OneOf, OutputCap, Range

TEXT_MODELS: tuple[Rule, ...] = (
    *GATEWAY_RULES,
    *CONTEXT_POLICY,
    Accepts("model messages stream functions function_call"),
    OutputCap("max_completion_tokens", accepts_both=True),
    *SAMPLING,
    Choices(param="n", max_choices=128, best_effort_seed=True),
    StopStrings("stop", limit=4),
    BiasRange("logit_bias"),
    *LOGPROBS,
    ResponseFormat("response_format"),
    Tools("tools", functions_only=False),
    ToolChoice("tool_choice", ("auto", "none", "required", "named", "custom", "allowed_tools")),
    StreamUsage("stream_options"),
    Accepts("parallel_tool_calls user safety_identifier prompt_cache_key metadata store prediction modalities audio"),
    Accepts("web_search_options moderation prompt_cache_options prompt_cache_retention"),
    OneOf("service_tier", ("auto", "default", "flex", "scale", "priority", "fast")),
    OneOf("reasoning_effort", EFFORTS, nearest={"max": "xhigh"}),
    OneOf("verbosity", ("low", "medium", "high")),
)


class DropWhileReasoning(Rule, frozen=True):
    """A sampling parameter that a model rejects while it reasons. `neutral` is the value that it uses then."""

    default_on: bool = True
    neutral: Any = 1
    accepts_neutral: bool = False
    """The neutral value may be sent while the model reasons."""

    def apply(self, work: Work) -> None:
        """Drop it unless the effort in force is `none`."""
        effort = work.body.get("reasoning_effort")
        if not (self.default_on if effort is None else effort != "none"):
            return
        value = work.body.get(self.param)
        if self.neutral is None or value != self.neutral:
            work.drop(self.param, UNSUPPORTED)
        elif not self.accepts_neutral:
            work.body.pop(self.param)
            work.report(self.param, "drop", why="neutral value")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "no" if self.default_on else "yes", "while_reasoning": False}}


class NotAtMinimal(Rule, frozen=True):
    """Parallel tool calls, which reasoning models reject with effort `minimal`."""

    def apply(self, work: Work) -> None:
        if work.body.get("reasoning_effort") == "minimal" and work.body.get(self.param):
            work.report_lossy(self.param, "drop", "not supported at effort minimal", code="unsupported_combination")
            work.body.pop(self.param)


class Family(NamedTuple):
    """Reasoning models with a common prefix."""

    prefix: str
    default_on: bool
    efforts: tuple[str, ...]
    accepts_stop: bool = False


_ALL = ("none", "low", "medium", "high", "xhigh")
_WITH_MINIMAL = EFFORTS
_UP = ("low", "medium", "high", "xhigh")
_PRO = ("medium", "high", "xhigh")

REASONING_FAMILIES: tuple[Family, ...] = (
    Family("gpt-6-astra", True, _UP),
    Family("gpt-6.1-sol", True, _UP),
    Family("gpt-6.1-terra", True, _WITH_MINIMAL),
    Family("gpt-6", True, _WITH_MINIMAL),
    Family("gpt-5.6", True, _ALL),
    Family("gpt-5.5-pro", True, _PRO),
    Family("gpt-5.5", True, _WITH_MINIMAL),
    Family("gpt-5.4-pro", True, _PRO),
    Family("gpt-5.4", False, _WITH_MINIMAL),
    Family("gpt-5.3-chat", True, ("medium",)),
    Family("gpt-5.3", False, _WITH_MINIMAL),
    Family("gpt-5.2-pro", True, _PRO),
    Family("gpt-5.2-chat", True, ("medium",)),
    Family("gpt-5.2", False, _WITH_MINIMAL),
    Family("gpt-5.1-codex", True, ("minimal", *_UP)),
    Family("gpt-5.1-chat", True, ("medium",)),
    Family("gpt-5.1", False, _WITH_MINIMAL),
    Family("gpt-5-pro", True, ("high",)),
    Family("gpt-5", True, ("minimal", "low", "medium", "high")),
    Family("o1", True, ("low", "medium", "high"), accepts_stop=True),
    Family("o3", True, ("low", "medium", "high")),
    Family("o4", True, ("low", "medium", "high")),
)
"""The first prefix that matches wins. OpenAI rejects effort `max` on all of them, although the SDK's type lists it."""


def _reasoning(family: Family) -> ForModels:
    """Return the rules that replace the general ones for a reasoning family."""
    lowest = next(effort for effort in family.efforts if effort != "none")
    nearest = {"none": lowest, "minimal": lowest, "low": lowest, "medium": family.efforts[-1], "high": family.efforts[-1]}
    to = {**nearest, "xhigh": family.efforts[-1], "max": family.efforts[-1]}
    on = family.default_on
    rules: tuple[Rule, ...] = (
        LegacyFunctions("functions"),
        Tools("tools", functions_only=False),
        ToolChoice("tool_choice", ("auto", "none", "required", "named", "custom", "allowed_tools")),
        OutputCap("max_completion_tokens"),
        OneOf("reasoning_effort", family.efforts, nearest={word: near for word, near in to.items() if word not in family.efforts}),
        DropWhileReasoning("temperature", on, accepts_neutral=True),
        Range("temperature", 0, 2),
        DropWhileReasoning("top_p", on),
        Range("top_p", 0, 1),
        DropWhileReasoning("top_logprobs", on, None),
        DropWhileReasoning("logprobs", on, None),
        Range("top_logprobs", 0, 20),
        Drop("frequency_penalty"),
        Drop("presence_penalty"),
        Drop("logit_bias"),
        NotAtMinimal("parallel_tool_calls"),
        Drop("prediction"),
        Drop("modalities"),
        Drop("audio"),
        Drop("web_search_options"),
        *(() if family.accepts_stop else (Drop("stop"),)),
    )
    return ForModels((family.prefix,), rules)


_NO_REASONING: tuple[Rule, ...] = (Drop("reasoning_effort", why="not a reasoning model"), Drop("verbosity", why="not for this model"))

OPENAI_RULES: tuple[Rule | ForModels, ...] = (
    *TEXT_MODELS,
    ForModels(("gpt-5-chat",), (OutputCap("max_completion_tokens"), _NO_REASONING[0])),
    *map(_reasoning, REASONING_FAMILIES),
    ForModels(("gpt-4", "gpt-3.5", "chatgpt-4o"), _NO_REASONING),
)

OPENAI = OpenAICompatible(
    "openai",
    Wire(label="OpenAI", base_url="https://api.openai.com/v1", accepts_nulls=True, source="openai 3.52.0"),
    (*OPENAI_RULES, MoveToHeader("team", "OpenAI-Organization")),
)
