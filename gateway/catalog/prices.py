"""Prices of tokens in nano-dollars: the operator's, else the catalog's. Costs are integers: the cost of each usage is rounded up."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Protocol

import msgspec

from gateway import catalog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.base import Usage

MILLION = 10**6


class TokenPrice(msgspec.Struct, frozen=True):
    """Prices in nano-dollars per million tokens of each kind."""

    prompt: int
    output: int
    cached: int
    reasoning: int | None = None
    """None: reasoning tokens cost the same as other output tokens."""
    cache_write: int | None = None
    """None: these tokens cost the same as other prompt tokens."""
    search: int | None = None
    """Price of 1,000 search units. An answer that is billed by search units is not billed by tokens, too."""

    def cost(self, prompt: int, output: int, cached: int = 0) -> int:
        """Return the cost of these tokens. `cached` is a part of `prompt`."""
        cached = min(max(cached, 0), prompt)
        total = (prompt - cached) * self.prompt + cached * self.cached + output * self.output
        return -(-total // MILLION)

    def max_cost(self, prompt: int, output: int) -> int:
        """Return the highest possible cost of these tokens, as if all were of the most expensive kind."""
        prompt_price = max(self.prompt, self.cached, self.cache_write or 0)
        output_price = max(self.output, self.reasoning or 0)
        return -(-(prompt * prompt_price + output * output_price) // MILLION)

    def search_cost(self, units: int) -> int:
        """Return the cost of search units; 0 if their price is unknown."""
        return -(-units * self.search // 1000) if self.search is not None else 0

    def usage_cost(self, usage: Usage) -> int:
        """Return the cost of an answer, by the billed tokens if they are reported.

        Negative counts, which some upstreams send, cost nothing.
        """
        if usage.search_units and self.search is not None:
            return self.search_cost(usage.search_units)
        prompt, output = max(0, usage.prompt_tokens), max(0, usage.completion_tokens)
        if usage.billed is not None and not usage.estimated:
            prompt, output = usage.billed
        if self.reasoning is None and self.cache_write is None:
            return self.cost(prompt, output, usage.cached_tokens)
        cached = min(max(usage.cached_tokens, 0), prompt)
        written = min(max(usage.cache_write_tokens, 0), prompt - cached)
        reasoning = min(max(usage.reasoning_tokens, 0), output)
        total = (prompt - cached - written) * self.prompt + cached * self.cached + (output - reasoning) * self.output
        total += written * (self.prompt if self.cache_write is None else self.cache_write)
        total += reasoning * (self.output if self.reasoning is None else self.reasoning)
        return -(-total // MILLION)


FREE = TokenPrice(0, 0, 0)
"""The price of the embedded engine."""


class ConfiguredPrice(Protocol):
    """A price that the operator sets, in USD per million tokens."""

    @property
    def prompt(self) -> float: ...
    @property
    def output(self) -> float: ...
    @property
    def cached(self) -> float | None: ...
    @property
    def cache_write(self) -> float | None: ...
    @property
    def reasoning(self) -> float | None: ...
    @property
    def search(self) -> float | None: ...


class PricedProvider(Protocol):
    """The part of a provider's configuration that `price_of` reads."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def prices(self) -> Mapping[str, ConfiguredPrice]: ...


def price_of(provider: PricedProvider, model: str) -> TokenPrice | None:
    """Return the price of a model at a provider, or None if it is unknown."""
    price = provider.prices.get(model) or provider.prices.get("*")
    if price is not None:
        known = _price(price.prompt, price.output, price.cached, price.reasoning, price.cache_write)
        return known if price.search is None else msgspec.structs.replace(known, search=_nano_dollars(price.search))
    return FREE if provider.type == "local" else _catalog_price(provider.type, model, provider.name)


@functools.lru_cache(4096)
def _catalog_price(kind: str, model: str, provider: str) -> TokenPrice | None:
    entry = catalog.find(kind, model, provider)
    prices = entry.usd_per_million_tokens if entry is not None else None
    if prices is None:
        return None
    # the catalog writes 0 for unknown prices
    return _price(
        prices.input, prices.output, prices.cache_read or None, prices.reasoning or None, prices.cache_write or None
    )


def _price(
    prompt: float, output: float, cached: float | None, reasoning: float | None, cache_write: float | None
) -> TokenPrice:
    return TokenPrice(
        _nano_dollars(prompt),
        _nano_dollars(output),
        _nano_dollars(prompt if cached is None else cached),
        None if reasoning is None else _nano_dollars(reasoning),
        None if cache_write is None else _nano_dollars(cache_write),
    )


def _nano_dollars(usd: float) -> int:
    return round(usd * 10**9)
