"""OpenAI, and its reasoning models by prefix.

Sources: openai 3.52.0 (chat parameters and ranges), Azure's how-to on reasoning models, pydantic-ai-slim 2.68.0 (families).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from providers.openai_compatible import PATHS, NativeResponses, OpenAICompatible, Wire
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
    """The neutral value may be sent while the model reasons."""

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
    """Disables reasoning if there are tools, which newer models reject in chat completions while they reason."""

    param: str = "tools"
    default_on: bool = True
    can_stop: bool = True
    """Whether the model accepts effort `none`. If not, all tools are rejected."""

    def apply(self, work: Work) -> None:
        """Set the effort to `none`. Replacing an effort set by the caller is lossy."""
        effort = work.body.get("reasoning_effort")
        if not work.body.get(self.param) or effort == "none" or (effort is None and not self.default_on):
            return
        if not self.can_stop:
            why = "this model always reasons, and then accepts no tools in chat completions"
            raise work.refuse(self.param, why, "unsupported_combination")
        if effort is None:
            work.report("reasoning_effort", "set_default", to="none", why=_NO_TOOLS)
        else:
            work.report_lossy("reasoning_effort", "clamp", _NO_TOOLS, from_=effort, to="none", code="unsupported_combination")
        work.body.set("reasoning_effort", "none")

    def describe(self) -> dict[str, dict[str, Any]]:
        if not self.can_stop:
            return {self.param: {"support": "no", "why": "this model accepts no tools in chat completions", "refused": True}}
        return {self.param: {"support": "yes", "advice": "sets `reasoning_effort` to `none`"}}


class Family(NamedTuple):
    """Reasoning models with a common prefix."""

    prefix: str
    default_on: bool
    efforts: tuple[str, ...]
    accepts_stop: bool = False
    tools_while_reasoning: bool = True
    parallel_calls: bool = True
    web_search: bool = False


_ALL = ("none", "low", "medium", "high", "xhigh")
_UP = ("low", "medium", "high", "xhigh")
_UP_TO_HIGH = ("low", "medium", "high")
_PRO = ("medium", "high", "xhigh")

REASONING_FAMILIES: tuple[Family, ...] = (
    Family("gpt-6-astra", True, _UP, tools_while_reasoning=False),
    Family("gpt-6-rosalind", True, _UP, tools_while_reasoning=False),
    Family("gpt-6.1-sol", True, _UP, tools_while_reasoning=False),
    Family("gpt-6.1-terra", True, _ALL, tools_while_reasoning=False),
    Family("gpt-6", True, _ALL, tools_while_reasoning=False),
    Family("gpt-5.6", True, _ALL, tools_while_reasoning=False),
    Family("gpt-5.5-pro", True, _PRO),
    Family("gpt-5.5", True, _ALL, tools_while_reasoning=False),
    Family("gpt-5.4-pro", True, _PRO),
    Family("gpt-5.4", False, _ALL, tools_while_reasoning=False),
    Family("gpt-5.3-chat", True, ("medium",)),
    Family("gpt-5.3", False, _ALL),
    Family("gpt-5.2-pro", True, _PRO),
    Family("gpt-5.2-chat", True, ("medium",)),
    Family("gpt-5.2", False, _ALL),
    Family("gpt-5.1-codex", True, _UP),
    Family("gpt-5.1-chat", True, ("medium",)),
    Family("gpt-5.1", False, ("none", *_UP_TO_HIGH)),
    Family("gpt-5-pro", True, ("high",)),
    Family("gpt-5-codex", True, _UP_TO_HIGH),
    Family("gpt-5-search-api", True, ("minimal", *_UP_TO_HIGH), web_search=True),
    Family("gpt-5", True, ("minimal", *_UP_TO_HIGH)),
    Family("o1", True, _UP_TO_HIGH, accepts_stop=True, parallel_calls=False),
    Family("o3", True, _UP_TO_HIGH, parallel_calls=False),
    Family("o4", True, _UP_TO_HIGH, parallel_calls=False),
)
"""Parameters that models accept on chat completions, as of 2026-11. The first matching prefix wins.

Efforts: litellm 1.109.1 and pydantic-ai-slim 2.68.0; opencode#26268 (values confirmed by OpenAI's own errors). OpenAI
rejects `max` in chat completions. Tools while reasoning: openai-openapi#541 (5.4), litellm#34569 (5.6), onyx#15008 (6-sol),
sub2api#6740 (6-astra). Parallel calls of the o-series: langchain#29704, tensorzero#2805.
"""

NEWEST = (
    (("gpt-5.",), "gpt-5.6"),
    (("gpt-6.",), "gpt-6.1-terra"),
    (("gpt-7", "gpt-8", "gpt-9"), "gpt-6.1-terra"),
    (("o5", "o6", "o7", "o8", "o9"), "o4"),
)
"""Prefixes of models that are newer than the table, and the family whose rules apply to them."""


class ForFamily(ForModels, frozen=True):
    """Rules for a family. The prefix must end at a version: `gpt-5` does not match `gpt-5.7`."""

    def matches(self, model: str) -> bool:
        return any(model.startswith(prefix) and not _DIGITS.match(model, len(prefix)) for prefix in self.prefixes)


_DIGITS = re.compile(r"\.?\d")


def _rules(family: Family) -> tuple[Rule, ...]:
    """Return the rules that replace the general ones for a reasoning family."""
    on = family.default_on
    tools = ToolsWithoutReasoning("tools", on, "none" in family.efforts)
    return (
        LegacyFunctions("functions", family.parallel_calls),
        Tools("tools", functions_only=False),
        ToolChoice("tool_choice", ("auto", "none", "required", "named", "custom", "allowed_tools")),
        OutputCap("max_completion_tokens"),
        OneOf("reasoning_effort", family.efforts, nearest=nearest_efforts(family.efforts)),
        *(() if family.tools_while_reasoning else (tools,)),
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
        *(() if family.web_search else (Drop("web_search_options"),)),
        *(() if family.accepts_stop else (StopsEnforcedLocally(),)),
    )


_BY_PREFIX = {family.prefix: family for family in REASONING_FAMILIES}
_NO_REASONING: tuple[Rule, ...] = (Drop("reasoning_effort", why="not a reasoning model"), Drop("verbosity", why="not for this model"))
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
    *(ForModels(prefixes, (NewerModel(like=like), *_rules(_BY_PREFIX[like]))) for prefixes, like in NEWEST),
    ForModels(("gpt-4o-search-preview", "gpt-4o-mini-search-preview"), _SEARCH_MODELS),
    ForModels(("gpt-4", "gpt-3.5", "chatgpt-4o"), _NO_REASONING),
)

_REASONS = (StoredByGateway(encrypts=True),)
RESPONSES_RULES: tuple[Rule | ForModels, ...] = (
    EnforcedLocally("timeout_microseconds", why="limits the gateway's own deadline"),
    StoredByGateway(),
    ForModels(("gpt-5-chat",), (StoredByGateway(),)),
    *(ForFamily((family.prefix,), _REASONS) for family in REASONING_FAMILIES),
    *(ForModels(prefixes, _REASONS) for prefixes, _ in NEWEST),
)
"""The rules for the Responses API, whose other fields are the caller's own. Source: openai 3.52.0 (ResponseCreateParams)."""

RESPONSES_PATHS = {**PATHS, "responses": "/responses"}
CHAT_ONLY = ("search-preview", "search-api", "audio", "o1-mini")
"""Parts of names of models without the Responses API: truefoundry/models#2006 (OpenAI's tables of models, 2026-08)."""

OPENAI = OpenAICompatible(
    "openai",
    Wire(
        label="OpenAI",
        base_url="https://api.openai.com/v1",
        accepts_nulls=True,
        paths=RESPONSES_PATHS,
        chat_only=CHAT_ONLY,
        options=NativeResponses,
        source="openai 3.52.0",
    ),
    OPENAI_RULES,
    {"responses": RESPONSES_RULES},
)
