"""Token counts of embeddings requests: exact for token ids and for OpenAI's models, else an upper bound."""

from __future__ import annotations

import json
from typing import Any

import toktok

from gateway.tokens.counter import TokenCounter, Tokenizer, load_tokenizer, tokenizer_for
from gateway.tokens.inputs import count_inputs, input_count
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
    assert count_inputs(body([1] * 30_000), 90_000, EMBEDDER) == 30_000
    assert count_inputs(body([[1, 2], [3]]), 30, EMBEDDER) == 3


def test_texts_for_openais_models_are_counted_exactly() -> None:
    counter = loaded(tokenizer_for("openai", "text-embedding-3-small"))
    texts = ["Hello, world!", "Größe", "日本語"]
    expected = sum(toktok.batch_count(texts, "cl100k_base"))
    assert count_inputs(body(texts), 100, EMBEDDER, counter=counter) == expected
    assert count_inputs(body("Hello, world!"), 100, EMBEDDER, counter=counter) == 4


def test_texts_of_other_models_are_bounded() -> None:
    target = target_for("cohere", "embed-v4.0")
    counter = loaded(tokenizer_for("cohere", "embed-v4.0"))
    assert count_inputs(body("Hello, world!"), 100, target, counter=counter) == 5
    assert count_inputs(body("Hello, world!"), 100, target, counter=TokenCounter()) == 50
    assert count_inputs(body("x" * 20_000), 20_010, target, counter=counter) == 10_005


def test_inputs_are_counted() -> None:
    assert [input_count(body(value)) for value in ("a", ["a", "b"], [1, 2, 3], [[1], [2]])] == [1, 2, 1, 2]
