"""The cost of a usage: steps by length, service tiers, caches, audio and image tokens, in integers without drift."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalog import prices as catalog_prices
from gateway.catalog.token_price import TokenPrice
from gateway.config.load import parse
from gateway.config.price import PriceConfig
from providers.base import Usage
from providers.service_tiers import FACTORS, PRIORITY
from tests.support.each import each
from tests.support.search import examples

USD = 10**9
SOURCE = b"""
providers:
  openai: { api_key: "${K}" }
  azure: { api_key: "${K}", base_url: "https://x.openai.azure.com/openai/v1" }
  anthropic: { api_key: "${K}" }
  gemini: { api_key: "${K}" }
  xai: { api_key: "${K}" }
  own:
    type: openai
    api_key: "${K}"
    prices:
      m:
        prompt: 1
        output: 2
        audio_prompt: 40
        image_prompt: 8
        audio_output: 80
        image_output: 32
        cache_write: 1.25
        cache_write_1h: 2
        steps: [{ over: 1000, prompt: 3 }, { over: 100, prompt: 2, output: 5 }]
        service_tiers: { priority: { prompt: 9 }, flex: { prompt: 0.25 } }
"""
PROVIDERS = parse(SOURCE, "gateway.yaml", environ={"K": "sk-some-credential"}).providers


def cost(provider: str, model: str, usage: Usage) -> int | None:
    """Return the cost of a usage in nano-dollars."""
    price = catalog_prices.price_of(PROVIDERS[provider], model)
    assert price is not None
    return price.usage_cost(usage)


@each(
    ("provider", "model", "usage", "usd"),
    [
        ("openai", "gpt-5.4", Usage(300_000, 5), "1.5001125"),
        ("openai", "gpt-5.4-2026-03-05", Usage(300_000, 5), "1.5001125"),
        ("openai", "gpt-5.4", Usage(272_000, 5), "0.680075"),
        ("openai", "gpt-5.4", Usage(272_001, 0), "1.360005"),
        ("openai", "gpt-5.4", Usage(300_000, 0, cached_tokens=300_000), "0.15"),
        ("openai", "gpt-5.4", Usage(1000, 1000, service_tier="priority"), "0.035"),
        ("openai", "gpt-5.4", Usage(1000, 1000, service_tier="flex"), "0.00875"),
        ("openai", "gpt-5.4", Usage(300_000, 0, service_tier="batch"), "0.75"),
        ("openai", "gpt-5.4", Usage(1000, 1000, service_tier="default"), "0.0175"),
        ("openai", "gpt-5-mini-2025-08-07", Usage(1_000_000, 0, service_tier="priority"), "0.45"),
        ("azure", "gpt-5.4", Usage(300_000, 0), "1.5"),
        ("gemini", "gemini-2.5-pro", Usage(200_001, 0), "0.5000025"),
        ("gemini", "gemini-2.5-flash", Usage(1000, 0, audio_prompt_tokens=400), "0.00058"),
        ("xai", "grok-4.3", Usage(200_001, 0), "0.5000025"),
        ("anthropic", "claude-opus-4-6", Usage(100, 0, cache_write_tokens=100), "0.000625"),
        ("anthropic", "claude-opus-4-6", Usage(100, 0, cache_write_tokens=100, cache_write_1h_tokens=100), "0.001"),
        ("anthropic", "claude-opus-4-6", Usage(100, 0, cache_write_tokens=100, cache_write_1h_tokens=40), "0.000775"),
        ("anthropic", "claude-opus-4-6", Usage(100, 100, service_tier="fast"), "0.018"),
        ("anthropic", "claude-opus-4-6", Usage(100, 100, service_tier="batch"), "0.0015"),
        ("own", "m", Usage(100, 10), "0.00012"),
        ("own", "m", Usage(101, 10), "0.000252"),
        ("own", "m", Usage(1001, 10), "0.003023"),
        ("own", "m", Usage(100, 10, audio_prompt_tokens=50, image_prompt_tokens=20, audio_output_tokens=4), "0.002522"),
        ("own", "m", Usage(100, 10, image_output_tokens=5), "0.00027"),
        ("own", "m", Usage(100, 0, service_tier="priority"), "0.0009"),
        ("own", "m", Usage(100, 0, service_tier="flex"), "0.000025"),
        ("own", "m", Usage(100, 0, service_tier="batch"), "0.00005"),
    ],
)
def test_prices_depend_on_length_tier_cache_and_kind_of_token(provider: str, model: str, usage: Usage, usd: str) -> None:
    assert cost(provider, model, usage) == Fraction(usd) * USD


def test_every_step_of_the_catalog_applies_above_its_length_only() -> None:
    for vendor, provider in (("openai", "openai"), ("azure", "azure"), ("google", "gemini"), ("xai", "xai")):
        models = catalog_prices.catalog.vendor_catalog(vendor)
        assert models is not None
        stepped = {name: entry.usd_per_million_tokens for name, entry in models.models.items() if entry.usd_per_million_tokens}
        for name, prices in stepped.items():
            for step in prices.steps:
                assert step.input is not None
                assert step.input > prices.input
                assert cost(provider, name, Usage(step.over, 0)) == -(-round(prices.input * USD) * step.over // 10**6)
                assert cost(provider, name, Usage(step.over + 1, 0)) == -(-round(step.input * USD) * (step.over + 1) // 10**6)
        assert any(prices.steps for prices in stepped.values())


def test_published_factors_are_discounts_and_priority_costs_more() -> None:
    assert all(0 < factor < 1 for factors in FACTORS.values() for factor in factors.values())
    for model in PRIORITY:
        standard, priority = cost("openai", model, Usage(1000, 1000)), cost("openai", model, Usage(1000, 1000, service_tier="priority"))
        assert standard is not None
        assert priority is not None
        assert priority > standard


def test_search_units_without_a_price_have_no_known_cost() -> None:
    assert TokenPrice(1, 1, 1).usage_cost(Usage(search_units=3)) is None
    assert TokenPrice(1, 1, 1, search=10**9).usage_cost(Usage(search_units=3)) == 3 * 10**6


RATE = st.integers(0, 10**12)
RARE = st.none() | RATE
KINDS = st.fixed_dictionaries({
    "prompt": RATE, "output": RATE, "cached": RATE, "reasoning": RARE, "cache_write": RARE, "cache_write_1h": RARE,
    "audio_prompt": RARE, "image_prompt": RARE, "audio_output": RARE, "image_output": RARE,
})  # fmt: skip
TOKENS = st.integers(0, 1000)
USAGES = st.builds(
    Usage, TOKENS, TOKENS, TOKENS, TOKENS, st.just(False), TOKENS, cache_write_1h_tokens=TOKENS, audio_prompt_tokens=TOKENS,
    image_prompt_tokens=TOKENS, audio_output_tokens=TOKENS, image_output_tokens=TOKENS, service_tier=st.sampled_from(["", "flex", "x"]),
)  # fmt: skip
LADDERS = st.dictionaries(st.integers(0, 1200), KINDS, max_size=3)
PARTS = {
    "prompt": ("cached", "cache_write_1h", "cache_write", "audio_prompt", "image_prompt"),
    "output": ("reasoning", "audio_output", "image_output"),
}


def exact(base: dict[str, Any], ladder: dict[int, dict[str, Any]], usage: Usage) -> int:
    """Return the cost as a reader of the price list computes it: each token once, at the price of its most special kind."""
    over = max((length for length in ladder if usage.prompt_tokens > length), default=None)
    rates = base if over is None else ladder[over]
    hour = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
    counts = {
        "cached": usage.cached_tokens, "cache_write_1h": hour, "cache_write": usage.cache_write_tokens - hour,
        "audio_prompt": usage.audio_prompt_tokens, "image_prompt": usage.image_prompt_tokens, "reasoning": usage.reasoning_tokens,
        "audio_output": usage.audio_output_tokens, "image_output": usage.image_output_tokens,
    }  # fmt: skip
    total = Fraction(0)
    for whole, left in (("prompt", usage.prompt_tokens), ("output", usage.completion_tokens)):
        for kind in PARTS[whole]:
            rate = rates[kind]
            if kind == "cache_write_1h" and rate is None:
                rate = rates["cache_write"]
            if kind.startswith("cache_write") and rate is None:
                rate = rates[whole]
            if rate is not None:
                part = min(counts[kind], left)
                left -= part
                total += Fraction(part * rate, 10**6)
        total += Fraction(left * rates[whole], 10**6)
    return -(-total.numerator // total.denominator)


@settings(max_examples=examples(200))
@given(base=KINDS, ladder=LADDERS, flex=st.none() | st.tuples(KINDS, LADDERS), usage=USAGES)
def test_the_cost_is_that_of_an_exact_computation(
    base: dict[str, Any], ladder: dict[int, dict[str, Any]], flex: tuple[dict[str, Any], dict[int, dict[str, Any]]] | None, usage: Usage
) -> None:
    def price_for(rates: dict[str, Any], steps: dict[int, dict[str, Any]]) -> TokenPrice:
        return TokenPrice(**rates, steps=tuple((over, TokenPrice(**steps[over])) for over in sorted(steps)))

    price = price_for(base, ladder)
    if flex is not None:
        price = msgspec.structs.replace(price, tiers={"flex": price_for(*flex)})
    chosen = flex if flex is not None and usage.service_tier == "flex" else (base, ladder)
    assert price.usage_cost(usage) == exact(*chosen, usage)
    assert exact(*chosen, usage) <= price.max_cost(usage.prompt_tokens, usage.completion_tokens)
    assert price.cost(usage.prompt_tokens, usage.completion_tokens, tier=usage.service_tier) == exact(
        *chosen, Usage(usage.prompt_tokens, usage.completion_tokens)
    )


def test_a_configured_price_has_the_documented_fields() -> None:
    kinds = set(catalog_prices._RATES)
    assert kinds | {"search", "steps", "service_tiers"} == set(PriceConfig.__struct_fields__)
