"""Words, whose tokens can be counted separately: the sum is the count of the library for each text."""

from __future__ import annotations

import random

import pytest
import toktok
from hypothesis import given
from hypothesis import strategies as st

from gateway.tokens import quick_count
from gateway.tokens.pieces import PATTERNS
from gateway.tokens.quick_count import QuickCount
from gateway.tokens.words import MAX_SPACES, is_separate, words_of
from tests.support.search import examples

ENCODINGS = sorted(PATTERNS)
PARTS = (" ", "  ", "   ", " " * 6, "\n", "\r\n", "\t", "\u00a0", "\u2028", "\x1c", "a", "The", "'s", ".", "!/", "1234", "中", "\u0301")


@pytest.mark.search
@pytest.mark.parametrize("name", ENCODINGS)
def test_counts_of_spaces_equal_those_of_the_library(name: str) -> None:
    draw = random.Random(5)
    asked = ["".join(draw.choices(PARTS, k=draw.randrange(1, 12))) for _ in range(examples(40_000))]
    count = QuickCount(name)
    expected = toktok.batch_count(asked, name, threads=1)
    found = [count([text])[0] for text in asked]
    assert [each for each in zip(asked, found, expected, strict=True) if each[1] != each[2]] == []


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("spaces", [1, 2, 3, MAX_SPACES - 1, MAX_SPACES, MAX_SPACES + 1, 120])
@pytest.mark.parametrize("text", ["{}", "a{}b", "{}b", "a{}", "a\n{}b", "a\t{}b", "a{}\nb", "a{}7"])
def test_every_run_of_spaces_has_the_count_of_the_library(name: str, spaces: int, text: str) -> None:
    asked = text.format(" " * spaces)
    assert QuickCount(name)([asked, asked]) == toktok.batch_count([asked, asked], name, threads=1)


def test_every_long_run_of_spaces_is_one_part() -> None:
    for spaces in range(2, MAX_SPACES + 1):
        assert words_of(f"a{' ' * spaces}b") == ["a", "", "b"]
    assert words_of(f"a{' ' * (MAX_SPACES + 1)}b") is None


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda word: " " not in word and is_separate(word)), min_size=1))
def test_separate_words_remain_words_of_a_text(words: list[str]) -> None:
    assert words_of(" ".join(words)) == words


def test_a_text_with_more_new_words_than_the_maximum_is_counted_by_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one two three four five"
    expected = QuickCount("o200k_base")([text])
    monkeypatch.setattr(quick_count, "MAX_NEW_WORDS", 3)
    count = QuickCount("o200k_base")
    assert count([text]) == expected
    assert set(count._words) == {""}


def test_the_memory_of_known_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_count, "MAX_KNOWN_WORDS", 100)
    count = QuickCount("o200k_base")
    for at in range(150):
        text = f"first{at} word{at} {'=' * (at % 50 + 70)} and some more {at * 1000}"
        assert count([text, text]) == toktok.batch_count([text, text], "o200k_base", threads=1)
    assert len(count._words) <= 100
    assert len(count._first) <= 100
    assert all(len(word) <= quick_count.MAX_KNOWN_CHARS for word in (*count._words, *count._first))
