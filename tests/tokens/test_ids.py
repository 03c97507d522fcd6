"""Ids of texts: they are counted as the counter counts them, and are converted back to the text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tokens.counter import TokenCounter
from gateway.tokens.ids import UnknownIdError, decode, encode, texts_of
from gateway.tokens.tokenizer import Tokenizer

ENCODINGS = [Tokenizer("o200k_base", exact=True), Tokenizer("cl100k_base", exact=True)]


@pytest.mark.parametrize("tokenizer", ENCODINGS, ids=lambda each: each.name)
def test_text_survives_and_its_ids_are_those_that_are_counted(tokenizer: Tokenizer) -> None:
    @settings(max_examples=50)
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
    def survives(text: str) -> None:
        ids = encode(text, tokenizer)
        assert decode(ids, tokenizer) == text
        assert [len(ids)] == TokenCounter().count_texts([text], tokenizer)
        assert len(texts_of(ids, tokenizer)) == len(ids)

    survives()
    assert tokenizer.has_ids


@pytest.mark.parametrize("id", [200_018 + 10_000, 2**31 - 1, 2**40, -1])
def test_unknown_id_is_named_by_its_place(id: int) -> None:
    with pytest.raises(UnknownIdError) as unknown:
        decode([1, 2, id], ENCODINGS[0])
    assert unknown.value.index == 2


def test_lone_surrogate_is_a_question_mark_and_special_tokens_are_text() -> None:
    assert decode(encode("a\ud800<|endoftext|>", ENCODINGS[0]), ENCODINGS[0]) == "a?<|endoftext|>"
    assert not Tokenizer("o200k_base", 1.2).has_ids
