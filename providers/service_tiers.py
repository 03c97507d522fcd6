"""The prices of vendors for service tiers and caches: relative to their standard prices, except for OpenAI's priority tier.

Sources, as of 2026-11-29:
- OpenAI: flex tokens cost as much as batch tokens (developers.openai.com/api/docs/guides/flex-processing), which cost half
  (developers.openai.com/api/docs/guides/batch). Priority prices: openai.com/api-priority-processing.
- Azure: flex is 50 % cheaper (learn.microsoft.com/azure/foundry/openai/how-to/flex-processing).
- Gemini: batch and flex are 50 % cheaper (ai.google.dev/gemini-api/docs/pricing, as recorded by genai-prices 2026-08-21).
- Anthropic: batches are 50 % cheaper; an hour in the cache costs twice the price of a prompt token
  (platform.claude.com/docs, pricing).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

_HALF = Fraction(1, 2)


class TierPrice(NamedTuple):
    """Prices of a tier in US dollars per million tokens."""

    prompt: str
    cached: str
    output: str


FACTORS: Mapping[str, Mapping[str, Fraction]] = MappingProxyType({
    "openai": {"flex": _HALF, "batch": _HALF},
    "azure": {"flex": _HALF},
    "gemini": {"flex": _HALF, "batch": _HALF},
    "anthropic": {"batch": _HALF},
})
"""By provider type and tier, the part of the standard price that is charged."""

CACHE_WRITE_1H: Mapping[str, int] = MappingProxyType({"anthropic": 2})
"""By provider type, the multiple of the price of a prompt token that is charged for an hour in the cache."""

PRIORITY: Mapping[str, TierPrice] = MappingProxyType({
    "gpt-5.5": TierPrice("12.50", "1.25", "75"),
    "gpt-5.4-mini": TierPrice("1.50", "0.15", "9"),
    "gpt-5.4": TierPrice("5", "0.50", "30"),
    "gpt-5.2": TierPrice("3.50", "0.35", "28"),
    "gpt-5.1": TierPrice("2.50", "0.25", "20"),
    "gpt-5": TierPrice("2.50", "0.25", "20"),
    "gpt-5-mini": TierPrice("0.45", "0.045", "3.60"),
    "gpt-5.1-codex": TierPrice("2.50", "0.25", "20"),
    "gpt-5-codex": TierPrice("2.50", "0.25", "20"),
    "gpt-4.1": TierPrice("3.50", "0.875", "14"),
})
"""OpenAI's prices of the priority tier, by model. They exclude long contexts, which cost the standard price."""


