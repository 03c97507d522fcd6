"""Settled spend: grow-only counters of several incarnations, in any order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.store.settled_spend import SettledSpend, SpendEntry


@given(st.lists(st.tuples(st.sampled_from(["x", "y"]), st.integers(0, 1000)), max_size=40))
def test_total_is_the_sum_over_incarnations_of_the_largest_copy(copies: list[tuple[str, int]]) -> None:
    spent = SettledSpend("mine")
    spent.add("k:month", 5, 17)
    for incarnation, amount in copies * 2:
        spent.merge(SpendEntry(incarnation, "k:month", 5, amount))
    largest = {name: max(amount for other, amount in copies if other == name) for name in {name for name, _ in copies}}
    assert spent.total("k:month", 5) == 17 + sum(largest.values())
