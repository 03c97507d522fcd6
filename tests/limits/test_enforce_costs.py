"""The amounts that enforcement reserves before a call and settles afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from msgspec import structs

from gateway.call import Attempt, Call
from gateway.catalog.prices import price_of
from gateway.catalog.token_price import TokenPrice
from gateway.config.load import parse
from gateway.errors import Forbidden
from gateway.keys.virtual_key import VirtualKey
from gateway.limits import enforce
from gateway.limits.bounds import max_prompt_tokens
from gateway.limits.enforce import Limits
from gateway.metrics.registry import Metrics
from gateway.store.limit import NO_COSTS, Costs, Limit, Refusal, Reservation
from gateway.store.memory import MemoryLimiter
from providers.base import Body, Target, Usage
from tests.support.attempts import call_with, target_named
from tests.support.each import each

CONFIG = parse(
    b"""
default_output_tokens: 70
providers:
  a:
    type: vllm
    base_url: "http://h/v1"
    prices:
      x: { prompt: 10, output: 100, cached: 1, search: 2, service_tiers: { flex: { prompt: 5, output: 50 } } }
      y: { prompt: 20, output: 50, search: 3 }
  b: { type: vllm, base_url: "http://h/v1", limits: { tokens: 1000000/h } }
  c: { type: vllm, base_url: "http://h/v1", limits: { tokens: 1000000/h, strict: true } }
models: { m: [a/x, a/y] }
""",
    "g.yaml",
    environ={},
)
X, Y = target_named("a/x", "vllm"), target_named("a/y", "vllm")
TOKENS, REQUESTS = Limit("key:k", "tokens", 10**9, "h"), Limit("key:k", "requests", 10**9, "h")
SPEND = Limit("key:k", "spend", 10**15, "day")
STRICT_TOKENS, STRICT_SPEND = Limit("key:k", "tokens", 10**9, "h", strict=True), Limit("key:k", "spend", 10**15, "day", strict=True)
STRICT_REQUESTS = Limit("key:k", "requests", 10**9, "h", strict=True)
CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":7}'


class Store(MemoryLimiter):
    """A store in memory that records the amounts."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, Costs]] = []
        self.settled: list[Costs] = []

    async def admit(self, limits: Sequence[Limit], costs: Costs, id: str, *, force: bool = False) -> Reservation | Refusal:
        self.asked.append((id, costs))
        return await super().admit(limits, costs, id, force=force)

    def settle(self, reservation: Reservation, actual: Costs) -> None:
        self.settled.append(actual)
        super().settle(reservation, actual)


class Counts:
    """The counts of a prompt: 30 tokens at a/x and 40 at a/y."""

    def __init__(self) -> None:
        self.counted: list[str] = []

    async def count(self, targets: Iterable[Target]) -> None:
        self.counted += [target.name for target in targets]

    def bound(self, target: Target) -> int:
        return {"x": 30, "y": 40}.get(target.model, 50)


def call_of(body: bytes = CHAT, **fields: Any) -> Call:
    """Return a call whose prompt is counted by `Counts`."""
    return call_with(body, counts=Counts(), **fields)


def limits_in(store: Store) -> Limits:
    return Limits(CONFIG, store, Metrics(["m"], ["a/x", "a/y"]))


async def reserved(call: Call, *limits: Limit, targets: Sequence[Target] = (X, Y)) -> Costs:
    """Return the amounts that a call reserves under these limits."""
    store = Store()
    await limits_in(store).admit(call, limits, targets)
    assert call.reservation is not None
    ((id, costs),) = store.asked
    assert id == call.id
    return costs


X_COST, Y_COST = 30 * 10_000 + 7 * 100_000, 40 * 20_000 + 7 * 50_000


@pytest.mark.parametrize(
    ("limit", "costs", "counted"),
    [
        (REQUESTS, Costs(), []),
        (STRICT_REQUESTS, Costs(), []),
        (Limit("key:k", "concurrent", 9), Costs(), []),
        (TOKENS, Costs(1, 40, 7, 0), ["a/x", "a/y"]),
        (SPEND, Costs(1, 40, 7, Y_COST), ["a/x", "a/y"]),
    ],
)
async def test_a_call_reserves_what_its_limits_need(limit: Limit, costs: Costs, counted: list[str]) -> None:
    call = call_of()
    assert await reserved(call, limit) == costs
    assert call.counts.counted == counted  # type: ignore[union-attr]
    assert not call.strict_limits


async def test_the_most_expensive_target_is_reserved() -> None:
    assert Y_COST > X_COST
    assert (await reserved(call_of(), SPEND, targets=[Y, X])).spend == Y_COST
    assert (await reserved(call_of(), SPEND, targets=[X])).spend == X_COST


async def test_a_strict_limit_reserves_bounds_and_counts_nothing() -> None:
    call = call_of()
    prompt = max_prompt_tokens(call, [X, Y])
    assert await reserved(call, STRICT_TOKENS) == Costs(1, prompt, 7, 0)
    assert call.strict_limits
    assert await reserved(call_of(), STRICT_SPEND) == Costs(1, prompt, 7, prompt * 20_000 + 7 * 50_000)
    assert call.counts.counted == []  # type: ignore[union-attr]


async def test_a_call_without_a_cap_reserves_the_default() -> None:
    body = b'{"model":"m","messages":[]}'
    assert (await reserved(call_of(body), TOKENS)).output_tokens == 70
    assert (await reserved(call_of(body), STRICT_TOKENS)).output_tokens == 70


async def test_the_target_with_the_longest_answer_is_reserved() -> None:
    capped = target_named("o/gpt-4o", "openai")
    body = CHAT.replace(b":7", b":100000")
    assert [(await reserved(call_of(body), TOKENS, targets=targets)).output_tokens for targets in ([X, capped], [capped])] == [
        100_000,
        16_384,
    ]


@pytest.mark.parametrize(("tier", "spend"), [("flex", 30 * 5_000 + 7 * 50_000), ("auto", X_COST), ("other", X_COST)])
async def test_a_requested_service_tier_is_reserved_at_its_price(tier: str, spend: int) -> None:
    call = call_of(CHAT[:-1] + b',"service_tier":"%s"}' % tier.encode())
    assert (await reserved(call, SPEND, targets=[X])).spend == spend


async def test_a_strict_budget_reserves_the_requested_tier_or_the_dearest() -> None:
    body = b'{"model":"m","messages":[],"max_tokens":7,"service_tier":"flex"}'
    price = price_of(CONFIG.providers["a"], "x")
    assert price is not None
    call = call_of(body)
    assert (await reserved(call, STRICT_SPEND, targets=[X])).spend == price.max_cost(max_prompt_tokens(call, [X]), 7, "flex")


async def test_search_units_are_reserved_with_the_tokens() -> None:
    body = b'{"query":"q","documents":["a"]}'
    for limit, units in ((SPEND, 1), (STRICT_SPEND, 1)):
        call = call_of(body)
        call.operation = "rerank"
        costs = await reserved(call, limit)
        tokens = max_prompt_tokens(call, [X]) if limit.strict else 40
        assert costs == Costs(1, tokens, 0, tokens * 20_000 + units * 3_000_000)


async def test_a_passed_call_reserves_one_of_each() -> None:
    call = Call("chat", "/v1/audio/speech", passed=object(), model="m", route="m")  # type: ignore[arg-type]
    assert await reserved(call, SPEND, TOKENS) == Costs(1, 1, 1, 1)


@pytest.mark.parametrize(("key", "is_brought", "spend"), [
    (VirtualKey("k", budgets_brought=False), True, 0),
    (VirtualKey("k", budgets_brought=True), True, X_COST),
    (VirtualKey("k", budgets_brought=False), False, X_COST),
    (None, True, X_COST),
])  # fmt: skip
async def test_a_credential_of_the_caller_is_free_if_the_key_says_so(key: VirtualKey | None, is_brought: bool, spend: int) -> None:
    target = structs.replace(X, brought=is_brought)
    assert (await reserved(call_of(key=key), SPEND, targets=[target])).spend == spend


async def test_a_target_without_a_price_cannot_be_charged_to_a_budget() -> None:
    unpriced = target_named("b/z", "vllm")
    with pytest.raises(Forbidden, match="b/z has no known price") as refused:
        await reserved(call_of(), SPEND, targets=[X, unpriced])
    assert (refused.value.code, refused.value.param) == ("price_unknown", "model")
    assert (await reserved(call_of(), TOKENS, targets=[unpriced])).spend == 0


async def test_a_prompt_is_counted_for_the_limits_of_a_target() -> None:
    call, store = call_of(), Store()
    await limits_in(store).admit_target(call, target_named("b/z", "vllm"))
    assert call.counts.counted == ["b/z"]  # type: ignore[union-attr]
    assert store.asked == [(f"{call.id}.1", Costs(1, 50, 7, 0))]


async def test_prices_are_looked_up_once_and_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    def look_up(provider: Any, model: str) -> TokenPrice | None:
        looked_up.append(model)
        return price_of(provider, model)

    monkeypatch.setattr(enforce, "price_of", look_up)
    monkeypatch.setattr(enforce, "MAX_CACHED_USERS", 1)
    limits = limits_in(Store())
    for _ in range(2):
        await limits.admit(call_of(), [SPEND], [X, Y])
    assert looked_up == ["x", "y", "y"]


def attempt(usage: Usage | None = None, target: Target = X, **fields: Any) -> Attempt:
    """Return an attempt at a/x with its price."""
    return Attempt(target, price_of(CONFIG.providers["a"], target.model), usage=usage, **fields)


async def settled(call: Call, *limits: Limit, reserve: Costs | None = None) -> Costs:
    """Return the amounts that are settled for a call that was admitted under these limits."""
    store = Store()
    enforced = limits_in(store)
    attempts, call.attempts = call.attempts, []
    await enforced.admit(call, limits, [X])
    call.attempts = attempts
    assert call.reservation is not None
    assert bool(enforced.in_flight._open) == (TOKENS in limits or STRICT_TOKENS in limits)
    held = call.reservation if reserve is None else structs.replace(call.reservation, costs=reserve)
    enforced.settle(call, held)
    assert enforced.in_flight._open == {}
    (actual,) = store.settled
    return actual


@pytest.mark.parametrize(
    ("attempts", "abort", "costs"),
    [
        ([], None, NO_COSTS),
        ([attempt()], None, NO_COSTS),
        ([attempt(head_at=1.0)], None, Costs()),
        ([attempt(), attempt(head_at=1.0)], None, Costs()),
        ([attempt(head_at=1.0), attempt()], None, NO_COSTS),
        ([attempt(is_written=True)], None, NO_COSTS),
        ([attempt(is_written=True)], "pre", Costs()),
        ([attempt()], "queue", NO_COSTS),
    ],
)
async def test_a_call_without_a_bill_is_a_request_if_it_reached_an_upstream(
    attempts: list[Attempt], abort: str | None, costs: Costs
) -> None:
    assert await settled(call_of(attempts=attempts, abort_phase=abort), TOKENS) == costs


async def test_the_bill_of_all_attempts_is_settled() -> None:
    call = call_of(attempts=[attempt(billed=(Usage(5, 2),)), attempt(Usage(10, 3, 4), head_at=1.0)])
    spend = 5 * 10_000 + 2 * 100_000 + 6 * 10_000 + 4 * 1_000 + 3 * 100_000
    assert await settled(call, TOKENS, SPEND) == Costs(1, 15, 5, spend, 4)


@pytest.mark.parametrize(
    ("limit", "usage", "reserve", "costs"),
    [
        (STRICT_TOKENS, Usage(10, 3, 4, estimated=True), Costs(1, 50, 20), (50, 20, 0)),
        (STRICT_TOKENS, Usage(60, 3, 4, estimated=True), Costs(1, 50, 20), (60, 20, 0)),
        (STRICT_TOKENS, Usage(10, 30, 4, estimated=True), Costs(1, 50, 20), (50, 30, 0)),
        (STRICT_TOKENS, Usage(10, 3, 4), Costs(1, 50, 20), (10, 3, 4)),
        (TOKENS, Usage(10, 3, 4, estimated=True), Costs(1, 50, 20), (10, 3, 4)),
        (STRICT_REQUESTS, Usage(10, 3, 4, estimated=True), Costs(1, 50, 20), (10, 3, 4)),
    ],
)
async def test_a_strict_token_limit_keeps_what_it_reserved_if_usage_is_estimated(
    limit: Limit, usage: Usage, reserve: Costs, costs: tuple[int, int, int]
) -> None:
    found = await settled(call_of(attempts=[attempt(usage, head_at=1.0)]), REQUESTS, limit, reserve=reserve)
    assert (found.requests, found.prompt_tokens, found.output_tokens, found.cached_tokens) == (1, *costs)
    assert found.spend == (usage.prompt_tokens - 4) * 10_000 + 4 * 1_000 + usage.completion_tokens * 100_000


@pytest.mark.parametrize(("counts", "spend"), [(False, 3 * 100_000), (True, 3 * 100_000 + 10 * 10_000)])
async def test_a_budget_does_not_count_the_callers_own_credential_if_the_key_says_so(counts: bool, spend: int) -> None:
    own = attempt(Usage(10, 0), structs.replace(X, brought=True), head_at=1.0)
    call = call_of(attempts=[own, attempt(Usage(0, 3))], key=VirtualKey("k", budgets_brought=counts), credentials={"a": object()})
    assert (await settled(call, SPEND)).spend == spend
    unused = call_of(attempts=[attempt(Usage(0, 3))], key=VirtualKey("k", budgets_brought=counts), credentials={"a": object()})
    assert (await settled(unused, SPEND)).spend == 3 * 100_000
    keyless = call_of(attempts=[own, attempt(Usage(0, 3))], credentials={"a": object()})
    assert (await settled(keyless, SPEND)).spend == 3 * 100_000 + 10 * 10_000


@pytest.mark.parametrize(("usage", "costs"), [(None, Costs()), (Usage(10, 3, 4), Costs(1, 10, 3, 6 * 10_000 + 4 * 1_000 + 3 * 100_000, 4))])
async def test_an_attempt_counts_as_a_request_in_any_case(usage: Usage | None, costs: Costs) -> None:
    store = Store()
    limits = limits_in(store)
    held = store.decide([TOKENS], Costs(), "a")
    assert isinstance(held, Reservation)
    limits.settle_attempt(attempt(usage), held)
    assert store.settled == [costs]


@each(
    ("body", "operation", "strict", "cap"),
    [
        (b'{"messages":[]}', "chat", True, 70),
        (b'{"messages":[]}', "chat", False, None),
        (b'{"prompt":"a"}', "completions", True, 70),
        (b'{"input":"a"}', "embeddings", True, None),
        (CHAT, "chat", True, None),
        (None, "chat", True, None),
    ],
)
def test_a_strict_limit_caps_the_output_of_a_call_without_a_cap(body: bytes | None, operation: str, strict: bool, cap: int | None) -> None:
    call = Call(operation, "/v1", body=None if body is None else Body(body), strict_limits=strict)  # type: ignore[arg-type]
    assert limits_in(Store()).reserved_output_cap(call, X) == cap


def test_a_strict_limit_of_the_target_caps_the_output_too() -> None:
    limits, call = limits_in(Store()), call_with(b'{"messages":[]}')
    assert [limits.reserved_output_cap(call, target_named(name)) for name in ("b/x", "c/x")] == [None, 70]
