"""Token counts of embeddings requests: exact for token ids and for OpenAI's models, else an upper bound."""

from __future__ import annotations

import json
from typing import Any

import toktok

from gateway.tokens.counter import TokenCounter
from gateway.tokens.encodings import load_tokenizer
from gateway.tokens.inputs import count_inputs, input_count, inputs_by_size
from gateway.tokens.tokenizer import Tokenizer, tokenizer_for
from providers.base import Body
from tests.providers.adapting import target_for

EMBEDDER = target_for("openai", "text-embedding-3-small")


def body(value: Any) -> Body:
    """Return a request for embeddings."""
    return Body(json.dumps({"model": "m", "input": value}).encode())


def loaded(tokenizer: Tokenizer) -> TokenCounter:
    """Return a counter that has loaded a tokenizer."""
    counter = TokenCounter(load_tokenizer)
    counter.count_texts([""], tokenizer)
    return counter


def test_token_ids_are_counted_exactly_whatever_their_number() -> None:
    assert count_inputs(body([1] * 30_000), EMBEDDER) == 30_000
    assert count_inputs(body([[1, 2], [3]]), EMBEDDER) == 3


def test_texts_for_openais_models_are_counted_exactly() -> None:
    counter = loaded(tokenizer_for("openai", "text-embedding-3-small"))
    texts = ["Hello, world!", "Größe", "日本語"]
    expected = sum(toktok.batch_count(texts, "cl100k_base"))
    assert count_inputs(body(texts), EMBEDDER, counter=counter) == expected
    assert count_inputs(body("Hello, world!"), EMBEDDER, counter=counter) == 4


def test_texts_of_other_models_are_bounded() -> None:
    target = target_for("cohere", "embed-v4.0")
    counter = loaded(tokenizer_for("cohere", "embed-v4.0"))
    assert count_inputs(body("Hello, world!"), target, counter=counter) == 5
    assert inputs_by_size(body("Hello, world!"), 100, 2) == 50
    assert inputs_by_size(body([1, 2]), 100, 2) == 2


def test_inputs_are_counted() -> None:
    assert [input_count(body(value)) for value in ("a", ["a", "b"], [1, 2, 3], [[1], [2]])] == [1, 2, 1, 2]
