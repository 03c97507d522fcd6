"""Settled spend: grow-only counters of several incarnations, in any order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.store.periods import DAY_US
from gateway.store.settled_spend import SettledSpend, SpendEntry


@given(st.lists(st.tuples(st.sampled_from(["x", "y"]), st.integers(0, 1000)), max_size=40))
def test_total_is_the_sum_over_incarnations_of_the_largest_copy(copies: list[tuple[str, int]]) -> None:
    spent = SettledSpend("mine")
    spent.add("k:month", 5, 17)
    for incarnation, amount in copies * 2:
        spent.merge(SpendEntry(incarnation, "k:month", 5, amount))
    largest = {name: max(amount for other, amount in copies if other == name) for name in {name for name, _ in copies}}
    assert spent.total("k:month", 5) == 17 + sum(largest.values())


DAY, TOTAL = "lockgate:{caller}:key:a:spend:day", "lockgate:{caller}:key:a:spend:total"
NOW = 20_000 * DAY_US + 5


def spent_with(*amounts: tuple[str, int, int]) -> SettledSpend:
    """Return settled spend of `mine` from keys, periods and amounts, with 3 inherited from `old` in each period."""
    spent = SettledSpend("mine")
    for key, period, amount in amounts:
        spent.add(key, period, amount)
        spent.merge(SpendEntry("old", key, period, 3))
    return spent


def test_only_amounts_above_zero_are_settled() -> None:
    spent = SettledSpend("mine")
    for amount in (0, -5):
        spent.add(DAY, 20_000, amount)
    assert (spent.unpublished, spent.unjournaled, spent.latest, list(spent.all_entries())) == (set(), set(), {}, [])
    spent.add(DAY, 20_000, 1)
    spent.add(DAY, 20_000, 4)
    spent.add(DAY, 19_999, 2)
    assert spent.unpublished == spent.unjournaled == {(DAY, 20_000), (DAY, 19_999)}
    assert (spent.latest, spent.own_amount(DAY, 20_000), spent.own_amount(DAY, 1)) == ({DAY: 20_000}, 5, 0)
    assert (spent.total(DAY, 20_000), spent.total(DAY, 1)) == (5, 0)


def test_counters_of_each_incarnation_are_apart() -> None:
    spent = spent_with((DAY, 20_000, 7))
    own, old = SpendEntry("mine", DAY, 20_000, 7), SpendEntry("old", DAY, 20_000, 3)
    assert spent.entries_of((DAY, 20_000)) == [old, own]
    assert spent.own_entry((DAY, 20_000)) == own
    assert spent.own_entry((DAY, 1)) == SpendEntry("mine", DAY, 1, 0)
    assert list(spent.all_entries()) == [old, own]
    assert spent.total(DAY, 20_000) == 10


def test_past_periods_are_kept_for_clocks_and_time_zones_that_are_behind() -> None:
    spent = spent_with(*((DAY, 20_000 + age, 7) for age in (-4, -3, -2, -1, 0, 1)), (TOTAL, 0, 7))
    kept = {(DAY, 20_000 + age) for age in (-2, -1, 0, 1)} | {(TOTAL, 0)}
    assert {(entry.key, entry.period) for entry in spent.current_entries(NOW)} == kept
    assert len(spent.current_entries(NOW)) == 2 * len(kept)
    assert len(list(spent.all_entries())) == 2 * 7
    spent.drop_past(NOW)
    assert {(entry.key, entry.period) for entry in spent.all_entries()} == kept
    assert len(list(spent.all_entries())) == 2 * len(kept)
