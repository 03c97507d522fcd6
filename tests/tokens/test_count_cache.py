"""The cached counts of one tokenizer."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tokens import count_cache
from gateway.tokens.count_cache import MIN_HASHED_CHARS, CountCache
from gateway.tokens.pieces import SlowTextError
from providers.value_hash import value_hash
from tests.support.each import each

LONG = "x" * MIN_HASHED_CHARS


class Lengths:
    """Counts the characters of texts, and records the texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: list[str]) -> list[int]:
        self.texts += texts
        return list(map(len, texts))


@given(st.lists(st.lists(st.one_of(st.text(max_size=40), st.binary(max_size=40)), max_size=5), max_size=5))
def test_counts_are_those_of_the_tokenizer(calls: list[list[str | bytes]]) -> None:
    cache, lengths = CountCache(), Lengths()
    for texts in calls:
        plain = [text if isinstance(text, str) else text.decode(errors="replace") for text in texts]
        assert cache.counts(texts, lengths) == list(map(len, plain))
        assert cache.counts(texts, lambda new: pytest.fail("not cached")) == list(map(len, plain))


@each("seed", ["0", "1", "random"])
def test_texts_with_the_same_beginning_or_length_differ_with_every_hash_of_python(seed: str) -> None:
    program = (
        "from gateway.tokens.count_cache import CountCache\nfrom providers.value_hash import value_hash\n"
        "texts = ['a' * 40 + str(number) for number in range(9000)] + [b'b' * 40 + b'%d' % number for number in range(9000)]\n"
        "numbers = list(range(len(texts)))\n"
        "cache = CountCache()\n"
        "assert cache.counts(texts, lambda new: numbers) == numbers == cache.counts(texts, None)\n"
        "print(value_hash.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("_digest" if seed == "0" else "_hash")


def test_values_of_all_kinds_have_a_key() -> None:
    assert len({value_hash(value) for value in ("\ud800", "é", b"\xff", "a" * 100, "a" * 101)}) == 5


@each("seed", ["0", "1"])
def test_texts_that_python_keeps_in_the_same_bytes_have_different_keys(seed: str) -> None:
    program = (
        "from providers.value_hash import value_hash\n"
        r"texts = ['A' * 80, '\u4141' * 40, b'\xc3\xa9' * 20, '\xc3\xa9' * 20, 'AA\x01\x00' * 20, '\u4141\u0001' * 20, '\U00014141' * 20]"
        "\n"
        "assert len({value_hash(text) for text in texts}) == len(texts)\n"
    )
    subprocess.run([sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, check=True)


def test_many_new_characters_are_slow_and_known_ones_are_not() -> None:
    cache, lengths = CountCache(), Lengths()
    with pytest.raises(SlowTextError):
        cache.counts([LONG, "y"], lengths, most=len(LONG))
    assert lengths.texts == []
    assert cache.counts([LONG], lengths, most=len(LONG)) == [len(LONG)]
    assert cache.counts([LONG, "y"], lengths, most=1) == [len(LONG), 1]


def test_a_failed_count_is_not_cached() -> None:
    def fail(texts: list[str]) -> list[int]:
        raise SlowTextError

    cache, lengths = CountCache(), Lengths()
    with pytest.raises(SlowTextError):
        cache.counts([LONG], fail)
    assert len(LONG) not in cache.lengths
    assert cache.counts([LONG], lengths) == [len(LONG)]
    assert len(LONG) in cache.lengths


def test_counts_and_lengths_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count_cache, "MAX_CACHED_COUNTS", 32)
    cache, lengths = CountCache(), Lengths()
    for size in range(200):
        cache.counts([LONG + "y" * size], lengths)
        assert len(cache._counts) <= 32
        assert len(cache._lengths) <= 32
        assert len(LONG) + size in cache.lengths
    cache.counts([LONG], lengths)
    assert lengths.texts.count(LONG) == 2, "the oldest are dropped"
