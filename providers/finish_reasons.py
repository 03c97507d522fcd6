"""Vendors' finish reasons in OpenAI's words.

Sources (November 2026): the vendors' own lists, and public reports such as pydantic-ai#631 for Gemini's filters.
"""

from __future__ import annotations

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
    "other": "content_filter",
}
"""OpenAI's finish reason for each vendor's word, in lower case. Together sends `eos`, Mistral `model_length`, Friendli the string "null",
Zhipu `sensitive`, Gemini `MAX_TOKENS` and the names of its filters."""

FAILED_REASONS = frozenset({
    "error", "abort", "aborted", "cancelled", "network_error", "engine_error", "function_call_filter", "malformed_function_call",
    "unexpected_tool_call", "too_many_tool_calls", "missing_thought_signature", "malformed_response",
})  # fmt: skip
"""Words that stand for a failure. OpenRouter and Mistral send `error`, vLLM and SGLang `abort`, and Gemini a
reason such as `MALFORMED_FUNCTION_CALL`."""


class FailedFinishError(Exception):
    """The finish reason stands for a failure."""


def finish_reason(reason: Any) -> str | None:
    """Return OpenAI's finish reason: `stop` for an unknown word, None if there is none. Raise FailedFinishError for a failure."""
    if type(reason) is not str:
        return None
    if reason in OPENAI_REASONS:
        return reason
    word = reason.strip().lower()
    # Gemini sends the effect, then the name of the filter: `content_filter: PROHIBITED_CONTENT`.
    group, _, detail = (part.strip() for part in word.partition(":"))
    if not {word, group, detail}.isdisjoint(FAILED_REASONS):
        said = "" if word == "error" else f" ({reason[:80]})"
        raise FailedFinishError(f"the upstream ended the answer with an error{said}")
    for name in (word, detail, group) if detail else (word,):
        if name in OPENAI_REASONS:
            return name
        if name in FINISH_REASONS:
            return FINISH_REASONS[name]
    return "stop"
