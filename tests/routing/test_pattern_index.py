"""Tests of the index of patterns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.types import matching_wildcard
from gateway.routing.pattern_index import PatternIndex
from tests.support.calls import calls_of

NAMES = st.text("ab*", max_size=4)


@given(st.lists(NAMES), NAMES)
def test_the_longest_matching_pattern_is_found(names: list[str], name: str) -> None:
    assert PatternIndex(names).longest_match(name) == matching_wildcard(name, names)


def test_a_lookup_does_not_compare_the_name_with_every_model() -> None:
    few, many = (PatternIndex(["*", *(f"model-{number:05}" for number in range(size))]) for size in (10, 10_000))
    assert calls_of(lambda: many.longest_match("unknown")) == calls_of(lambda: few.longest_match("unknown"))
