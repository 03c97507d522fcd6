"""Friendli. Sources: Friendli's chat completions page, and friendli 0.16.5 (0.4.4 for the timeout).

For dedicated and container endpoints, set `base_url` to https://api.friendli.ai/dedicated/v1 or http://HOST:8000/v1.

Tools that Friendli runs itself (`{"type": "web:search"}`) have a path of their own: friendli.ai/docs on tool-assisted chat
completions, as of 2026-11.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta

from providers.base import Adjustment, Body, Options, Refusal, StreamDecoder, Target, WireRequest
from providers.openai_compatible import PATHS, OpenAICompatible, Settings, Wire, base_path
from providers.rules.common import CONTEXT_POLICY, OPENAI_FORMS
from providers.rules.embeddings import is_token_array
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.messages import ContentParts, Roles, SystemPrompt
from providers.rules.names import OutputCap, Rename
from providers.rules.not_given import NOT_GIVEN
from providers.rules.pairs import Excludes, MinimumBelowCap, Requires
from providers.rules.rule import Accepts, Rule, Work
from providers.rules.shapes import Choices, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.values import Drop, EnforcedLocally, MapValues, MoveToHeader, OneOf, Range


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
    """Sends effort `none` as `enable_thinking: false`, a variable of Friendli's chat templates."""

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


class BuiltInTools(Rule, frozen=True):
    """Tools that Friendli runs itself, and the field that goes with them."""

    @property
    def params(self) -> tuple[str, ...]:
        return ("tools", "resume_generation")

    def apply(self, work: Work) -> None:
        """Refuse tools of other types. Drop `resume_generation` if the request has no built-in tools."""
        built_in = False
        for index, tool in enumerate(work.body.get("tools") or ()):
            kind = tool.get("type", "function")
            if kind != "function" and ":" not in kind:
                why = "functions and built-in tools such as web:search are supported"
                raise work.refuse(f"tools[{index}].type", why, "unsupported_parameter")
            built_in = built_in or kind != "function"
        if "resume_generation" in work.body and not built_in:
            work.drop("resume_generation", "it requires a built-in tool", "unsupported_combination")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"tools": {"support": "yes", "values": ["function", "built-in"]}}


class WithoutToolStatus(StreamDecoder):
    """Leaves out the events in which Friendli reports the progress of its built-in tools."""

    def __init__(self, inner: StreamDecoder | None) -> None:
        self._inner = inner

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """Return the chunk, or nothing for an event that is not a chunk."""
        if event == "tool_status":
            return ()
        return self._inner.feed(event, data) if self._inner is not None else (data,)

    def end(self) -> Sequence[bytes]:
        """Return the last chunks of the inner decoder."""
        return self._inner.end() if self._inner is not None else ()


class Friendli(OpenAICompatible):
    """Friendli, with the path for its built-in tools."""

    def adapt(self, body: Body, target: Target, options: Options) -> list[Adjustment]:
        """Apply the rules. Raise Refusal for built-in tools or embeddings at an endpoint that lacks them."""
        if options.operation == "embeddings" and base_path(target.base_url).endswith("/serverless/v1"):
            raise Refusal("Friendli offers embeddings at dedicated endpoints only.", None, "unsupported_operation")
        adjustments = super().adapt(body, target, options)
        if options.operation == "embeddings" and _token_ids(body) is not None:
            adjustments.append(Adjustment("input", "rename", to="tokens"))
        if options.operation == "chat" and _has_built_in_tools(body) and _tools_path(target) is None:
            raise Refusal(f"'tools' contains built-in tools. {_NO_BUILT_IN}.", "tools", "unsupported_parameter")
        return adjustments

    def encode(self, body: Body, target: Target, options: Options) -> WireRequest:
        """Return the request, at the path for built-in tools if the body contains such tools. Token ids have a field of their own."""
        if options.operation == "embeddings" and (tokens := _token_ids(body)) is not None:
            body.pop("input")
            body.set("tokens", tokens)
        request = super().encode(body, target, options)
        if options.operation == "chat" and _has_built_in_tools(body):
            options.memo[_ASSISTED] = True
            request.path = _tools_path(target) or request.path
        return request

    def decoder(self, target: Target, options: Options) -> StreamDecoder | None:
        inner = super().decoder(target, options)
        return WithoutToolStatus(inner) if options.memo.get(_ASSISTED) else inner


_ASSISTED = "friendli_tools"
_NO_BUILT_IN = "Friendli runs them only at https://api.friendli.ai/serverless/v1"


def _token_ids(body: Body) -> list[int] | None:
    """Return the first token array of an embeddings request, or None if its inputs are text."""
    value = body.get("input")
    flat = value[0] if type(value) is list and type(value[0]) is list else value
    return flat if is_token_array(flat) else None


def _has_built_in_tools(body: Body) -> bool:
    if "tools" not in body:
        return False
    return any(tool.get("type", "function") != "function" for tool in body.get("tools") or ())


def _tools_path(target: Target) -> str | None:
    """Return the path for built-in tools, or None for an endpoint that lacks them."""
    path = base_path(target.base_url)
    if not path.endswith("/v1") or path.endswith("/dedicated/v1"):
        return None
    return f"{path.removesuffix('/v1')}/tools/v1/chat/completions"


FRIENDLI = Friendli(
    "friendli",
    Wire(
        label="Friendli",
        base_url="https://api.friendli.ai/serverless/v1",
        paths={name: PATHS[name] for name in ("chat", "completions", "embeddings")},
        options=FriendliSettings,
        setting_headers=(("team", "x-friendli-team"),),
        source="Friendli's chat completions page and friendli 0.16.5",
    ),
    (
        SystemPrompt(),
        *NOT_GIVEN,
        *OPENAI_FORMS,
        MinimumBelowCap(),
        EnforcedLocally("timeout_microseconds", why="the gateway applies this time limit itself", unless="forward_timeout"),
        *CONTEXT_POLICY,
        Accepts("model messages stream eos_token logit_bias logprobs parallel_tool_calls chat_template_kwargs include_reasoning"),
        Accepts("parse_reasoning"),
        Roles(accepts=("system", "user", "assistant", "tool")),
        ContentParts(
            accepts=("text", "image_url", "image", "audio_url", "audio", "input_audio", "video_url", "video"),
            as_string=("system", "assistant", "tool"),
        ),
        OutputCap("max_tokens"),
        LegacyFunctions("functions", one_call=True),
        Tools("tools", limit=128, functions_only=False),
        BuiltInTools("tools"),
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
    {"embeddings": (MoveToHeader("team", "X-Friendli-Team"),)},
)
