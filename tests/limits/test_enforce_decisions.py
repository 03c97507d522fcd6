"""What enforcement can reserve at once, and what it records of refusals."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import structs

from gateway.accounting import Bill
from gateway.call import Call
from gateway.errors import GatewayError, LimitReached
from gateway.keys.virtual_key import VirtualKey
from gateway.limits.enforce import Limits, remaining_costs
from gateway.metrics.registry import Metrics
from gateway.store.limit import NO_COSTS, Costs, Limit, Refusal, Reservation
from gateway.store.memory import MemoryLimiter
from providers.base import Failure, Target
from tests.limits.test_enforce_costs import (
    CHAT,
    CONFIG,
    REQUESTS,
    SPEND,
    STRICT_REQUESTS,
    STRICT_SPEND,
    STRICT_TOKENS,
    TOKENS,
    X_COST,
    Counts,
    Store,
    X,
    Y,
    limits_in,
    reserved,
)
from tests.support.attempts import call_with, target_named
from tests.support.each import each

CHOICES = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":7,"n":3}'
SEEDS = CHOICES.replace(b'"n":3', b'"n":3,"seed":[1,2,3]')
BUDGET, SMALL = Limit("key:k", "spend", 10**10, "day"), Limit("key:k", "tokens", 100, "h")


class QuickCounts(Counts):
    """Counts of a prompt that are known for all targets except those of one model."""

    def __init__(self, unknown: str = "") -> None:
        super().__init__()
        self.unknown = unknown

    def known(self, target: Target) -> int | None:
        return None if target.model == self.unknown else self.bound(target)


def call_of(body: bytes = CHAT, unknown: str = "") -> Call:
    """Return a call whose prompt is counted by `QuickCounts`."""
    return call_with(body, counts=QuickCounts(unknown))


@pytest.mark.parametrize("targets", [(X,), (Y,), (X, Y)], ids=["x", "y", "x and y"])
@pytest.mark.parametrize(
    "limits",
    [(REQUESTS,), (STRICT_REQUESTS,), (TOKENS,), (SPEND,), (REQUESTS, TOKENS, SPEND)],
    ids=["requests", "strict requests", "tokens", "spend", "requests, tokens and spend"],
)
@pytest.mark.parametrize("body", [CHAT, CHOICES, SEEDS, b'{"model":"m","messages":[]}'])
async def test_a_call_reserves_the_same_amounts_whether_they_are_known_at_once_or_not(
    body: bytes, limits: tuple[Limit, ...], targets: Sequence[Target]
) -> None:
    costs = limits_in(Store()).costs_now(call_of(body), limits, targets)
    assert costs is not None
    assert costs == await reserved(call_of(body), *limits, targets=targets)


@each(
    ("limits", "unknown", "is_known"),
    [
        ((TOKENS,), "y", False),
        ((TOKENS,), "x", False),
        ((SPEND,), "y", False),
        ((REQUESTS,), "y", True),
        ((STRICT_TOKENS,), "", False),
        ((REQUESTS, STRICT_SPEND), "", False),
    ],
)
def test_what_needs_a_slow_count_or_a_bound_is_not_known_at_once(limits: tuple[Limit, ...], unknown: str, is_known: bool) -> None:
    assert (limits_in(Store()).costs_now(call_of(unknown=unknown), limits, (X, Y)) is not None) == is_known


async def test_each_of_several_seeds_reserves_a_request_of_its_own() -> None:
    assert await reserved(call_of(SEEDS), SPEND, targets=(X,)) == Costs(1, 3 * 30, 3 * 7, 3 * X_COST)
    assert await reserved(call_of(SEEDS), TOKENS, targets=(X,)) == Costs(1, 3 * 30, 3 * 7)


def refusing() -> tuple[Limits, Metrics, MemoryLimiter]:
    """Return limits whose store has used up a budget."""
    limiter, metrics = MemoryLimiter(), Metrics(["m"], ["a/x"])
    decision = limiter.decide([BUDGET], Costs(), "first")
    assert isinstance(decision, Reservation)
    limiter.settle(decision, Costs(spend=2 * 10**10))
    return Limits(CONFIG, limiter, metrics), metrics, limiter


async def test_a_refused_call_has_the_states_of_its_limits_and_its_budget_is_notified() -> None:
    limits, _, _ = refusing()
    call = call_of()
    with pytest.raises(LimitReached, match="is used up"):
        await limits.admit(call, [TOKENS, BUDGET], [X])
    assert [(state["limit"], state.get("refused")) for state in call.limit_states] == [(str(TOKENS), None), (str(BUDGET), True)]
    assert [usage.limit for usage in limits.budget_gauge.take_news()[1]] == [BUDGET]
    assert call.reservation is None


async def test_an_attempt_that_a_target_refuses_adds_its_states_and_its_budget_is_notified(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, _, _ = refusing()
    monkeypatch.setattr(limits, "of_target", lambda target: (BUDGET,))
    call = call_of()
    call.limit_states = [{"limit": "of the caller"}]
    failure = await limits.admit_target(call, X)
    assert isinstance(failure, Failure)
    assert failure.kind == "quota"
    assert [state["limit"] for state in call.limit_states] == ["of the caller", str(BUDGET)]
    assert [usage.limit for usage in limits.budget_gauge.take_news()[1]] == [BUDGET]


def test_the_end_of_a_running_call_is_counted_and_names_the_limit() -> None:
    limits, metrics, limiter = refusing()
    refusal = limiter.decide([BUDGET], Costs(spend=1), "next")
    assert isinstance(refusal, Refusal)
    error: GatewayError = limits.used_up(refusal)
    assert (error.status, error.code) == (429, "insufficient_quota")
    assert metrics.counts["lockgate_limit_decisions"] == {("key", "spend", "refused", "memory"): 1}
    assert [usage.limit for usage in limits.budget_gauge.take_news()[1]] == [BUDGET]


@each(
    ("brought", "key", "counts"),
    [
        (False, VirtualKey("k", budgets_brought=False), True),
        (True, VirtualKey("k", budgets_brought=False), False),
        (True, VirtualKey("k", budgets_brought=True), True),
        (True, None, True),
        (False, None, True),
    ],
)
def test_budgets_leave_out_credentials_that_callers_brought_if_the_key_says_so(brought: bool, key: VirtualKey | None, counts: bool) -> None:
    call = call_of()
    call.key = key
    assert Limits.budgets_count(call, structs.replace(target_named(), brought=brought)) == counts


def test_at_the_end_a_call_is_charged_for_what_was_not_charged_while_it_was_running() -> None:
    held = Reservation("a", [SMALL], NO_COSTS, [1], (), 0, charged=Costs(0, 100, 20, 3_000, 40))
    assert remaining_costs(held, Bill(150, 27, 9_999, 45), 7_000) == Costs(1, 50, 7, 4_000, 5)
