"""What tokens cost, in nano-dollars: the operator's prices, else the catalog's; integers, rounded up once for each call."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import msgspec

from gateway import catalog

if TYPE_CHECKING:
    from gateway.config_types import ProviderConfig
    from providers.base import Usage

MILLION = 10**6


class TokenPrice(msgspec.Struct, frozen=True):
    """Nano-dollars per million tokens of each sort."""

    prompt: int
    output: int
    cached: int

    def of(self, prompt: int, output: int, cached: int = 0) -> int:
        """The cost of so many tokens; `cached` is part of `prompt`."""
        cached = min(max(cached, 0), prompt)
        total = (prompt - cached) * self.prompt + cached * self.cached + output * self.output
        return -(-total // MILLION)

    def of_usage(self, usage: Usage) -> int:
        """The cost of an answer; negative numbers, which some upstreams send, cost nothing."""
        return self.of(max(0, usage.prompt_tokens), max(0, usage.completion_tokens), usage.cached_tokens)


FREE = TokenPrice(0, 0, 0)
"""The embedded engine's."""


def price_of(provider: ProviderConfig, model: str) -> TokenPrice | None:
    """A model's price at a provider, None when nobody knows it."""
    own = provider.prices.get(model) or provider.prices.get("*")
    if own is not None:
        return _price(own.prompt, own.output, own.cached)
    return FREE if provider.type == "local" else _listed(provider.type, model, provider.name)


@functools.lru_cache(4096)
def _listed(kind: str, model: str, provider: str) -> TokenPrice | None:
    found = catalog.find(kind, model, provider)
    prices = found.usd_per_million_tokens if found is not None else None
    return None if prices is None else _price(prices.input, prices.output, prices.cache_read or None)  # 0 there means unknown


def _price(prompt: float, output: float, cached: float | None) -> TokenPrice:
    return TokenPrice(_nano(prompt), _nano(output), _nano(prompt if cached is None else cached))


def _nano(usd: float) -> int:
    return round(usd * 10**9)
