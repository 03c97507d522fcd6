"""Reads usage objects of upstreams. An implausible usage counts as not reported."""

from __future__ import annotations

from typing import Any

from providers.base import Usage

MAX_TOKENS = 1_000_000_000
"""A larger token count is implausible."""
MAX_COST_USD = 100_000
"""A larger cost of one answer is implausible."""
_OTHER_CACHED_FIELDS = frozenset({"cached_tokens", "prompt_cache_hit_tokens"})
"""Fields that other vendors use for cached tokens: Moonshot's and DeepSeek's."""
_NONE: dict[str, Any] = {}


def normalize_usage(raw: dict[str, Any], *, hides_output: bool = False) -> dict[str, Any]:
    """Return the usage as it is billed and shown: OpenAI's fields, with all output in `completion_tokens`.

    An object that needs no change, or that is implausible, is returned as it is. With `hides_output`, output tokens may be
    missing from every field but the total.
    """
    prompt, completion, total = _count(raw.get("prompt_tokens")), _count(raw.get("completion_tokens")), _count(raw.get("total_tokens"))
    changes: dict[str, Any] = {}
    if completion is None and raw.get("completion_tokens") is None and prompt is not None and total is not None:
        completion = max(0, total - prompt)  # embeddings report no completion tokens
    if prompt is None or completion is None:
        return raw
    if total is not None and total <= prompt + completion and _OTHER_CACHED_FIELDS.isdisjoint(raw):
        return raw  # the usual case
    prompt_details, completion_details = _details(raw, "prompt_tokens_details"), _details(raw, "completion_tokens_details")
    cached = _cached(raw, prompt_details)
    if cached and _count(prompt_details.get("cached_tokens")) is None:
        changes["prompt_tokens_details"] = {**prompt_details, "cached_tokens": cached}
    reasoning = _count(completion_details.get("reasoning_tokens"))
    hidden = max(0, (total or 0) - prompt - completion)
    if reasoning or not hides_output:
        hidden = min(hidden, reasoning or 0)  # xAI does not include reasoning tokens in completion_tokens
    if hidden:
        changes["completion_tokens"] = completion + hidden
        if not reasoning:
            changes["completion_tokens_details"] = {**completion_details, "reasoning_tokens": hidden}
    if total is None and raw.get("total_tokens") is None:
        changes["total_tokens"] = prompt + completion
    return {**raw, **changes} if changes else raw


def read_usage(raw: Any) -> Usage | None:
    """Read OpenAI's usage object and its variants. Return None if it is missing, incomplete or implausible."""
    return normalized_usage(normalize_usage(raw)) if type(raw) is dict else None


def normalized_usage(raw: dict[str, Any]) -> Usage | None:
    """Read an object that `normalize_usage` returned. Return None if it is incomplete or implausible."""
    prompt, completion, total = _count(raw.get("prompt_tokens")), _count(raw.get("completion_tokens")), _count(raw.get("total_tokens"))
    if completion is None and raw.get("completion_tokens") is None and prompt is not None and total is not None:
        completion = max(0, total - prompt)
    if prompt is None or completion is None:
        return None
    prompt_details, completion_details = _details(raw, "prompt_tokens_details"), _details(raw, "completion_tokens_details")
    cached = _cached(raw, prompt_details)
    reasoning = _count(completion_details.get("reasoning_tokens"))
    written = _count(prompt_details.get("cache_write_tokens"))
    cost, billed = read_cost(raw.get("cost")), _billed(raw.get("billed_units"))
    if not (cached or reasoning or written or billed or cost is not None):
        return Usage(prompt, completion)
    cached = min(cached or 0, prompt)
    return Usage(
        prompt,
        completion,
        cached,
        min(reasoning or 0, completion),
        cache_write_tokens=min(written or 0, prompt - cached),
        reported_cost_usd=cost,
        billed=billed,
    )


def _billed(units: Any) -> tuple[int, int] | None:
    """Return Cohere's billed tokens of prompt and output, or None if they are missing or implausible."""
    if type(units) is not dict:
        return None
    prompt, output = _count(units.get("input_tokens")), _count(units.get("output_tokens"))
    return None if prompt is None or output is None else (prompt, output)


def _cached(raw: dict[str, Any], prompt_details: dict[str, Any]) -> int | None:
    """Return the cached tokens: OpenAI's field, Moonshot's or DeepSeek's."""
    for value in (prompt_details.get("cached_tokens"), raw.get("cached_tokens"), raw.get("prompt_cache_hit_tokens")):
        if (cached := _count(value)) is not None:
            return cached
    return None


def read_cost(value: Any) -> float | None:
    """Return a cost that a provider reports, or None if it is missing or implausible."""
    return float(value) if type(value) in (int, float) and 0 <= value <= MAX_COST_USD else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def _details(raw: dict[str, Any], name: str) -> dict[str, Any]:
    details = raw.get(name)
    return details if type(details) is dict else _NONE
