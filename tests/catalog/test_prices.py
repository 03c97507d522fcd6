"""Prices of tokens: cached, cache writes, reasoning, and reasoning that providers count separately."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway.catalog import CatalogPrices, CatalogRates, CatalogStep, ModelEntry, Overlay, VendorOverlay
from gateway.catalog.prices import FREE, TokenPrice, price_of
from gateway.config.load import parse
from gateway.config.price import PriceConfig, RatesConfig, StepConfig
from providers.base import Usage
from providers.usage import read_usage
from tests.support.each import each

THOUGHT = {"reasoning_tokens": 15}
PRICE = TokenPrice(2_000_000, 10_000_000, 500_000, 4_000_000, 3_000_000)


def standard(price: TokenPrice | None) -> TokenPrice:
    """Return a price without its service tiers."""
    assert price is not None
    return msgspec.structs.replace(price, tiers={})


def test_each_kind_of_token_has_its_own_price() -> None:
    usage = Usage(100, 50, cached_tokens=30, reasoning_tokens=20, cache_write_tokens=10)
    assert PRICE.usage_cost(usage) == 60 * 2 + 30 * 1 // 2 + 10 * 3 + 30 * 10 + 20 * 4


def test_tokens_without_a_price_cost_as_much_as_the_kind_they_are_part_of() -> None:
    plain = TokenPrice(2_000_000, 10_000_000, 2_000_000)
    assert plain.usage_cost(Usage(100, 50, 30, 20, cache_write_tokens=10)) == 100 * 2 + 50 * 10


@pytest.mark.parametrize("usage", [Usage(10, 5, 99, 99, cache_write_tokens=99), Usage(-5, -5, -5, -5, cache_write_tokens=-5)])
def test_inconsistent_counts_cost_no_more_than_the_total(usage: Usage) -> None:
    assert 0 <= PRICE.usage_cost(usage) <= 10 * 3 + 5 * 10


def test_a_cost_is_rounded_up_once() -> None:
    assert TokenPrice(1, 1, 1).usage_cost(Usage(1, 1)) == 1


@each(
    ("given", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, "completion_tokens_details": THOUGHT}, (20, 15)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 30, "completion_tokens_details": THOUGHT}, (20, 15)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": THOUGHT}, (5, 5)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 30}, (5, 0)),
    ],
)
def test_reasoning_tokens_counted_separately_are_output(given: dict[str, Any], expected: tuple[int, int]) -> None:
    usage = read_usage(given)
    assert usage is not None
    assert (usage.completion_tokens, usage.reasoning_tokens) == expected


def test_configured_prices_override_the_catalog() -> None:
    config = parse(
        b"""
providers:
  anthropic: { api_key: "${KEY}" }
  own: { type: vllm, base_url: "http://x/v1", prices: { m: { prompt: 1, output: 2, cached: 0.5, cache_write: 1.25, reasoning: 3 } } }
models:
  m: own/m
  n: anthropic/claude-sonnet-4-5
""",
        "gateway.yaml",
        environ={"KEY": "sk-some-credential"},
    )
    assert price_of(config.providers["own"], "m") == TokenPrice(10**9, 2 * 10**9, 5 * 10**8, 3 * 10**9, 125 * 10**7)
    listed = price_of(config.providers["anthropic"], "claude-sonnet-4-5")
    assert listed is not None
    assert listed.cache_write is not None
    assert listed.cached < listed.prompt < listed.cache_write


def test_a_price_is_the_providers_then_the_catalogs_then_unknown() -> None:
    source = (
        "providers: {openai: {api_key: '${K}', prices: {mine: {prompt: 1, output: 2, cached: 0}, old: {prompt: 1, output: 2}}}, local: {}}"
    )
    providers = parse(source.encode(), "g.yaml", environ={"K": "sk-0123456789abcdef"}).providers
    assert standard(price_of(providers["openai"], "mine")) == TokenPrice(10**9, 2 * 10**9, 0)
    assert standard(price_of(providers["openai"], "old")) == TokenPrice(10**9, 2 * 10**9, 10**9)
    assert standard(price_of(providers["openai"], "gpt-4o")) == TokenPrice(2_500_000_000, 10 * 10**9, 1_250_000_000)
    assert price_of(providers["openai"], "unheard-of") is None
    assert price_of(providers["local"], "anything") == FREE


def test_cached_tokens_are_a_part_of_the_prompt() -> None:
    price = TokenPrice(prompt=2_500_000_000, output=10 * 10**9, cached=1_250_000_000)
    assert price.cost(1000, 500) == 7_500_000
    assert price.cost(1000, 500, cached=1000) == 6_250_000
    assert price.cost(1000, 0, cached=5000) == price.cost(1000, 0, cached=1000)
    assert TokenPrice(1, 1, 1).cost(1, 0) == 1
    assert FREE.cost(10**9, 10**9) == 0


def test_the_maximum_cost_uses_the_most_expensive_kind_of_token() -> None:
    price = TokenPrice(prompt=100, output=1000, cached=10, reasoning=2000, cache_write=200)
    assert price.max_cost(10**6, 10**6) == 200 + 2000
    assert TokenPrice(1, 1, 3).max_cost(10**6, 0) == 3


STEP = CatalogStep(over=100, input=3.0, cache_read=0.0)
WRITES = CatalogStep(over=5, cache_write=1.5)
LISTED = CatalogPrices(
    input=1.0, output=2.0, cache_read=0.1, cache_write=1.25, reasoning=0.0, input_audio=0.0, steps=(STEP,), service_tiers={
        "flex": CatalogRates(input=0.0), "fast": CatalogRates(output=7.0),
    },
)  # fmt: skip
OVERLAY = Overlay("test", "2026-11-29", {
    vendor: VendorOverlay({
        "new": ModelEntry(usd_per_million_tokens=LISTED),
        "writes": ModelEntry(usd_per_million_tokens=CatalogPrices(input=1.0, steps=(WRITES,))),
        "free": ModelEntry(usd_per_million_tokens=CatalogPrices()),
        "unpriced": ModelEntry(context=10),
        "gpt-5-2025-08-07": ModelEntry(usd_per_million_tokens=CatalogPrices(input=1.0, output=2.0)),
        "gpt-5": ModelEntry(usd_per_million_tokens=CatalogPrices(
            input=1.0, output=2.0, service_tiers={"priority": CatalogRates(input=9.0)})),
    }) for vendor in ("openai", "anthropic", "xai", "local")
})  # fmt: skip


def listed(kind: str, model: str, **prices: PriceConfig) -> TokenPrice | None:
    """Return the price of a model at a provider with the overlay."""
    return price_of(SimpleNamespace(name="own", type=kind, prices=prices, overlay=OVERLAY), model)  # type: ignore[arg-type]


def nano(**usd: float) -> dict[str, int]:
    """Return prices in nano-dollars."""
    return {name: round(price * 10**9) for name, price in usd.items()}


def test_a_price_of_zero_in_the_catalog_is_unknown_for_special_kinds_of_tokens() -> None:
    base = {"prompt": 1, "output": 2, "cached": 0.1, "cache_write": 1.25}
    assert listed("xai", "new") == TokenPrice(
        **nano(**base),
        steps=((100, TokenPrice(**nano(**{**base, "prompt": 3}))),),
        tiers={
            name: TokenPrice(**nano(**{**base, **own}), steps=((100, TokenPrice(**nano(**{**base, "prompt": 3}))),))
            for name, own in (("flex", {"prompt": 0}), ("fast", {"output": 7}))
        },
    )
    assert listed("xai", "free") == FREE
    assert listed("xai", "unpriced") is None
    assert listed("xai", "unheard-of") is None
    assert listed("local", "new") == FREE  # the embedded engine costs nothing, whatever the price in the catalog


def test_an_hour_in_the_cache_costs_a_multiple_of_the_prompt_where_the_vendor_says_so() -> None:
    price = listed("anthropic", "new")
    assert price is not None
    assert (price.cache_write, price.cache_write_1h) == (1_250_000_000, 2_000_000_000)
    assert price.steps[0][1].cache_write_1h == 2_000_000_000  # a step without a price for writes keeps the standard one
    assert (price.tiers["batch"].prompt, price.tiers["batch"].cache_write_1h) == (500_000_000, 1_000_000_000)
    writes = listed("anthropic", "writes")
    assert writes is not None
    assert writes.steps == ((5, TokenPrice(**nano(prompt=1, output=0, cached=1, cache_write=1.5))),)
    for kind, model in (("xai", "new"), ("anthropic", "free")):
        other = listed(kind, model)
        assert other is not None
        assert other.cache_write_1h is None


@each(
    ("kind", "model", "prompt"),
    [
        ("openai", "gpt-5", 9 * 10**9),
        ("openai", "gpt-5-2025-08-07", 25 * 10**8),
        ("openai", "new", None),
        ("xai", "gpt-5-2025-08-07", None),
    ],
)
def test_the_vendors_priority_price_applies_unless_the_catalog_has_one(kind: str, model: str, prompt: int | None) -> None:
    price = listed(kind, model)
    assert price is not None
    tier = price.tiers.get("priority")
    assert (tier.prompt if tier is not None else None) == prompt


def test_a_factor_applies_to_every_kind_and_step_and_is_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    config = PriceConfig(prompt=1e-9, output=3e-9, cached=4e-9, search=5e-9, steps=[StepConfig(over=9, prompt=7e-9)])
    price = listed("openai", "any", **{"*": config})
    assert price is not None
    longer = TokenPrice(7, 3, 4)
    assert standard(price) == TokenPrice(1, 3, 4, search=5, steps=((9, longer),))
    half = TokenPrice(1, 2, 2, steps=((9, TokenPrice(4, 2, 2)),))
    assert price.tiers == {"flex": half, "batch": half}
    monkeypatch.setattr("gateway.catalog.prices.FACTORS", {"openai": {"flex": Fraction(3, 4)}})
    other = listed("openai", "any", **{"*": config})
    assert other is not None
    assert other.tiers == {"flex": TokenPrice(1, 3, 3, steps=((9, TokenPrice(6, 3, 3)),))}


def test_a_configured_tier_replaces_the_vendors_factor_and_has_all_steps() -> None:
    steps = [StepConfig(over=200, output=6), StepConfig(over=100, prompt=4)]
    price = listed("anthropic", "m", m=PriceConfig(prompt=2, output=3, steps=steps, service_tiers={"batch": RatesConfig(prompt=1)}))
    assert price is not None
    ladder = ((100, TokenPrice(**nano(prompt=4, output=3, cached=4))), (200, TokenPrice(**nano(prompt=2, output=6, cached=2))))
    assert price == TokenPrice(
        **nano(prompt=2, output=3, cached=2), steps=ladder, tiers={"batch": TokenPrice(**nano(prompt=1, output=3, cached=1), steps=ladder)}
    )


def test_the_price_of_a_model_comes_before_that_of_all_models_and_of_the_embedded_engine() -> None:
    one, every = PriceConfig(1, 3), PriceConfig(0, 2)
    assert listed("local", "m", **{"m": one, "*": every}) == TokenPrice(10**9, 3 * 10**9, 10**9)
    assert listed("local", "n", **{"m": one, "*": every}) == TokenPrice(0, 2 * 10**9, 0)
    assert listed("local", "n", m=one) == FREE


@each(("usd", "expected"), [(0.1, 10**8), (1e-9, 1), (0.0000000014, 1), (0.3, 3 * 10**8), (1.1, 11 * 10**8)])
def test_dollars_are_converted_without_binary_fractions(usd: float, expected: int) -> None:
    assert listed("xai", "m", m=PriceConfig(usd, 0)) == TokenPrice(expected, 0, expected)
