"""OpenAI, and its reasoning models by prefix.

Sources: openai 3.52.0 (chat parameters and ranges), Azure's how-to on reasoning models, pydantic-ai-slim 2.68.0 (families).
"""

from __future__ import annotations

from typing import Any

from providers.base import Body
from providers.openai_compatible import PATHS, Wire
from providers.responses_wire.models import (
    BY_PREFIX,
    NEWEST,
    REASONING_FAMILIES,
    Family,
    ForFamily,
    default_tools,
    family_of,
    is_only_way,
    rejects_tools,
)
from providers.responses_wire.provider import OpenAI, OpenAISettings, Ways
from providers.rules.common import CONTEXT_POLICY, EFFORTS, GATEWAY_RULES, LOGPROBS, SAMPLING
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.model_tables import NewerModel, nearest_efforts
from providers.rules.names import OutputCap
from providers.rules.not_given import ParallelWithoutTools
from providers.rules.rule import UNSUPPORTED, Accepts, ForModels, Rule, Work
from providers.rules.schemas import StrictFormat, StrictTools
from providers.rules.shapes import Choices, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.stored import StoredByGateway
from providers.rules.values import BiasRange, Drop, EnforcedLocally, OneOf, Range, StopsEnforcedLocally
from providers.schema_dialects import OPENAI_SCHEMAS

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
    StrictFormat(dialect=OPENAI_SCHEMAS),
    Tools("tools", functions_only=False),
    StrictTools(dialect=OPENAI_SCHEMAS),
    ToolChoice("tool_choice", ("auto", "none", "required", "named", "custom", "allowed_tools")),
    StreamUsage("stream_options"),
    Accepts("parallel_tool_calls user safety_identifier prompt_cache_key metadata store prediction modalities audio"),
    ParallelWithoutTools(counts_functions=False),
    Accepts("web_search_options moderation prompt_cache_options prompt_cache_retention"),
    OneOf("service_tier", ("auto", "default", "flex", "scale", "priority", "fast")),
    OneOf("reasoning_effort", EFFORTS, nearest={"max": "xhigh"}),
    OneOf("verbosity", ("low", "medium", "high")),
)


class DropWhileReasoning(Rule, frozen=True):
    """A sampling parameter that a model rejects while it reasons. `neutral` is the value that the model then uses."""

    default_on: bool = True
    neutral: Any = 1
    accepts_neutral: bool = False
    """Whether the neutral value may be sent while the model reasons."""

    def apply(self, work: Work) -> None:
        """Drop the parameter unless the effort, set or default, is `none`. An accepted neutral value stays."""
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


_NO_TOOLS = "the model accepts no tools in chat completions while it reasons"


class ToolsWithoutReasoning(Rule, frozen=True):
    """Disables reasoning if there are tools, which newer models reject in chat completions while they reason.

    This rule applies only where the configuration or the version of Azure's API rules out the Responses API.
    """

    param: str = "tools"
    default_on: bool = True
    can_stop: bool = True
    """Whether the model accepts effort `none`. If not, all tools are rejected."""

    def apply(self, work: Work) -> None:
        """Set the effort to `none`, or refuse the tools if the model always reasons. Replacing an effort set by the caller is lossy."""
        effort = work.body.get("reasoning_effort")
        if not work.body.is_true(self.param) or effort == "none" or (effort is None and not self.default_on):
            return
        if not self.can_stop:
            why = "this model always reasons, and therefore accepts no tools in chat completions"
            raise work.refuse(self.param, why, "unsupported_combination")
        if effort is None:
            work.report("reasoning_effort", "set_default", to="none", why=_NO_TOOLS)
        else:
            work.report_lossy("reasoning_effort", "clamp", _NO_TOOLS, from_=effort, to="none", code="unsupported_combination")
        work.body.set("reasoning_effort", "none")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes", "advice": "sent through the Responses API if the model reasons"}}


def _rules(family: Family, *, by_responses: bool = False) -> tuple[Rule, ...]:
    """Return the rules that replace the general ones for a reasoning family, in chat completions or in the Responses API."""
    on = family.default_on
    efforts = (*family.efforts, "max") if by_responses and family.max_effort else family.efforts
    tools = ToolsWithoutReasoning("tools", on, "none" in family.efforts)
    return (
        LegacyFunctions("functions", family.parallel_calls),
        Tools("tools", functions_only=False),
        ToolChoice("tool_choice", ("auto", "none", "required", "named", "custom", "allowed_tools")),
        OutputCap("max_completion_tokens"),
        OneOf("reasoning_effort", efforts, nearest=nearest_efforts(efforts)),
        *(() if family.tools_while_reasoning or by_responses else (tools,)),
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
        NotAtMinimal("parallel_tool_calls") if family.parallel_calls else Drop("parallel_tool_calls", why="not for this model"),
        Drop("prediction"),
        Drop("modalities"),
        Drop("audio"),
        *(() if family.web_search and not by_responses else (Drop("web_search_options"),)),
        *(() if family.accepts_stop and not by_responses else (StopsEnforcedLocally(),)),
    )


_NO_REASONING: tuple[Rule, ...] = (
    Drop("reasoning_effort", why="not a reasoning model", neutral=("none",)),
    Drop("verbosity", why="not for this model"),
)
_SEARCH = "models with web search reject it"
_SEARCH_MODELS: tuple[Rule, ...] = (
    *_NO_REASONING,
    *(Drop(name, why=_SEARCH) for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias")),
    *(Drop(name, why=_SEARCH) for name in ("logprobs", "top_logprobs", "parallel_tool_calls", "prediction")),
    Choices(param="n", has_seed=False),
    StopsEnforcedLocally(),
)
"""gpt-4o-search-preview and its mini version, as of 2026-11: ai#5609, ruby_llm#155, mods#480."""

OPENAI_RULES: tuple[Rule | ForModels, ...] = (
    *TEXT_MODELS,
    ForModels(("gpt-5-chat",), (OutputCap("max_completion_tokens"), _NO_REASONING[0])),
    *(ForFamily((family.prefix,), _rules(family)) for family in REASONING_FAMILIES),
    *(ForModels(prefixes, (NewerModel(like=like), *_rules(BY_PREFIX[like]))) for prefixes, like in NEWEST),
    ForModels(("gpt-4o-search-preview", "gpt-4o-mini-search-preview"), _SEARCH_MODELS),
    ForModels(("gpt-4", "gpt-3.5", "chatgpt-4o"), _NO_REASONING),
)

CHAT_BY_RESPONSES: tuple[Rule | ForModels, ...] = (
    *GATEWAY_RULES,
    *CONTEXT_POLICY,
    Accepts("model messages stream include_reasoning"),
    OutputCap("max_completion_tokens"),
    Range("temperature", 0, 2),
    Range("top_p", 0, 1),
    Choices(param="n", has_seed=False),
    StopsEnforcedLocally(),
    *LOGPROBS,
    ResponseFormat("response_format"),
    StrictFormat(dialect=OPENAI_SCHEMAS),
    LegacyFunctions("functions", one_call=True),
    Tools("tools", functions_only=False),
    StrictTools(dialect=OPENAI_SCHEMAS),
    ToolChoice("tool_choice", ("auto", "none", "required", "named", "custom", "allowed_tools")),
    StreamUsage("stream_options", "always"),
    Accepts("parallel_tool_calls user safety_identifier prompt_cache_key metadata store"),
    ParallelWithoutTools(),
    Accepts("moderation prompt_cache_options prompt_cache_retention"),
    OneOf("service_tier", ("auto", "default", "flex", "scale", "priority", "fast")),
    OneOf("reasoning_effort", EFFORTS, nearest={"max": "xhigh"}),
    OneOf("verbosity", ("low", "medium", "high")),
    ForModels(("gpt-5-chat",), (_NO_REASONING[0],)),
    *(ForFamily((family.prefix,), _rules(family, by_responses=True)) for family in REASONING_FAMILIES),
    *(ForModels(prefixes, (NewerModel(like=like), *_rules(BY_PREFIX[like], by_responses=True))) for prefixes, like in NEWEST),
    ForModels(("gpt-4", "gpt-3.5", "chatgpt-4o"), _NO_REASONING),
)
"""Rules for chat completions that are sent through the Responses API. Parameters that only chat completions have are dropped."""

_REASONS = (StoredByGateway(encrypts=True),)
RESPONSES_RULES: tuple[Rule | ForModels, ...] = (
    EnforcedLocally("timeout_microseconds", why="the gateway applies this time limit itself"),
    StoredByGateway(),
    ForModels(("gpt-5-chat",), (StoredByGateway(),)),
    *(ForFamily((family.prefix,), _REASONS) for family in REASONING_FAMILIES),
    *(ForModels(prefixes, _REASONS) for prefixes, _ in NEWEST),
)
"""The rules for native requests. Other fields are passed unchanged. Source: openai 3.52.0 (ResponseCreateParams)."""

RESPONSES_PATHS = {**PATHS, "responses": "/responses"}
CHAT_ONLY = ("search-preview", "search-api", "audio", "o1-mini")
"""Parts of the names of models without the Responses API: truefoundry/models#2006 (OpenAI's tables of models, 2026-08)."""


def needs_responses(model: str, body: Body) -> bool:
    """Return whether the model of a call rejects the call's tools in chat completions because it reasons."""
    if not rejects_tools(model) or not (body.is_true("tools") or body.is_true("functions")):
        return False
    family, effort = family_of(model), body.get("reasoning_effort")
    return effort != "none" and (effort is not None or family is None or family.default_on)


WAYS = Ways(
    CHAT_BY_RESPONSES,
    is_only_way,
    needs_responses,
    reasons=lambda model: family_of(model) is not None,
    default_tools=default_tools,
)

OPENAI = OpenAI(
    "openai",
    Wire(
        label="OpenAI",
        base_url="https://api.openai.com/v1",
        accepts_nulls=True,
        paths=RESPONSES_PATHS,
        chat_only=CHAT_ONLY,
        options=OpenAISettings,
        source="openai 3.52.0",
    ),
    OPENAI_RULES,
    WAYS,
    {"responses": RESPONSES_RULES},
)
