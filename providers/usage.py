"""Reads usage objects of upstreams. An implausible usage counts as not reported."""

from __future__ import annotations

from typing import Any

from providers.base import Usage

MAX_TOKENS = 1_000_000_000
"""A larger token count is implausible."""
_NONE: dict[str, Any] = {}


def read_usage(raw: Any) -> Usage | None:
    """Read OpenAI's usage object (and DeepSeek's cache field). Return None if it is missing or implausible."""
    if type(raw) is not dict:
        return None
    prompt, completion, total = _count(raw.get("prompt_tokens")), _count(raw.get("completion_tokens")), _count(raw.get("total_tokens"))
    if completion is None and raw.get("completion_tokens") is None and prompt is not None and total is not None:
        completion = max(0, total - prompt)  # embeddings report no completion tokens
    if prompt is None or completion is None:
        return None
    prompt_details, completion_details = _details(raw, "prompt_tokens_details"), _details(raw, "completion_tokens_details")
    cached = _count(prompt_details.get("cached_tokens"))
    if cached is None:
        cached = _count(raw.get("prompt_cache_hit_tokens"))
    reasoning = _count(completion_details.get("reasoning_tokens"))
    # Some vendors count reasoning tokens separately, and bill them as output.
    if reasoning and total is not None and total > prompt + completion:
        completion += min(reasoning, total - prompt - completion)
    written = _count(prompt_details.get("cache_write_tokens"))
    if not (cached or reasoning or written):
        return Usage(prompt, completion)
    cached = min(cached or 0, prompt)
    return Usage(prompt, completion, cached, min(reasoning or 0, completion), cache_write_tokens=min(written or 0, prompt - cached))


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def _details(raw: dict[str, Any], name: str) -> dict[str, Any]:
    details = raw.get(name)
    return details if type(details) is dict else _NONE
