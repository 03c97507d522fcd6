"""Prices of tokens: cached, cache writes, reasoning, and reasoning that providers count separately."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.catalog.prices import FREE, TokenPrice, price_of
from gateway.config.load import parse
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
