"""Loading of encodings and files, and the count without them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tokens.encodings import count_bytes, load_file, load_tokenizer
from gateway.tokens.tokenizer import Tokenizer


@given(st.text(max_size=400))
def test_half_the_bytes_is_an_upper_bound_for_plain_words(text: str) -> None:
    ordinary = "".join(letter for letter in text if (letter.isascii() and letter.isalnum()) or letter == " ")
    words_only = " ".join(ordinary.split())
    assert count_bytes([f"{words_only} and the rest of it"])[0] * 2 >= len(words_only)


def test_half_a_surrogate_pair_counts_as_a_question_mark() -> None:
    count = load_tokenizer(Tokenizer("o200k_base"))
    assert count(["\ud800 a", "a"]) == count(["? a", "a"])


def test_an_unusable_file_is_an_import_error(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ImportError):
        load_file(str(path))
