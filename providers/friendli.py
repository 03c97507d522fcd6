"""Friendli. Facts: its chat completions page, and friendli 0.16.5 (0.4.4 for the timeout).

Dedicated and container endpoints are a `base_url`: https://api.friendli.ai/dedicated/v1, http://HOST:8000/v1.
"""

from __future__ import annotations

from providers.openai_compatible import PATHS, OpenAICompatible, Settings, Wire
from providers.rules.common import CONTEXT_POLICY
from providers.rules.engine import Takes
from providers.rules.messages import Parts, Roles, SystemPrompt
from providers.rules.pairs import Excludes, Needs
from providers.rules.shapes import Choices, Format, Functions, Stop, StreamUsage, ToolChoice, Tools
from providers.rules.values import Becomes, Cap, Drop, EnforcedHere, OneOf, Range, Rename, ToHeader
from providers.streams import ChunkRepairs


class FriendliSettings(Settings, frozen=True, forbid_unknown_fields=True):
    """Friendli's settings."""

    team: str | None = None
    """The team that requests run as, where they name none."""
    forward_timeout: bool = False
    """Send `timeout_microseconds` upstream (a field up to friendli 0.4.4) instead of keeping it in the gateway."""


FRIENDLI = OpenAICompatible(
    "friendli",
    Wire(
        label="Friendli",
        caller_headers=("x-friendli-team",),
        base_url="https://api.friendli.ai/serverless/v1",
        paths={name: PATHS[name] for name in ("chat", "completions")},
        options=FriendliSettings,
        setting_headers=(("team", "x-friendli-team"),),
        decoder=lambda _: ChunkRepairs((), (b'"null"', b'"error"')),
        source="its chat completions page and friendli 0.16.5",
    ),
    (
        SystemPrompt(),
        EnforcedHere("timeout_microseconds", why="an upper bound on the gateway's own deadline", unless="forward_timeout"),
        *CONTEXT_POLICY,
        Takes("model messages stream eos_token logit_bias logprobs parallel_tool_calls chat_template_kwargs include_reasoning"),
        Takes("parse_reasoning"),
        Roles(takes=("system", "user", "assistant", "tool")),
        Parts(
            takes=("text", "image_url", "image", "audio_url", "audio", "input_audio", "video_url", "video"),
            as_string=("system", "assistant", "tool"),
        ),
        Cap("max_tokens"),
        Functions("functions"),
        Tools("tools", limit=128, parameters=True),
        ToolChoice("tool_choice"),
        Rename("min_completion_tokens", "min_tokens"),
        Range("min_tokens", 0),
        Excludes("min_tokens", ("tools", "response_format")),
        Excludes("response_format", ("tools", "min_tokens")),
        Format("response_format", ("text", "json_object", "json_schema", "regex"), asks=True, schema_only=True),
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
        Choices(param="n", most=128, seed_list=True),
        Stop("stop", listed=True),
        Needs("top_logprobs", "logprobs"),
        StreamUsage("stream_options"),
        OneOf("reasoning_effort", ("minimal", "low", "medium", "high", "xhigh", "max", "ultracode")),
        Becomes("reasoning_format", "parse_reasoning", (("parsed", True), ("raw", False))),
        ToHeader("team", "X-Friendli-Team"),
        Drop("user", why="no such field"),
    ),
)
