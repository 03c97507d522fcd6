"""Mistral. Sources: mistralai 3.7.0."""

from __future__ import annotations

import hashlib
import re
from typing import ClassVar

from providers.openai_compatible import PATHS, OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES
from providers.rules.messages import Message, MessageRule, Roles
from providers.rules.names import OutputCap, Rename
from providers.rules.pairs import Requires
from providers.rules.rule import Accepts, Work
from providers.rules.shapes import Choices, LegacyFunctions, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.values import OneOf, Range

_GOOD_ID = re.compile(r"[A-Za-z0-9]{9}")
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class ShortToolIds(MessageRule, frozen=True):
    """Some models require tool-call ids of nine letters or digits. Other ids are replaced by a hash."""

    words: ClassVar[tuple[bytes, ...]] = (b'"tool_calls"', b'"tool_call_id"')

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        """Shorten the ids of tool calls and of their results alike."""
        changed = [_with_short_ids(message) for message in messages]
        if changed == messages:
            return None
        work.report("messages", "reshape", why="tool-call ids must be nine letters or digits")
        return changed


def _with_short_ids(message: Message) -> Message:
    result = dict(message)
    if type(message.get("tool_call_id")) is str:
        result["tool_call_id"] = short_id(message["tool_call_id"])
    if message.get("tool_calls"):
        result["tool_calls"] = [{**call, "id": short_id(str(call.get("id")))} for call in message["tool_calls"]]
    return result


def short_id(name: str) -> str:
    """Return nine letters or digits derived from `name`."""
    if _GOOD_ID.fullmatch(name):
        return name
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    letters = []
    for _ in range(9):
        number, index = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[index])
    return "".join(letters)


MISTRAL = OpenAICompatible(
    "mistral",
    Wire(
        label="Mistral",
        base_url="https://api.mistral.ai/v1",
        paths={name: PATHS[name] for name in ("chat", "embeddings")},
        prefill={},
        source="mistralai 3.7.0",
    ),
    (
        *GATEWAY_RULES,
        *CONTEXT_POLICY,
        Accepts("model messages stream min_tokens top_k repetition_penalty frequency_penalty presence_penalty logprobs metadata"),
        Accepts("parallel_tool_calls prompt_cache_key prediction safe_prompt prompt_mode guardrails prompt_logprobs"),
        Roles(accepts=("system", "user", "assistant", "tool")),
        ShortToolIds(),
        OutputCap("max_tokens"),
        Rename("min_completion_tokens", "min_tokens"),
        Range("temperature", 0, 1.5),
        Range("top_p", 0, 1),
        Choices(param="n", max_choices=128),
        Rename("seed", "random_seed"),
        StopStrings("stop"),
        Requires("top_logprobs", "logprobs"),
        LegacyFunctions("functions"),
        Tools("tools"),
        ToolChoice("tool_choice", ("auto", "none", "any", "required", "named")),
        ResponseFormat("response_format", warn_without_json=True),
        StreamUsage("stream_options", "always"),
        OneOf("service_tier", ("auto", "standard_only")),
        OneOf("reasoning_effort", ("none", "minimal", "low", "medium", "high", "xhigh", "max")),
    ),
)
