"""The cost of a usage: steps by length, service tiers, caches, audio and image tokens, in integers without drift."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalog import prices as catalog_prices
from gateway.catalog.token_price import FREE, TokenPrice
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


def whole(prompt: int, output: int, **rest: Any) -> TokenPrice:
    """Return the price for amounts in nano-dollars per token. Cached tokens cost as much as others."""
    return TokenPrice(prompt * 10**6, output * 10**6, prompt * 10**6, **rest)


LADDER = whole(
    10, 20, steps=((100, whole(30, 40)), (200, whole(25, 90))),
    tiers={"fast": whole(50, 60, steps=((100, whole(70, 80)),)), "flex": whole(1, 2)},
)  # fmt: skip


@each(
    ("prompt", "tier", "most"),
    [
        (100, "", 100 * 50 + 10 * 60),  # without a tier, the provider may choose any
        (101, "", 101 * 70 + 10 * 80),
        (100, "flex", 100 * 10 + 10 * 20),  # the standard price, if the tier is not granted
        (101, "flex", 101 * 30 + 10 * 40),
        (201, "flex", 201 * 30 + 10 * 40),  # at most this many tokens: a shorter prompt may cost more
        (100, "unknown", 100 * 10 + 10 * 20),
        (100, "fast", 100 * 50 + 10 * 60),
        (101, "fast", 101 * 70 + 10 * 80),
        (0, "flex", 10 * 20),
    ],
)
def test_the_maximum_is_that_of_every_price_that_may_apply(prompt: int, tier: str, most: int) -> None:
    assert LADDER.max_cost(prompt, 10, tier) == most


@each(
    ("prompt", "tier", "cost"),
    [
        (100, "", 10), (101, "", 30), (200, "", 30), (201, "", 25), (101, "flex", 1), (101, "unknown", 30), (100, "fast", 50),
        (101, "fast", 70), (0, "", 10),
    ],
)  # fmt: skip
def test_a_price_applies_above_its_length(prompt: int, tier: str, cost: int) -> None:
    assert LADDER.at(prompt, tier).prompt == cost * 10**6
    assert LADDER.cost(prompt, 0, tier=tier) == LADDER.usage_cost(Usage(prompt, 0, service_tier=tier)) == cost * prompt


@each("kind", ["cached", "cache_write", "cache_write_1h", "audio_prompt", "image_prompt"])
def test_the_bound_of_a_prompt_is_the_price_of_its_dearest_kind(kind: str) -> None:
    price = msgspec.structs.replace(whole(3, 5), **{kind: 4 * 10**6})
    assert (price.prompt_bound, price.output_bound) == (4 * 10**6, 5 * 10**6)
    assert price.max_cost(2, 1) == 13
    assert msgspec.structs.replace(price, **{kind: 10**6}).prompt_bound == 3 * 10**6


@each("kind", ["reasoning", "audio_output", "image_output"])
def test_the_bound_of_an_output_is_the_price_of_its_dearest_kind(kind: str) -> None:
    price = msgspec.structs.replace(whole(3, 5), **{kind: 6 * 10**6})
    assert (price.prompt_bound, price.output_bound) == (3 * 10**6, 6 * 10**6)
    assert msgspec.structs.replace(price, **{kind: 10**6}).output_bound == 5 * 10**6
    assert (whole(0, 0).prompt_bound, whole(0, 0).output_bound) == (0, 0)


@each(("cached", "cost"), [(-1, 100), (0, 100), (1, 91), (10, 10), (11, 10)])
def test_at_most_the_prompt_is_cached(cached: int, cost: int) -> None:
    price = TokenPrice(10 * 10**6, 0, 10**6)
    assert price.cost(10, 0, cached) == cost
    assert price.usage_cost(Usage(10, 0, cached)) == cost


@each(("total", "nano"), [(0, 0), (1, 1), (10**6 - 1, 1), (10**6, 1), (10**6 + 1, 2)])
def test_a_fraction_of_a_nano_dollar_is_a_whole_one(total: int, nano: int) -> None:
    price = TokenPrice(total, total, total, audio_prompt=total)
    assert price.cost(1, 0) == price.max_cost(1, 0) == price.max_cost(0, 1) == nano
    assert price.usage_cost(Usage(1, 0)) == price.usage_cost(Usage(0, 1)) == price.usage_cost(Usage(1, 0, audio_prompt_tokens=1)) == nano


@each(
    ("usage", "cost"),
    [
        (Usage(search_units=1), 2),  # 1.001 nano-dollars
        (Usage(search_units=1000), 1001),
        (Usage(5, 5, search_units=1000), 1001),  # not also billed by tokens
        (Usage(5, 5, search_units=0), 5 * 3 + 5 * 4),
        (Usage(5, 5, search_units=-1), 5 * 3 + 5 * 4),
    ],
)
def test_search_units_are_billed_instead_of_tokens(usage: Usage, cost: int) -> None:
    price = msgspec.structs.replace(whole(3, 4), search=1001)
    assert price.usage_cost(usage) == cost


@each(
    ("usage", "cost"),
    [(Usage(1, 1, search_units=2), 7), (Usage(0, 1, search_units=2), None), (Usage(-1, 1, search_units=2), None), (Usage(0, 1), 4)],
)
def test_search_units_without_a_price_leave_the_price_of_tokens(usage: Usage, cost: int | None) -> None:
    assert whole(3, 4).usage_cost(usage) == cost
    assert whole(3, 4).search_cost(usage.search_units) == 0


@each(
    ("usage", "cost"),
    [
        (Usage(10, 5, billed=(2, 1)), 2 * 3 + 1 * 4),
        (Usage(10, 5, billed=(0, 0)), 0),
        (Usage(10, 5, billed=(2, 1), estimated=True), 10 * 3 + 5 * 4),
        (Usage(-10, 5), 5 * 4),
        (Usage(10, -5), 10 * 3),
        (Usage(-1, -1), 0),
        (Usage(10, 5, cached_tokens=-1), 10 * 3 + 5 * 4),
        (Usage(10, 5, cache_write_tokens=-2, audio_prompt_tokens=-2, image_prompt_tokens=-2), 10 * 3 + 5 * 4),
        (Usage(10, 5, reasoning_tokens=-2, audio_output_tokens=-2, image_output_tokens=-2), 10 * 3 + 5 * 4),
        (Usage(10, 5, cache_write_tokens=4, cache_write_1h_tokens=-3), 6 * 3 + 4 * 11 + 5 * 4),
        (Usage(10, 5, cache_write_tokens=4, cache_write_1h_tokens=1), 6 * 3 + 3 * 11 + 13 + 5 * 4),
        (Usage(10, 5, cached_tokens=10, cache_write_tokens=4), 10 * 3 + 5 * 4),
        (Usage(10, 5, audio_prompt_tokens=3, image_prompt_tokens=9), 3 * 17 + 7 * 19 + 5 * 4),
        (Usage(10, 5, audio_prompt_tokens=3, image_prompt_tokens=2), 3 * 17 + 2 * 19 + 5 * 3 + 5 * 4),
        (Usage(10, 5, reasoning_tokens=1, audio_output_tokens=1, image_output_tokens=1), 10 * 3 + 23 + 29 + 31 + 2 * 4),
        (Usage(10, 5, reasoning_tokens=3, audio_output_tokens=9), 10 * 3 + 3 * 23 + 2 * 29),
        (Usage(10, 5, image_output_tokens=9), 10 * 3 + 5 * 31),
        (Usage(10, 5, audio_output_tokens=1), 10 * 3 + 29 + 4 * 4),
        (Usage(10, 5, reasoning_tokens=1), 10 * 3 + 23 + 4 * 4),
        (Usage(10, 5, audio_prompt_tokens=1), 17 + 9 * 3 + 5 * 4),
        (Usage(10, 5, image_prompt_tokens=1), 19 + 9 * 3 + 5 * 4),
        (Usage(10, 5, cache_write_tokens=1), 11 + 9 * 3 + 5 * 4),
    ],
)
def test_each_token_costs_once(usage: Usage, cost: int) -> None:
    kinds = {"cache_write": 11, "cache_write_1h": 13, "audio_prompt": 17, "image_prompt": 19}
    kinds |= {"reasoning": 23, "audio_output": 29, "image_output": 31}
    price = msgspec.structs.replace(whole(3, 4), **{kind: nano * 10**6 for kind, nano in kinds.items()})
    assert price.usage_cost(usage) == cost


def test_a_service_tier_without_steps_has_its_price_for_every_kind() -> None:
    price = whole(3, 4, tiers={"flex": msgspec.structs.replace(whole(1, 2), reasoning=5 * 10**6)})
    assert price.usage_cost(Usage(10, 5, reasoning_tokens=2, service_tier="flex")) == 10 + 2 * 5 + 3 * 2
    assert price.usage_cost(Usage(10, 5, reasoning_tokens=2)) == 10 * 3 + 5 * 4


def test_the_price_of_the_embedded_engine_is_zero_for_every_kind_of_tokens() -> None:
    assert (FREE.cost(10**9, 10**9, 10**8), FREE.max_cost(10**9, 10**9), FREE.search_cost(10**9)) == (0, 0, 0)
