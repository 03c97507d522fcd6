"""The usual form of a usage object, which is decoded without further checks."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from providers.token_usage import Usage
from providers.usage import MAX_TOKENS, read_usage

PlainCount = Annotated[int, Meta(ge=0, le=MAX_TOKENS // 4)]
PlainNumber = Annotated[float, Meta(ge=0, le=MAX_TOKENS // 4)]
"""Numbers of tokens so small that the sum of a few such numbers is plausible too."""
_Tokens = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]


class _PromptDetails(msgspec.Struct):
    cached_tokens: _Tokens | None = None
    cache_write_tokens: _Tokens | None = None
    cache_write_1h_tokens: None = None
    cache_creation_token_details: None = None
    audio_tokens: _Tokens | None = None
    image_tokens: _Tokens | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: _Tokens | None = None
    audio_tokens: _Tokens | None = None
    image_tokens: _Tokens | None = None


_NOTHING_ASKED, _NOTHING_GIVEN = _PromptDetails(), _CompletionDetails()


class PlainUsage(msgspec.Struct):
    """A usage without the fields of other vendors.

    It is in OpenAI's format if `total_tokens` does not exceed the sum of the other two counts.
    """

    prompt_tokens: _Tokens
    completion_tokens: _Tokens
    total_tokens: _Tokens
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    cached_tokens: None = None
    prompt_cache_hit_tokens: None = None
    cost: None = None
    cost_in_usd_ticks: None = None
    estimated_cost: None = None
    cache_creation: None = None
    billed_units: None = None

    def read(self, tier: str | None) -> Usage:
        """Return the counts as `normalized_usage` does, with the service tier of the answer."""
        prompt, completion = self.prompt_tokens, self.completion_tokens
        if self.prompt_tokens_details is None and self.completion_tokens_details is None:
            return Usage(prompt, completion, service_tier=tier or "")
        asked, given = self.prompt_tokens_details or _NOTHING_ASKED, self.completion_tokens_details or _NOTHING_GIVEN
        cached = min(asked.cached_tokens or 0, prompt)
        reasoning = min(given.reasoning_tokens or 0, completion)
        written = min(asked.cache_write_tokens or 0, prompt - cached)
        if not (asked.audio_tokens or asked.image_tokens or given.audio_tokens or given.image_tokens):  # the usual case
            return Usage(prompt, completion, cached, reasoning, False, written, service_tier=tier or "")
        return Usage(
            prompt,
            completion,
            cached,
            reasoning,
            cache_write_tokens=written,
            audio_prompt_tokens=min(asked.audio_tokens or 0, prompt),
            image_prompt_tokens=min(asked.image_tokens or 0, prompt),
            audio_output_tokens=min(given.audio_tokens or 0, completion),
            image_output_tokens=min(given.image_tokens or 0, completion),
            service_tier=tier or "",
        )


def read_of_inputs(usage: Any) -> Usage | None:
    """Return the result of `read_usage` for an answer without output tokens, such as an embeddings answer."""
    if type(usage) is dict and len(usage) == 2:
        prompt, total = usage.get("prompt_tokens"), usage.get("total_tokens")
        if type(prompt) is type(total) is int and 0 < prompt <= MAX_TOKENS and prompt == total:
            return Usage(prompt, 0)
    return read_usage(usage)


def read_mapped(usage: Any, tier: Any = None) -> Usage | None:
    """Return the result of `read_usage`. For a usage in the usual form, this takes half as long as `read_usage`."""
    if usage is None:
        return None
    try:
        plain = msgspec.convert(usage, PlainUsage)
    except msgspec.ValidationError:
        return read_usage(usage, tier)
    if plain.total_tokens > plain.prompt_tokens + plain.completion_tokens or (tier is not None and type(tier) is not str):
        return read_usage(usage, tier)
    return plain.read(tier[:40] if tier else None)
