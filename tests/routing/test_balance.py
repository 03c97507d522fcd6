"""The choice of a split: by weight, the better of two, the cheapest, and the same option for the same session."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import balance


class Option(msgspec.Struct, frozen=True):
    """An option of a split."""

    name: str
    weight: float = 1.0


names = st.lists(st.text("abcdef/-", min_size=1, max_size=12), min_size=2, max_size=8, unique=True)
splits = names.flatmap(
    lambda some: st.lists(st.floats(0.01, 100), min_size=len(some), max_size=len(some)).map(
        lambda weights: [Option(*pair) for pair in zip(some, weights, strict=True)]
    )
)
keys = st.binary(max_size=100)


@given(splits, keys)
def test_the_order_in_the_configuration_does_not_change_the_option_of_a_session(options: list[Option], key: bytes) -> None:
    assert balance.by_session(options, key) == balance.by_session(options[::-1], key)


@given(splits, st.lists(keys, min_size=20, max_size=20))
def test_removing_an_option_moves_only_its_sessions(options: list[Option], sessions: list[bytes]) -> None:
    removed, rest = options[0], options[1:]
    for key in sessions:
        before = balance.by_session(options, key)
        assert before == removed or balance.by_session(rest, key) == before


@given(splits, st.floats(0.01, 100), st.lists(keys, min_size=20, max_size=20))
def test_a_new_option_takes_sessions_and_moves_none_between_the_others(options: list[Option], weight: float, sessions: list[bytes]) -> None:
    new = Option("new", weight)
    for key in sessions:
        after = balance.by_session([*options, new], key)
        assert after == new or after == balance.by_session(options, key)


@given(splits, st.floats(1, 10), st.lists(keys, min_size=20, max_size=20))
def test_more_weight_only_adds_sessions(options: list[Option], factor: float, sessions: list[bytes]) -> None:
    heavier = [Option(options[0].name, options[0].weight * factor), *options[1:]]
    for key in sessions:
        before, after = balance.by_session(options, key), balance.by_session(heavier, key)
        assert after.name in (before.name, options[0].name)


def test_sessions_are_spread_by_weight_and_a_removed_option_moves_its_share() -> None:
    options = [Option(f"p/{at}", 1.0 + at) for at in range(5)]
    sessions = [f"session-{number}".encode() for number in range(20_000)]
    found = {key: balance.by_session(options, key) for key in sessions}
    drawn = Counter(one.name for one in found.values())
    for one in options:  # weights 1 to 5 of 15; four standard deviations are less than 1.4 %
        assert drawn[one.name] / len(sessions) == pytest.approx(one.weight / 15, abs=0.015)
    moved = sum(balance.by_session([*options[:2], *options[3:]], key) != found[key] for key in sessions)
    assert moved == drawn["p/2"]


@given(splits, st.randoms(use_true_random=False), st.data())
def test_of_two_never_chooses_the_most_loaded_option(options: list[Option], chance: random.Random, data: st.DataObject) -> None:
    loads = {one.name: load for one, load in zip(options, data.draw(st.permutations(range(len(options)))), strict=True)}
    for _ in range(20):
        chosen = balance.of_two(options, chance.random, lambda option: loads[option.name])
        assert loads[chosen.name] < len(options) - 1


@given(splits, st.randoms(use_true_random=False))
def test_of_two_compares_two_different_options(options: list[Option], chance: random.Random) -> None:
    compared: list[str] = []

    def load(option: Option) -> float:
        compared.append(option.name)
        return 1.0

    chosen = balance.of_two(options, chance.random, load)
    assert len(compared) == len(set(compared)) == 2
    assert chosen.name in compared


def test_the_better_of_two_keeps_the_busiest_far_below_a_single_draw() -> None:
    """Of 1,000 calls on 100 targets the busiest gets about 12 with the better of two, about 20 with a single draw."""
    chance = random.Random(7)
    options = [Option(str(at)) for at in range(100)]
    loads: Counter[str] = Counter()
    for _ in range(1000):
        loads[balance.of_two(options, chance.random, lambda option: loads[option.name]).name] += 1
    single = Counter(balance.by_weight(options, chance.random).name for _ in range(1000))
    assert max(loads.values()) <= 14 < max(single.values())


def test_the_cheapest_option_wins_and_equals_share_by_weight() -> None:
    chance = random.Random(7)
    options = [Option("expensive", 100.0), Option("cheap", 3.0), Option("cheap too", 1.0)]
    prices = {"expensive": 5.0, "cheap": 2.0, "cheap too": 2.0}
    drawn = Counter(balance.cheapest(options, chance.random, lambda option: prices[option.name]).name for _ in range(1000))
    assert set(drawn) == {"cheap", "cheap too"}
    assert 650 <= drawn["cheap"] <= 850
