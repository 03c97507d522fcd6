"""DeepSeek, whose models think by default, except `deepseek-chat`.

Sources: DeepSeek's documentation; other projects' notes on ignored fields.
"""

from __future__ import annotations

from typing import Any

from providers.openai_compatible import PATHS, OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.messages import Roles
from providers.rules.model_tables import NewerThan
from providers.rules.names import OutputCap, Rename
from providers.rules.pairs import Requires
from providers.rules.rule import Accepts, ForModels, Rule, Work
from providers.rules.shapes import Choices, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.values import Drop, MapValues, OneOf, Range


def _thinks(work: Work, default_on: bool) -> bool:
    thinking = work.body.get("thinking")
    kind = thinking.get("type") if type(thinking) is dict else None
    return kind != "disabled" if default_on else kind == "enabled"


class IgnoredWhileThinking(Rule, frozen=True):
    """A sampling parameter that the upstream silently ignores while the model thinks."""

    neutral: Any = 1
    default_on: bool = True

    def apply(self, work: Work) -> None:
        """Drop the parameter while the model thinks, unless its value is neutral."""
        value = work.body.get(self.param)
        if value is not None and value != self.neutral and _thinks(work, self.default_on):
            work.drop(self.param, "ignored while the model thinks; `reasoning_effort: none` disables thinking")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "no" if self.default_on else "yes", "while_thinking": False}}


class NoForcedChoiceWhileThinking(Rule, frozen=True):
    """A forced tool choice, which the upstream rejects while the model thinks."""

    default_on: bool = True

    def apply(self, work: Work) -> None:
        value = work.body.get(self.param)
        if value not in (None, "auto", "none") and _thinks(work, self.default_on):
            work.report_lossy(self.param, "drop", "a forced choice is rejected while the model thinks", code="unsupported_combination")
            work.body.pop(self.param)


def _thinking_rules(*, default_on: bool) -> tuple[Rule, ...]:
    """Return the rules for the parameters that a model ignores or rejects while it thinks."""
    return (
        IgnoredWhileThinking("temperature", default_on=default_on),
        Range("temperature", 0, 2),
        IgnoredWhileThinking("top_p", default_on=default_on),
        Range("top_p", 0, 1),
        IgnoredWhileThinking("frequency_penalty", 0, default_on),
        Range("frequency_penalty", -2, 2),
        IgnoredWhileThinking("presence_penalty", 0, default_on),
        Range("presence_penalty", -2, 2),
        LegacyFunctions("functions"),
        Tools("tools"),
        ToolChoice("tool_choice"),
        NoForcedChoiceWhileThinking("tool_choice", default_on),
    )


_OFF = {"type": "disabled"}
_NEAREST = {"minimal": "low", "medium": "high", "xhigh": "high", "ultra": "max"}
"""DeepSeek's own mapping of effort levels that are not in its list."""

DEEPSEEK = OpenAICompatible(
    "deepseek",
    Wire(
        label="DeepSeek",
        base_url="https://api.deepseek.com",
        paths={name: PATHS[name] for name in ("chat",)},
        source="api-docs.deepseek.com",
    ),
    (
        *GATEWAY_RULES,
        *CONTEXT_POLICY,
        Accepts("model messages stream logprobs thinking"),
        Roles(accepts=("system", "user", "assistant", "tool")),
        OutputCap("max_tokens"),
        MapValues("reasoning_effort", "thinking", (("none", _OFF),), shown_as="thinking.type", keep_others=True),
        OneOf("reasoning_effort", ("low", "high", "max"), nearest=_NEAREST),
        MapValues("disable_reasoning", "thinking", ((True, _OFF), (False, None)), shown_as="thinking.type"),
        *_thinking_rules(default_on=True),
        Choices(param="n", has_seed=False),
        StopStrings("stop", limit=16),
        Range("top_logprobs", 0, 20),
        Requires("top_logprobs", "logprobs"),
        ResponseFormat("response_format", ("text", "json_object"), warn_without_json=True),
        StreamUsage("stream_options"),
        Rename("user", "user_id"),
        Drop("logit_bias", why="not documented"),
        Drop("parallel_tool_calls", why="not documented"),
        NewerThan(("deepseek-v",), (), (4, 1), "deepseek-v4-pro"),
        ForModels(("deepseek-chat",), _thinking_rules(default_on=False)),
    ),
)
