"""Vendors' finish reasons in OpenAI's words.

Sources (November 2026): the vendors' own lists, and public reports such as pydantic-ai#631 for Gemini's filters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

OPENAI_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})

FINISH_REASONS: Mapping[str, str | None] = {
    "": None,
    "null": None,
    "none": None,
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "completed": "stop",
    "model_length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "max_length": "length",
    "max_new_tokens": "length",
    "token_limit": "length",
    "model_context_window_exceeded": "length",
    "insufficient_system_resource": "length",
    "timeout": "length",
    "time_limit": "length",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "safety": "content_filter",
    "refusal": "content_filter",
    "sensitive": "content_filter",
    "recitation": "content_filter",
    "language": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "spii": "content_filter",
    "image_safety": "content_filter",
    "image_prohibited_content": "content_filter",
    "image_recitation": "content_filter",
    "image_other": "content_filter",
    "model_armor": "content_filter",
    "jailbreak": "content_filter",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "error_toxic": "content_filter",
    "other": "content_filter",
}
"""OpenAI's finish reason for each vendor's word, in lower case. Together sends `eos`, Mistral `model_length`, Friendli the string "null",
Zhipu `sensitive`, Gemini `MAX_TOKENS` and the names of its filters."""

FAILED_REASONS = frozenset({
    "error", "abort", "aborted", "cancelled", "network_error", "engine_error", "function_call_filter", "malformed_function_call",
    "unexpected_tool_call", "too_many_tool_calls", "missing_thought_signature", "malformed_response", "no_image", "malformed_tool_use",
    "malformed_model_output", "failed",
})  # fmt: skip
"""Words that stand for a failure. OpenRouter and Mistral send `error`, vLLM and SGLang `abort`, and Gemini a
reason such as `MALFORMED_FUNCTION_CALL`."""
_FAMILIES: tuple[tuple[frozenset[str], str | None], ...] = (
    (frozenset({"filter", "filtered", "safety", "prohibited", "blocked", "blocklist", "moderation", "policy", "toxic"}), "content_filter"),
    (frozenset({"error", "failed", "failure", "aborted", "abort", "cancelled", "canceled", "malformed", "invalid"}), None),
    (frozenset({"max", "limit", "length", "truncated", "tokens"}), "length"),
    (frozenset({"tool", "tools", "function", "functions"}), "tool_calls"),
)
"""The reason that parts of an unlisted word stand for, such as `IMAGE_SAFETY_2`; None for a failure. The first match counts."""

_PARTS = re.compile(r"[^a-z0-9]+")


class FailedFinishError(Exception):
    """The finish reason stands for a failure."""


def finish_reason(reason: Any) -> str | None:
    """Return OpenAI's finish reason: `stop` for an unknown word, None if there is none. Raise FailedFinishError for a failure.

    An unlisted word counts as the reason that its parts stand for.
    """
    if type(reason) is not str:
        return None
    if reason in OPENAI_REASONS:
        return reason
    word = reason.strip().lower()
    # Gemini sends the effect, then the name of the filter: `content_filter: PROHIBITED_CONTENT`.
    group, _, detail = (part.strip() for part in word.partition(":"))
    names = (word, detail, group) if detail else (word,)
    known = [name for name in names if name in OPENAI_REASONS or name in FINISH_REASONS]
    parts = set() if known else set(_PARTS.split(word))
    family = next((reason for words, reason in _FAMILIES if words & parts), "stop")
    if family is None or not FAILED_REASONS.isdisjoint(names):
        said = "" if word == "error" else f" ({reason[:80]})"
        raise FailedFinishError(f"the upstream ended the answer with an error{said}")
    for name in known:
        return name if name in OPENAI_REASONS else FINISH_REASONS[name]
    return family


def is_withheld(choice: dict[str, Any]) -> bool:
    """Return whether a choice without a message ended before any text: at a filter, or at the limit of tokens."""
    if choice.get("message") is not None or choice.get("text") is not None:
        return False
    try:
        return finish_reason(choice.get("finish_reason")) in ("content_filter", "length")
    except FailedFinishError:
        return False
