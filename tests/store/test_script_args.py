"""Keys and arguments of the Lua scripts."""

from __future__ import annotations

from gateway.store.limit import NO_SLOT, Costs, Limit, Reservation
from gateway.store.periods import NEVER_US
from gateway.store.script_args import (
    BUDGET_SLOTS,
    MAX_ENTRIES_PER_COMMAND,
    NO_WAIT,
    PendingDecision,
    admit_args,
    batches,
    group_by_side,
    read_refusal,
    side_of,
)
from gateway.store.settled_spend import SettledSpend
from tests.support.each import each

CALLS = Limit("key:a", "concurrent", 3)
TOKENS = Limit("key:a", "tokens", 100, "min")
BUDGET = Limit("key:a", "spend", 1000, "day")
TARGET = Limit("provider:p", "requests", 5, "h", side="target")


def test_all_keys_of_one_decision_share_a_hash_tag() -> None:
    keys, _ = admit_args([PendingDecision([CALLS, TOKENS, BUDGET], Costs(), "id")], SettledSpend("me"), 30)
    assert {side_of(key) for key in keys} == {"caller"}
    assert len(keys) == 2 + 1 + 3 + 1  # members and their info, the reservation, three limits, the reserved amounts


def test_arguments_mark_concurrency_and_budgets() -> None:
    spent = SettledSpend("me")
    spent.add(BUDGET.key, 20_000, 7)
    _, arguments = admit_args([PendingDecision([CALLS, BUDGET], Costs(spend=9), "id")], spent, 30)
    assert arguments[:5] == [1, "me", "id", 2, 1]
    assert arguments[5:10] == [NO_SLOT, 0, 3, 1, 30]
    assert arguments[10:] == [BUDGET.slot, BUDGET_SLOTS, 1000, 9, BUDGET.ttl, 20_000, 7, 0, NEVER_US, 0]


def test_decisions_and_settlements_are_grouped_by_side() -> None:
    decision = PendingDecision([TARGET], Costs(), "id")
    settlement = (Reservation("id", [CALLS], Costs(), [NO_SLOT], (), 0), Costs())
    assert group_by_side([decision, settlement, decision]) == [[decision, decision], [settlement]]


def test_batches_are_bounded_and_complete() -> None:
    entries = list(range(2 * MAX_ENTRIES_PER_COMMAND + 1))
    parts = batches(entries)
    assert [len(part) for part in parts] == [MAX_ENTRIES_PER_COMMAND, MAX_ENTRIES_PER_COMMAND, 1]
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
        ([3_000_000, -1, 60_000_000], 1),  # 1 h is left of the day
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
