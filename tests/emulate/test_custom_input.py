"""gateway.emulate.custom_input: the input of a custom tool, whole and in any pieces."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.emulate.custom_input import InputReader, read_input

LETTERS = ["a", '"', "\\", "\n", "\t", "é", "€", "\U0001f600", "{", "}", "/", "\x7f", "\u2028"]
TEXTS = st.text(alphabet=st.sampled_from(LETTERS), max_size=12)


def read(pieces: list[str]) -> str:
    """Return the result of a reader for the pieces."""
    reader = InputReader()
    return "".join(reader.feed(piece) for piece in pieces) + reader.finish()


@given(text=TEXTS, cuts=st.lists(st.integers(0, 80), max_size=6), ascii_only=st.booleans(), spaced=st.booleans())
def test_any_input_is_read_from_any_pieces(text: str, cuts: list[int], ascii_only: bool, spaced: bool) -> None:
    arguments = json.dumps({"input": text}, ensure_ascii=ascii_only, separators=(" , ", " : ") if spaced else (",", ":"))
    ends = sorted({min(cut, len(arguments)) for cut in cuts} | {0, len(arguments)})
    pieces = [arguments[start:end] for start, end in pairwise(ends)]
    assert read(pieces) == read_input(arguments) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("", ""),
        ("{}", "{}"),
        ('{"other": 1, "input": "x"}', "x"),
        ('{"input": 5}', '{"input": 5}'),
        ("plain text", "plain text"),
        ('{"input": "cut of', "cut of"),
        ('{"input": "cut \\u00', "cut \\u00"),
        ('{\n  "input": ', ""),
        ('{"inp', ""),
        ("{", ""),
        ('{"input": "raw\nline"}', "raw\nline"),
        ('{"input": "odd \\q"}', "odd \\q"),
    ],
)
def test_other_forms_are_taken_as_they_are(arguments: str, text: str) -> None:
    assert read(list(arguments)) == read_input(arguments) == text


def test_text_is_returned_before_the_input_is_complete() -> None:
    reader = InputReader()
    assert reader.feed('{"input": "one') == "one"
    assert reader.feed("\\") == ""
    assert reader.feed("n two") == "\n two"
    assert reader.feed('"}') == ""
    assert reader.finish() == ""
