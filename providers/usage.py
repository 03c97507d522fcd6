"""Reads usage objects of upstreams. An implausible usage counts as not reported."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from providers.token_usage import Usage

MAX_TOKENS = 1_000_000_000
"""A larger token count is implausible."""
MAX_COST_USD = 100_000
"""A larger cost of one answer is implausible."""
MAX_DIGITS = 20
NANO_PER_USD = 10**9
TICKS_PER_NANO = 10
"""xAI reports costs in ticks of 1e-10 US dollars (docs.x.ai/developers/cost-tracking, as of 2026-11)."""
_OTHER_CACHED_FIELDS = frozenset({"cached_tokens", "prompt_cache_hit_tokens"})
"""Fields that other vendors use for cached tokens: Moonshot's and DeepSeek's."""
COST_FIELDS = ("cost", "cost_in_usd_ticks", "estimated_cost", "is_byok", "cost_details")
"""Fields from which `read_cost` reads the cost."""
_NONE: dict[str, Any] = {}


def normalize_usage(raw: dict[str, Any], *, hides_output: bool = False) -> dict[str, Any]:
    """Return the usage as it is billed and shown: OpenAI's fields, with all output in `completion_tokens`.

    An object that needs no change, or that is implausible, is returned as it is. With `hides_output`, output tokens may be
    missing from every field but the total.
    """
    raw = _in_openais_names(raw)
    prompt, completion, total = _counts(raw)
    if prompt is None or completion is None:
        return raw
    are_numbers = type(raw.get("prompt_tokens")) is int and type(raw.get("completion_tokens", None if completion else 0)) is int
    are_numbers = are_numbers and type(raw.get("total_tokens")) is int
    if total is not None and total <= prompt + completion and are_numbers and _OTHER_CACHED_FIELDS.isdisjoint(raw):
        return raw  # the usual case
    changes: dict[str, Any] = {}
    prompt_details, completion_details = _details(raw, "prompt_tokens_details"), _details(raw, "completion_tokens_details")
    cached = _cached(raw, prompt_details)
    if cached and read_count(prompt_details.get("cached_tokens")) is None:
        changes["prompt_tokens_details"] = {**prompt_details, "cached_tokens": cached}
    prompt = _with_cached(prompt, completion, total, cached or 0)
    reasoning = read_count(completion_details.get("reasoning_tokens"))
    hidden = max(0, (total or 0) - prompt - completion)
    if reasoning or not hides_output:
        hidden = min(hidden, reasoning or 0)  # xAI does not include reasoning tokens in completion_tokens
    if hidden and not reasoning:
        changes["completion_tokens_details"] = {**completion_details, "reasoning_tokens": hidden}
    if "completion_tokens" in raw or completion + hidden:
        changes["completion_tokens"] = completion + hidden
    changes["prompt_tokens"] = prompt
    if total is not None:
        changes["total_tokens"] = total
    elif raw.get("total_tokens") is None:
        changes["total_tokens"] = prompt + completion
    changes = {name: value for name, value in changes.items() if raw.get(name) != value or type(raw[name]) is not type(value)}
    return {**raw, **changes} if changes else raw


def read_usage(raw: Any, tier: Any = None) -> Usage | None:
    """Read OpenAI's usage object and its variants. Return None if it is implausible or has neither both counts nor a total.

    `tier` is the service tier that the answer names.
    """
    return with_tier(normalized_usage(normalize_usage(raw)), tier) if type(raw) is dict else None


def with_tier(usage: Usage | None, tier: Any) -> Usage | None:
    """Return the usage with the service tier that the answer names, if the answer names one."""
    if usage is None or type(tier) is not str or not tier:
        return usage
    return msgspec.structs.replace(usage, service_tier=tier[:40])


def normalized_usage(raw: dict[str, Any]) -> Usage | None:
    """Read an object that `normalize_usage` returned. Return None if it is implausible or has neither both counts nor a total."""
    prompt, completion, total = _counts(raw)
    cost = read_cost(raw)
    if prompt is None or completion is None:
        return Usage(unsplit_tokens=total, reported_cost=cost) if total and prompt is None and completion is None else None
    prompt_details, completion_details = _details(raw, "prompt_tokens_details"), _details(raw, "completion_tokens_details")
    billed = _billed(raw.get("billed_units"))
    has_details = prompt_details or completion_details or billed or cost is not None
    if not has_details and _OTHER_CACHED_FIELDS.isdisjoint(raw):
        return Usage(prompt, completion)
    cached = min(_cached(raw, prompt_details) or 0, prompt)
    written = min(read_count(prompt_details.get("cache_write_tokens")) or 0, prompt - cached)
    return Usage(
        prompt,
        completion,
        cached,
        min(read_count(completion_details.get("reasoning_tokens")) or 0, completion),
        cache_write_tokens=written,
        reported_cost=cost,
        cache_write_1h_tokens=min(_written_for_an_hour(raw, prompt_details), written),
        audio_prompt_tokens=min(read_count(prompt_details.get("audio_tokens")) or 0, prompt),
        image_prompt_tokens=min(read_count(prompt_details.get("image_tokens")) or 0, prompt),
        audio_output_tokens=min(read_count(completion_details.get("audio_tokens")) or 0, completion),
        image_output_tokens=min(read_count(completion_details.get("image_tokens")) or 0, completion),
        billed=billed,
    )


def _in_openais_names(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a usage with the names of the Responses or the Messages API in those of chat completions. Return others as they are."""
    given, made = read_count(raw.get("input_tokens")), read_count(raw.get("output_tokens"))
    if given is None or made is None or raw.get("prompt_tokens") is not None or raw.get("completion_tokens") is not None:
        return raw
    read, written = (read_count(raw.get(f"cache_{name}_input_tokens")) or 0 for name in ("read", "creation"))
    renamed: dict[str, Any] = {name: value for name, value in raw.items() if not name.startswith(("input_tokens", "output_tokens"))}
    renamed |= {"prompt_tokens": given + read + written, "completion_tokens": made}
    asked, answered = _details(raw, "input_tokens_details"), _details(raw, "output_tokens_details")
    if read or written:
        asked = {**asked, "cached_tokens": read, "cache_write_tokens": written}
    for name, details in (("prompt_tokens_details", asked), ("completion_tokens_details", answered)):
        if details:
            renamed[name] = details
    return renamed


def _counts(raw: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Return the counts of prompt, output and total. A missing part is computed from the total."""
    prompt, completion, total = (read_count(raw.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    if total is not None:
        if completion is None and prompt is not None:
            completion = max(0, total - prompt)  # embeddings report no completion tokens
        elif prompt is None and completion is not None:
            prompt = max(0, total - completion)
    return prompt, completion, total


def _with_cached(prompt: int, completion: int, total: int | None, cached: int) -> int:
    """Return the tokens of the prompt, cached ones included.

    If the count is lower than the number of cached tokens, and the total shows that the count excludes cached tokens,
    the cached tokens are added.
    """
    return prompt + cached if cached > prompt and total is not None and total >= prompt + cached + completion else prompt


def _billed(units: Any) -> tuple[int, int] | None:
    """Return Cohere's billed tokens of prompt and output, or None if they are missing or implausible."""
    if type(units) is not dict:
        return None
    prompt, output = read_count(units.get("input_tokens")), read_count(units.get("output_tokens"))
    return None if prompt is None or output is None else (prompt, output)


def _cached(raw: dict[str, Any], prompt_details: dict[str, Any]) -> int | None:
    """Return the cached tokens: OpenAI's field, Moonshot's or DeepSeek's, or None if they are not reported."""
    for value in (prompt_details.get("cached_tokens"), raw.get("cached_tokens"), raw.get("prompt_cache_hit_tokens")):
        if (cached := read_count(value)) is not None:
            return cached
    return None


def _written_for_an_hour(raw: dict[str, Any], prompt_details: dict[str, Any]) -> int:
    """Return the tokens written to a cache for an hour: the gateway's field, LiteLLM's or Anthropic's."""
    given = (prompt_details.get("cache_creation_token_details"), raw.get("cache_creation"))
    nested = (value.get("ephemeral_1h_input_tokens") for value in given if type(value) is dict)
    return next((count for value in (prompt_details.get("cache_write_1h_tokens"), *nested) if (count := read_count(value))), 0)


def read_cost(usage: dict[str, Any]) -> int | None:
    """Return the cost that a usage object reports, converted to nano-dollars, or None if the cost is missing or implausible.

    The fields are OpenRouter's `cost`, Perplexity's `cost.total_cost`, DeepInfra's `estimated_cost` and xAI's
    `cost_in_usd_ticks`. If OpenRouter used a key that the account brought (`is_byok`), `cost` is only its fee, to which
    the vendor's charge (`cost_details.upstream_inference_cost`) is added (openrouter.ai/docs, usage accounting, as of 2026-11).
    """
    ticks = _count_up_to(usage.get("cost_in_usd_ticks"), MAX_COST_USD * NANO_PER_USD * TICKS_PER_NANO)
    if ticks is not None:
        return -(-ticks // TICKS_PER_NANO)
    cost = usage.get("cost")
    for value in (cost.get("total_cost") if type(cost) is dict else cost, usage.get("estimated_cost")):
        if (nano_dollars := _nano_dollars(value)) is not None:
            rest = _details(usage, "cost_details").get("upstream_inference_cost") if usage.get("is_byok") is True else 0
            return nano_dollars + (_nano_dollars(rest) or 0)
    return None


def _nano_dollars(value: Any) -> int | None:
    is_number = isinstance(value, (int, float)) and type(value) is not bool
    return round(Decimal(str(value)) * NANO_PER_USD) if is_number and 0 <= value <= MAX_COST_USD else None


def read_count(value: Any) -> int | None:
    """Return a number of tokens, or None if the value is not a plausible number of tokens."""
    return _count_up_to(value, MAX_TOKENS)


def _count_up_to(value: Any, most: int) -> int | None:
    """Return a count, or None if the value is not a count. Some servers send numbers as text or with a decimal point."""
    count = value
    is_text = type(value) is str and value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS
    if is_text or (type(value) is float and value.is_integer()):
        count = int(value)
    return count if type(count) is int and 0 <= count <= most else None


def _details(raw: dict[str, Any], name: str) -> dict[str, Any]:
    details = raw.get(name)
    return details if type(details) is dict else _NONE
