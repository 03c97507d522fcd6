"""Counts of short texts on the event loop: equal to those of the library, with a limited number of steps."""

from __future__ import annotations

import random

import pytest
import toktok
from hypothesis import given
from hypothesis import strategies as st

from gateway.tokens import quick_count
from gateway.tokens.pieces import PATTERNS, Classes, SlowTextError
from gateway.tokens.quick_count import QuickCount
from gateway.tokens.vocabulary import NO_RANK, Vocabulary
from gateway.tokens.vocabulary_build import SPECIAL_FROM, tokens_of, vocabulary_file
from tests.support.search import every, examples

ENCODINGS = sorted(PATTERNS)
HARD_PARTS = (
    *("\r", "\n", " ", "  ", "\t", "\x0b", "\x1c", "\x01", "\x02", "\x85", "\u00a0", "\u2028", "/", "//", "!", "_", "\\", "'"),
    *("s", "S", "ſ", "re", "Ll", "VE", "d", "K", "a", "B", "the", "The", "THE", " a", "İ", "ǅ", "ʰ", "ß", "é", "ﬁ", "中", "文"),
    *("\u0301", "ः", "\u0301x", "1", "²", "Ⅷ", "٣", "—", "�", "😀", "👍🏽"),
)
"""Parts that begin or end a piece in some combinations."""


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_count, "MAX_STEPS", 1 << 40)
    monkeypatch.setattr(quick_count, "MAX_MERGED_BYTES", 1 << 40)


def texts(draw: random.Random, count: int) -> list[str]:
    """Return random texts: hard parts, any characters, control characters and punctuation, and words of a few scripts."""
    anything = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]

    def character() -> str:
        first, last = draw.choice([(0x20, 0x250), (0x370, 0x600), (0x900, 0xA00), (0x4E00, 0x5000), (0xAC00, 0xAD00)])
        return chr(draw.randrange(first, last))

    makers = (
        lambda: draw.choice(HARD_PARTS),
        lambda: draw.choice(anything) if draw.random() < 0.4 else draw.choice(HARD_PARTS),
        lambda: chr(draw.randrange(0x80)),
        character,
    )
    return ["".join(makers[at % len(makers)]() for _ in range(draw.randrange(1, 20))) for at in range(count)]


@pytest.mark.search
@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize("name", ENCODINGS)
def test_counts_equal_those_of_the_library(name: str) -> None:
    asked = texts(random.Random(17), examples(40_000))
    expected = toktok.batch_count(asked, name, threads=1)
    assert [each for each in zip(asked, QuickCount(name)(asked), expected, strict=True) if each[1] != each[2]] == []


@pytest.mark.search
@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize("name", ENCODINGS)
def test_every_character_has_the_class_that_the_library_gives_it(name: str) -> None:
    """The count of `'s` after a character depends on whether that is a letter."""
    codes = [code for code in range(0x80, 0x110000) if not 0xD800 <= code < 0xE000]
    asked = [f"{chr(code)}'s" for code in every(codes, 29)]
    expected = toktok.batch_count(asked, name, threads=1)
    assert [each for each in zip(asked, QuickCount(name)(asked), expected, strict=True) if each[1] != each[2]] == []


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_file_has_the_tokens_of_the_library(name: str) -> None:
    tokens, vocabulary = tokens_of(name), Vocabulary(name)
    assert [vocabulary.rank_of(token) for token in tokens] == list(range(SPECIAL_FROM[name]))
    assert vocabulary.rank_of(b"no such token") == NO_RANK
    assert [vocabulary.pairs[pair] for pair in (0x2020, 0xFFFE)] == [vocabulary.rank_of(b"  "), NO_RANK]


def test_a_vocabulary_is_a_table_of_its_tokens() -> None:
    assert len(vocabulary_file([b"a", b"b", b"ab"])) == 4 * (2 + 4 + 4 + 256 * 256) + len(b"abab")


@given(st.text(max_size=200))
def test_a_count_does_not_depend_on_earlier_counts(text: str) -> None:
    used = QuickCount("o200k_base")
    used(["some words of an earlier text"])
    assert used([text, text]) == QuickCount("o200k_base")([text]) * 2


def test_half_a_surrogate_pair_counts_as_a_question_mark() -> None:
    count = QuickCount("o200k_base")
    assert count(["\ud800 a", "a\udc00b"]) == count(["? a", "a?b"])


@pytest.mark.parametrize(
    "text",
    [
        "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=100)) * 9,
        " ".join("".join(random.Random(at).choices("abcdefghijklmnopqrstuvwxyz", k=9)) for at in range(300)),
        " ".join("".join(random.Random(at).choices("abcdefghijkl", k=3)) for at in range(3_000)),
    ],
    ids=["a long word", "many long words", "many short words"],
)
def test_texts_that_need_many_steps_are_left_to_the_tokenizer_process(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = QuickCount("o200k_base")
    merged: list[bytes] = []
    monkeypatch.setattr(count, "_merged", merged.append)
    with pytest.raises(SlowTextError):
        count([text])
    assert merged == [], "not even a part of it is merged on the event loop"


def test_the_steps_of_a_count_are_limited_for_all_its_texts_together() -> None:
    words = [" ".join("".join(random.Random(at * 50 + word).choices("bcdfghjklm", k=7)) for word in range(30)) for at in range(8)]
    assert all(QuickCount("o200k_base")([text]) for text in words)
    with pytest.raises(SlowTextError):
        QuickCount("o200k_base")(words)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("separator", ["", " "], ids=["one word", "words"])
def test_a_text_of_many_new_characters_is_left_to_the_tokenizer_process_before_they_are_read(name: str, separator: str) -> None:
    count = QuickCount(name)
    with pytest.raises(SlowTextError):
        count([separator.join(chr(0x4E00 + at) for at in range(5_000))])
    assert len(count._classes) <= quick_count.MAX_STEPS


def test_characters_are_known_after_a_few_texts_with_them() -> None:
    count, text = QuickCount("o200k_base"), "".join(chr(0x4E00 + at) for at in range(5_000))
    for _ in range(5):
        with pytest.raises(SlowTextError):
            count([text])
    assert len(count._classes) == 5_000


def test_a_list_of_many_new_texts_is_left_to_the_tokenizer_process() -> None:
    texts = [first + second for first in "abcdefghijklmnopqrstuvwxyz" for second in "abcdefghijklmnopqrstuvwxyz"]
    with pytest.raises(SlowTextError):
        QuickCount("o200k_base")(texts)


def test_a_new_piece_beside_many_known_ones_does_not_empty_the_memory_of_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_count, "MAX_KNOWN_PIECES", 100)
    count = QuickCount("o200k_base")
    count(["\n".join(str(number) for number in range(80))])
    known = dict(count._known)
    count(["\n".join(str(number) for number in range(40, 81))])
    assert count._known.items() > known.items()


def test_the_memory_of_known_pieces_and_characters_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_count, "MAX_KNOWN_PIECES", 100)
    monkeypatch.setattr("gateway.tokens.pieces.MAX_KNOWN_CHARACTERS", 100)
    count, classes = QuickCount("o200k_base"), Classes()
    for at in range(50):
        count([f" word{at} {'=' * (at + 70)} and some more {at * 1000}"])
        classes.steps = 10
        "".join(chr(0x4E00 + at * 10 + more) for more in range(10)).translate(classes)
    assert len(count._known) <= 100
    assert all(len(piece) <= quick_count.MAX_KNOWN_CHARS for piece in count._known)
    assert len(classes) <= 100
