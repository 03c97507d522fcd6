"""Friendli. Sources: Friendli's chat completions page, and friendli 0.16.5 (0.4.4 for the timeout).

For dedicated and container endpoints, set `base_url`: https://api.friendli.ai/dedicated/v1, http://HOST:8000/v1.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from providers.openai_compatible import PATHS, OpenAICompatible, Settings, Wire
from providers.rules.common import CONTEXT_POLICY
from providers.rules.messages import ContentParts, Roles, SystemPrompt
from providers.rules.not_given import NOT_GIVEN
from providers.rules.pairs import Excludes, Requires
from providers.rules.rule import Accepts, Rule, Work
from providers.rules.shapes import Choices, LegacyFunctions, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.values import Drop, EnforcedLocally, MapValues, MoveToHeader, OneOf, OutputCap, Range, Rename


class FriendliSettings(Settings, frozen=True, forbid_unknown_fields=True):
    """Settings of Friendli."""

    team: Annotated[
        str | None,
        Meta(
            description="Default team, sent as the header `x-friendli-team`. A request can name another.",
            examples=["team_123"],
        ),
    ] = None
    forward_timeout: Annotated[
        bool,
        Meta(
            description="Send `timeout_microseconds` to the provider instead of applying it in the gateway.",
            examples=[True],
        ),
    ] = False


class EffortNone(Rule, frozen=True):
    """Effort `none`, which Friendli's chat template takes as `enable_thinking: false`."""

    @property
    def may_add(self) -> tuple[str, ...]:
        return ("chat_template_kwargs",)

    def apply(self, work: Work) -> None:
        """Turn thinking off in the chat template."""
        if work.body.get(self.param) != "none":
            return
        work.body.pop(self.param)
        work.body.set("chat_template_kwargs", {**(work.body.get("chat_template_kwargs") or {}), "enable_thinking": False})
        work.report(self.param, "reshape", to="chat_template_kwargs.enable_thinking")


FRIENDLI = OpenAICompatible(
    "friendli",
    Wire(
        label="Friendli",
        base_url="https://api.friendli.ai/serverless/v1",
        paths={name: PATHS[name] for name in ("chat", "completions")},
        options=FriendliSettings,
        setting_headers=(("team", "x-friendli-team"),),
        source="Friendli's chat completions page and friendli 0.16.5",
    ),
    (
        SystemPrompt(),
        *NOT_GIVEN,
        EnforcedLocally("timeout_microseconds", why="limits the gateway's own deadline", unless="forward_timeout"),
        *CONTEXT_POLICY,
        Accepts("model messages stream eos_token logit_bias logprobs parallel_tool_calls chat_template_kwargs include_reasoning"),
        Accepts("parse_reasoning"),
        Roles(accepts=("system", "user", "assistant", "tool")),
        ContentParts(
            accepts=("text", "image_url", "image", "audio_url", "audio", "input_audio", "video_url", "video"),
            as_string=("system", "assistant", "tool"),
        ),
        OutputCap("max_tokens"),
        LegacyFunctions("functions"),
        Tools("tools", limit=128, require_parameters=True),
        ToolChoice("tool_choice"),
        Rename("min_completion_tokens", "min_tokens"),
        Range("min_tokens", 0),
        Excludes("min_tokens", ("tools", "response_format")),
        Excludes("response_format", ("tools", "min_tokens")),
        ResponseFormat("response_format", ("text", "json_object", "json_schema", "regex"), warn_without_json=True, schema_only=True),
        Range("temperature", 0),
        Range("top_p", 0, 1),
        Range("min_p", 0, 1),
        Range("frequency_penalty", -2, 2),
        Range("presence_penalty", -2, 2),
        Range("repetition_penalty", 1),
        Range("top_k", 0, refuse=True),
        Range("xtc_threshold", 0, 1),
        Range("xtc_probability", 0, 1),
        Range("reasoning_budget", 1),
        Choices(param="n", max_choices=128, seed_list=True),
        StopStrings("stop", as_list=True),
        Requires("top_logprobs", "logprobs"),
        StreamUsage("stream_options"),
        EffortNone("reasoning_effort"),
        OneOf("reasoning_effort", ("minimal", "low", "medium", "high", "xhigh", "max", "ultracode")),
        MapValues("reasoning_format", "parse_reasoning", (("parsed", True), ("raw", False))),
        MoveToHeader("team", "X-Friendli-Team"),
        Drop("user", why="no such field"),
    ),
)
