"""How a split chooses: in proportion, the better of two, the cheapest, and the same one for the same session."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import balance


class One(msgspec.Struct, frozen=True):
    """A choice of a split."""

    name: str
    weight: float = 1.0


names = st.lists(st.text("abcdef/-", min_size=1, max_size=12), min_size=2, max_size=8, unique=True)
splits = names.flatmap(
    lambda some: st.lists(st.floats(0.01, 100), min_size=len(some), max_size=len(some)).map(
        lambda weights: [One(*pair) for pair in zip(some, weights, strict=True)]
    )
)
keys = st.binary(max_size=100)


@given(splits, keys)
def test_a_session_stays_whatever_the_order_in_the_file(choices: list[One], key: bytes) -> None:
    assert balance.by_session(choices, key) == balance.by_session(choices[::-1], key)


@given(splits, st.lists(keys, min_size=20, max_size=20))
def test_only_the_sessions_of_a_target_that_leaves_move(choices: list[One], sessions: list[bytes]) -> None:
    gone, left = choices[0], choices[1:]
    for key in sessions:
        before = balance.by_session(choices, key)
        assert before == gone or balance.by_session(left, key) == before


@given(splits, st.floats(0.01, 100), st.lists(keys, min_size=20, max_size=20))
def test_a_target_that_comes_takes_sessions_and_moves_none_between_others(choices: list[One], weight: float, sessions: list[bytes]) -> None:
    new = One("a target that was not there", weight)
    for key in sessions:
        after = balance.by_session([*choices, new], key)
        assert after == new or after == balance.by_session(choices, key)


@given(splits, st.floats(1, 10), st.lists(keys, min_size=20, max_size=20))
def test_more_weight_only_wins_sessions(choices: list[One], factor: float, sessions: list[bytes]) -> None:
    heavier = [One(choices[0].name, choices[0].weight * factor), *choices[1:]]
    for key in sessions:
        before, after = balance.by_session(choices, key), balance.by_session(heavier, key)
        assert after.name in (before.name, choices[0].name)


def test_sessions_are_spread_by_weight_and_one_of_five_moves_a_fifth() -> None:
    choices = [One(f"p/{at}", 1.0 + at) for at in range(5)]
    sessions = [f"session-{number}".encode() for number in range(20_000)]
    found = {key: balance.by_session(choices, key) for key in sessions}
    drawn = Counter(one.name for one in found.values())
    for one in choices:  # weights 1 to 5 of 15; four standard deviations are less than 1.4 %
        assert drawn[one.name] / len(sessions) == pytest.approx(one.weight / 15, abs=0.015)
    moved = sum(balance.by_session([*choices[:2], *choices[3:]], key) != found[key] for key in sessions)
    assert moved == drawn["p/2"]


@given(splits, st.randoms(use_true_random=False), st.data())
def test_of_two_never_takes_the_one_with_the_most_load(choices: list[One], chance: random.Random, data: st.DataObject) -> None:
    loads = {one.name: load for one, load in zip(choices, data.draw(st.permutations(range(len(choices)))), strict=True)}
    for _ in range(20):
        chosen = balance.of_two(choices, chance.random, lambda one: loads[one.name])
        assert loads[chosen.name] < len(choices) - 1


@given(splits, st.randoms(use_true_random=False))
def test_of_two_compares_two_that_were_drawn_by_weight(choices: list[One], chance: random.Random) -> None:
    compared: list[str] = []

    def load(one: One) -> float:
        compared.append(one.name)
        return 1.0

    chosen = balance.of_two(choices, chance.random, load)
    assert len(compared) == len(set(compared)) == 2
    assert chosen.name in compared


def test_two_choices_keep_the_busiest_far_below_what_one_draw_makes_it() -> None:
    """1,000 calls on 100 targets: the busiest has about 12 of them with two choices, about 20 with one draw."""
    chance = random.Random(7)
    choices = [One(str(at)) for at in range(100)]
    loads: Counter[str] = Counter()
    for _ in range(1000):
        loads[balance.of_two(choices, chance.random, lambda one: loads[one.name]).name] += 1
    blind = Counter(balance.by_weight(choices, chance.random).name for _ in range(1000))
    assert max(loads.values()) <= 14 < max(blind.values())


def test_the_cheapest_wins_and_several_share_by_weight() -> None:
    chance = random.Random(7)
    choices = [One("dear", 100.0), One("cheap", 3.0), One("cheap too", 1.0)]
    prices = {"dear": 5.0, "cheap": 2.0, "cheap too": 2.0}
    drawn = Counter(balance.cheapest(choices, chance.random, lambda one: prices[one.name]).name for _ in range(1000))
    assert set(drawn) == {"cheap", "cheap too"}
    assert 650 <= drawn["cheap"] <= 850
