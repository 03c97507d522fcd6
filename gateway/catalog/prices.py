"""Prices of tokens in nano-dollars: the operator's, else the catalog's, with the vendor's service tiers."""

from __future__ import annotations

import functools
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from gateway import catalog
from gateway.catalog.token_price import FREE, TokenPrice
from providers.service_tiers import CACHE_WRITE_1H, FACTORS, PRIORITY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    from gateway.catalog import CatalogRates, ModelEntry, Overlay

__all__ = ["FREE", "TokenPrice", "price_of"]

_CATALOG_NAMES = {
    "prompt": "input",
    "output": "output",
    "cached": "cache_read",
    "cache_write": "cache_write",
    "cache_write_1h": "cache_write_1h",
    "reasoning": "reasoning",
    "audio_prompt": "input_audio",
    "image_prompt": "input_image",
    "audio_output": "output_audio",
    "image_output": "output_image",
}
_RATES = tuple(_CATALOG_NAMES)
_MAY_BE_FREE = ("prompt", "output")


class ConfiguredRates(Protocol):
    """Prices that the operator sets for some kinds of tokens, in USD per million tokens."""

    @property
    def prompt(self) -> float | None: ...
    @property
    def output(self) -> float | None: ...


class ConfiguredStep(ConfiguredRates, Protocol):
    """Prices of prompts with more tokens than `over`."""

    @property
    def over(self) -> int: ...


class ConfiguredPrice(ConfiguredRates, Protocol):
    """The price that the operator sets for a model."""

    @property
    def search(self) -> float | None: ...
    @property
    def steps(self) -> Sequence[ConfiguredStep]: ...
    @property
    def service_tiers(self) -> Mapping[str, ConfiguredRates]: ...


class PricedProvider(Protocol):
    """The part of a provider's configuration that `price_of` reads."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def prices(self) -> Mapping[str, ConfiguredPrice]: ...
    @property
    def overlay(self) -> Overlay | None: ...


def price_of(provider: PricedProvider, model: str) -> TokenPrice | None:
    """Return the price of a model at a provider, or None if it is unknown."""
    price = provider.prices.get(model) or provider.prices.get("*")
    if price is None:
        if provider.type == "local":
            return FREE
        if provider.overlay is None:
            return _bundled_price(provider.type, model, provider.name)
        return _catalog_price(provider.type, model, catalog.find(provider.type, model, provider.name, provider.overlay))
    base = {"prompt": 0, "output": 0, **_rates(price)}  # an entry that is still being checked may have neither price
    steps = [(step.over, _rates(step)) for step in price.steps]
    known = _price(base, steps, {name: _rates(tier) for name, tier in price.service_tiers.items()}, FACTORS.get(provider.type, {}))
    return known if price.search is None else msgspec.structs.replace(known, search=_nano_dollars(price.search))


def _rates(price: ConfiguredRates) -> dict[str, int]:
    """Return the prices that an entry of the configuration sets."""
    return {name: _nano_dollars(usd) for name in _RATES if (usd := getattr(price, name)) is not None}


@functools.lru_cache(4096)
def _bundled_price(kind: str, model: str, provider: str) -> TokenPrice | None:
    return _catalog_price(kind, model, catalog.find(kind, model, provider))


def _catalog_price(kind: str, model: str, entry: ModelEntry | None) -> TokenPrice | None:
    prices = entry.usd_per_million_tokens if entry is not None else None
    if prices is None:
        return None
    tiers = {name: _catalog_rates(kind, tier) for name, tier in prices.service_tiers.items()}
    listed = PRIORITY.get(model) or PRIORITY.get(catalog.undated(model))
    if kind == "openai" and listed is not None:
        tiers.setdefault("priority", {name: _nano_dollars(usd) for name, usd in listed._asdict().items()})
    steps = [(step.over, _catalog_rates(kind, step)) for step in prices.steps]
    return _price(_catalog_rates(kind, prices), steps, tiers, FACTORS.get(kind, {}))


def _catalog_rates(kind: str, rates: CatalogRates) -> dict[str, int]:
    """Return the prices of a catalog entry. In an entry, 0 means that the price of a special kind of token is unknown."""
    given = {name: getattr(rates, theirs) for name, theirs in _CATALOG_NAMES.items()}
    known = {name: _nano_dollars(usd) for name, usd in given.items() if usd or (usd is not None and name in _MAY_BE_FREE)}
    if kind in CACHE_WRITE_1H and "prompt" in known and "cache_write" in known:
        known.setdefault("cache_write_1h", known["prompt"] * CACHE_WRITE_1H[kind])
    return known


def _price(
    base: dict[str, int],
    steps: Sequence[tuple[int, dict[str, int]]],
    tiers: Mapping[str, dict[str, int]],
    factors: Mapping[str, Fraction],
) -> TokenPrice:
    """Return a price.

    Kinds that a step or a tier does not set keep the standard price. A factor applies to the standard price and its
    steps.
    """
    longer = tuple((over, _plain({**base, **rates})) for over, rates in sorted(steps, key=lambda step: step[0]))
    standard = msgspec.structs.replace(_plain(base), steps=longer)
    named = {name: msgspec.structs.replace(_plain({**base, **rates}), steps=longer) for name, rates in tiers.items()}
    scaled = {name: _scaled(standard, factor) for name, factor in factors.items()}
    return msgspec.structs.replace(standard, tiers={**scaled, **named})


def _plain(rates: Mapping[str, Any]) -> TokenPrice:
    return TokenPrice(**{"cached": rates["prompt"], **rates})


def _scaled(price: TokenPrice, factor: Fraction) -> TokenPrice:
    """Return a price multiplied by a factor."""
    rates: dict[str, Any] = {name: value for name in _RATES if (value := getattr(price, name)) is not None}
    steps = tuple((over, _scaled(step, factor)) for over, step in price.steps)
    return TokenPrice(**{name: -(-value * factor.numerator // factor.denominator) for name, value in rates.items()}, steps=steps)


def _nano_dollars(usd: float | str) -> int:
    return round(Decimal(str(usd)) * 10**9)
