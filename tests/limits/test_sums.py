"""The same money everywhere: the sums of ledger, memory and Redis are those of an exact computation."""

from __future__ import annotations

import asyncio
import random
from fractions import Fraction

from gateway import accounting
from gateway.call import Attempt
from gateway.catalog.prices import price_of
from gateway.catalog.token_price import TokenPrice
from gateway.config.load import parse
from gateway.config.redis_address import RedisAddress
from gateway.keys.from_config import VirtualKeys
from gateway.ledger.counters import add_counts, merge_copies
from gateway.ledger.ledger import Ledger
from gateway.limits.enforce import Limits
from gateway.metrics.registry import Metrics
from gateway.store.limit import Limiter
from gateway.store.memory import MemoryLimiter
from providers.base import Usage
from tests.support.attempts import call_with, target_named
from tests.support.redis_fixtures import LimiterStarter

CALLS = 300
CONFIG = parse(
    b"""
providers:
  openai: { api_key: "${K}" }
  own:
    type: vllm
    base_url: "http://h/v1"
    prices:
      m: { prompt: 0.123456789, output: 7.000000001, cached: 0.000000007, reasoning: 3, steps: [{ over: 500, prompt: 1.7 }] }
models: { m: own/m, n: openai/gpt-5.4 }
keys: { k: { hash: "sha256:HASH", limits: { spend: 100000 USD/total } } }
""".replace(b"HASH", b"0" * 64),
    "g.yaml",
    environ={"K": "sk-some-credential"},
)


def random_usage(random: random.Random) -> Usage:
    """Return a usage with parts of all kinds."""
    prompt, output = random.choice((random.randrange(1000), random.randrange(10**6))), random.randrange(1000)
    cached, reasoning = random.randrange(prompt + 1), random.randrange(output + 1)
    return Usage(prompt, output, cached, reasoning, service_tier=random.choice(("", "flex", "priority")))


def exact(price: TokenPrice, usage: Usage) -> int:
    """Return the cost, computed with fractions and rounded up."""
    rates = price.tiers.get(usage.service_tier, price)
    for over, step in rates.steps:
        if usage.prompt_tokens > over:
            rates = step
            break
    thought = rates.output if rates.reasoning is None else rates.reasoning
    parts = (
        (usage.prompt_tokens - usage.cached_tokens, rates.prompt), (usage.cached_tokens, rates.cached),
        (usage.completion_tokens - usage.reasoning_tokens, rates.output), (usage.reasoning_tokens, thought),
    )  # fmt: skip
    total = sum((Fraction(tokens * rate, 10**6) for tokens, rate in parts), Fraction(0))
    return -(-total.numerator // total.denominator)


async def test_ledger_memory_and_redis_have_the_same_sums(redis: RedisAddress, start: LimiterStarter) -> None:
    limiters: list[Limiter] = [MemoryLimiter(), await start(redis, deadline=20.0), await start(redis, deadline=20.0)]
    metrics, ledger = Metrics(["m", "n"], ["own/m", "openai/gpt-5.4"]), Ledger(lambda line: None)
    (key,) = VirtualKeys(CONFIG.keys.values(), CONFIG.teams).values()
    all_limits = [Limits(CONFIG, limiter, metrics) for limiter in limiters]
    dice, expected = random.Random(7), [0, 0, 0]
    for number in range(CALLS):
        name, kind = dice.choice((("own/m", "vllm"), ("openai/gpt-5.4", "openai")))
        price = price_of(CONFIG.providers[name.partition("/")[0]], name.partition("/")[2])
        assert price is not None
        attempt = Attempt(target_named(name, kind), price, usage=random_usage(dice), head_at=1.0)
        assert attempt.usage is not None
        attempt.cost = accounting.answer_cost(attempt)
        assert attempt.cost == exact(price, attempt.usage)
        for at in (0, 1 + number % 2):  # memory, and one of two gateways with the same Redis
            call = call_with(key=key, attempts=[attempt], answered_by=attempt, status=200)
            await all_limits[at].admit(call, all_limits[at].of_caller(call, "m"), [attempt.target])
            assert call.reservation is not None
            all_limits[at].settle(call, call.reservation)
            expected[at] += attempt.cost
        ledger.book(call, call.started)
    rows = list(merge_copies(ledger.counters.all_copies()).values())
    booked = rows[0]
    for row in rows[1:]:
        booked = add_counts(booked, row)
    assert (booked.cost, booked.requests, booked.unpriced) == (expected[0], CALLS, 0)
    assert expected[1] + expected[2] == expected[0]
    for limiter in (limiters[0], limiters[1]):
        for _ in range(1000):
            (used,) = await limiter.usage(key.limits)
            if used.used == expected[0]:
                break
            await asyncio.sleep(0.05)  # the other gateway reports its sum
        assert used.used == expected[0]
