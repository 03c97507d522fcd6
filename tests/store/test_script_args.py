"""Keys and arguments of the Lua scripts."""

from __future__ import annotations

import pytest

from gateway.store.limit import NO_SLOT, Costs, Limit, Reservation
from gateway.store.periods import NEVER_US
from gateway.store.script_args import (
    BUDGET_SLOTS,
    NO_WAIT,
    PendingDecision,
    Run,
    admit_args,
    batches,
    group_by_side,
    publish_args,
    read_refusal,
    settle_args,
    side_of,
)
from gateway.store.settled_spend import SettledSpend, SpendEntry
from tests.support.each import each

CALLS = Limit("key:a", "concurrent", 3)
TOKENS = Limit("key:a", "tokens", 100, "min")
BUDGET = Limit("key:a", "spend", 1000, "day")
TARGET = Limit("provider:p", "requests", 5, "h", side="target")
RUN = Run("lockgate:{caller}:run:me", 8, 5)


def test_all_keys_of_one_decision_share_a_hash_tag() -> None:
    keys, _ = admit_args([PendingDecision([CALLS, TOKENS, BUDGET], Costs(), "id")], SettledSpend("me"), 30, RUN)
    assert {side_of(key) for key in keys} == {"caller"}
    assert len(keys) == 3 + 1 + 3 + 2  # members, their info, the run, the reservation, three limits, the reserved tokens and budget


def test_arguments_mark_concurrency_and_budgets() -> None:
    spent = SettledSpend("me")
    spent.add(BUDGET.key, 20_000, 7)
    _, arguments = admit_args([PendingDecision([CALLS, BUDGET], Costs(spend=9), "id")], spent, 30, RUN)
    assert arguments[:6] == [1, "me", 8, 5, 1, 2]
    assert arguments[6:10] == [NO_SLOT, 0, 3, 30]
    assert arguments[10:19] == [BUDGET.slot, BUDGET_SLOTS, 1000, BUDGET.ttl, 20_000, 7, 0, NEVER_US, 0]
    assert arguments[19:] == [1, 1, 1, 9]


def test_a_decision_without_a_future_is_forced() -> None:
    decisions = [PendingDecision([TOKENS], Costs(2, 3, 4), "a", object()), PendingDecision([TARGET], Costs(2, 3, 4), "b")]
    keys, arguments = admit_args(decisions, SettledSpend("me"), 30, RUN)
    assert keys[2:] == [RUN.key, TOKENS.key, f"{TOKENS.key}:held", TARGET.key, "lockgate:{caller}:r:a", "lockgate:{target}:r:b"]
    assert arguments[:6] == [2, "me", 8, 5, 2, 1]
    assert arguments[6:11] == [TOKENS.slot, TOKENS.slots, 100, TOKENS.ttl, 1]
    assert arguments[11:15] == [TARGET.slot, TARGET.slots, 5, TARGET.ttl]
    assert arguments[15:] == [1, 0, 7, 2, 1, 2]


def test_calls_with_the_same_limits_share_their_definition() -> None:
    costs = (Costs(1, 3, 4), Costs(2, 5, 6), Costs(3, 7, 8))
    limits = ([CALLS, TOKENS], [TOKENS], [CALLS, TOKENS])
    ids = ("a", "b", "c")
    decisions = [PendingDecision(own, cost, id, object()) for own, cost, id in zip(limits, costs, ids, strict=True)]
    keys, arguments = admit_args(decisions, SettledSpend("me"), 30, RUN)
    first, second = [CALLS.key, TOKENS.key, f"{TOKENS.key}:held"], [TOKENS.key, f"{TOKENS.key}:held"]
    assert keys[3:] == [*first, *second, *(f"lockgate:{{caller}}:r:{id}" for id in ids)]
    assert arguments[4] == 2
    assert arguments[-11:] == [1, 0, 1, 7, 2, 0, 11, 1, 0, 1, 15]
    settlements = [(Reservation(id, own, Costs(), [7] * len(own), (), 0), cost) for own, cost, id in zip(limits, costs, ids, strict=True)]
    keys, arguments = settle_args(settlements, SettledSpend("me"), RUN)
    assert keys[1:] == [*first, *second, *(f"lockgate:{{caller}}:r:{id}" for id in ids)]
    assert arguments[4] == 2
    assert arguments[-11:] == [1, 0, 1, 7, 2, 0, 11, 1, 0, 1, 15]


def test_a_budget_that_was_never_settled_is_known_as_zero_in_period_zero() -> None:
    _, arguments = admit_args([PendingDecision([BUDGET], Costs(), "id")], SettledSpend("me"), 30, RUN)
    assert arguments[5:] == [1, BUDGET.slot, -1, 1000, BUDGET.ttl, 0, 0, 0, NEVER_US, 0, 1, 1, 0]


def test_a_settlement_sends_the_usage_of_rates_and_the_settled_amount_of_budgets() -> None:
    spent = SettledSpend("me")
    spent.add(BUDGET.key, 20_000, 7)
    spent.add(BUDGET.key, 20_001, 9)
    spent.add(BUDGET.key, 0, 5)
    held = Reservation("a", [TOKENS, BUDGET, CALLS], Costs(), [17, 20_000, NO_SLOT], (), 0)
    unanswered = Reservation("b", [BUDGET], Costs(), (), (), 0)
    keys, arguments = settle_args([(held, Costs(1, 3, 4, 99)), (unanswered, Costs())], spent, RUN)
    assert keys == [
        RUN.key, TOKENS.key, f"{TOKENS.key}:held", BUDGET.key, f"{BUDGET.key}:held", CALLS.key, BUDGET.key, f"{BUDGET.key}:held",
        "lockgate:{caller}:r:a", "lockgate:{caller}:r:b",
    ]  # fmt: skip
    assert arguments == [
        2, "me", 8, 5, 2,
        3, TOKENS.slot, TOKENS.slots, TOKENS.ttl, BUDGET.slot, -1, BUDGET.ttl, NO_SLOT, 0, CALLS.ttl,
        1, BUDGET.slot, -1, BUDGET.ttl,
        1, 0, 7, 20_000, 7, 1,
        2, 1, 0, 5,
    ]  # fmt: skip


def test_a_publication_names_each_counter_and_the_reserved_amount() -> None:
    entries = [(SpendEntry("me", "x:day", 20_000, 7), 3), (SpendEntry("old", "y:month", 24_000, 9), -1)]
    assert publish_args(entries) == (
        ["x:day", "x:day:held", "y:month", "y:month:held"],
        ["me", 20_000, 7, 3, "old", 24_000, 9, -1],
    )


def test_decisions_and_settlements_are_grouped_by_side() -> None:
    decision = PendingDecision([TARGET], Costs(), "id")
    settlement = (Reservation("id", [CALLS], Costs(), [NO_SLOT], (), 0), Costs())
    assert group_by_side([decision, settlement, decision]) == [[decision, decision], [settlement]]


def test_batches_are_bounded_and_complete() -> None:
    entries = list(range(201))
    parts = batches(entries)
    assert [len(part) for part in parts] == [100, 100, 1]
    assert [entry for part in parts for entry in part] == entries


@each(("wait", "retry_after"), [(-2, None), (-3, 1.0), (2_500_000, 2.5), (-1, 86_400.0)])
def test_waits_are_converted_to_seconds(wait: int, retry_after: float | None) -> None:
    refusal = read_refusal([TOKENS, BUDGET], [7, 20_000], [NO_WAIT, wait], 20_000 * 86_400_000_000, 1.0)
    assert refusal.limit is BUDGET
    assert refusal.retry_after == retry_after
    assert refusal.busy == (wait == -3)


@each(
    ("waits", "refusing"),
    [
        ([3_000_000, -1, 60_000_000], 1),  # the day ends in 1 h
        ([3_000_000, -1, 4_000_000_000], 2),
        ([-3, -1, 1_000], 1),
        ([NO_WAIT, NO_WAIT, 1_000], 2),
        ([-2, -1, 10**15], 0),
        ([5_000_000, NO_WAIT, 5_000_000], 0),
    ],
)
def test_the_limit_with_the_longest_wait_refuses(waits: list[int], refusing: int) -> None:
    limits = [CALLS, BUDGET, TOKENS]
    now = 20_001 * 86_400_000_000 - 3_600_000_000
    assert read_refusal(limits, [NO_SLOT, 20_000, 1], waits, now, 1.0).limit is limits[refusing]


def test_only_a_budget_is_busy() -> None:
    refusal = read_refusal([CALLS], [NO_SLOT], [-3], 7, 2.0)
    assert (refusal.busy, refusal.retry_after, refusal.decided_at) == (False, 2.0, 7)


def test_the_marks_are_those_of_the_scripts() -> None:
    assert (BUDGET_SLOTS, NO_WAIT) == (-1, -4)


def test_a_reply_with_a_missing_wait_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        read_refusal([CALLS, TOKENS], [NO_SLOT, 1], [1_000], 7, 1.0)
