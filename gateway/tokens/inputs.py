"""Counts the tokens of requests without messages: inputs of embeddings, prompts of completions, documents of rerank."""

from __future__ import annotations

import math
from typing import Any

from gateway.tokens.counter import MAX_INLINE_BYTES, MIN_BYTES_PER_TOKEN, SHARED_COUNTER, TokenCounter, tokenizer_for
from providers.base import Body, Operation, Target
from providers.rules.rerank import document_texts

WITHOUT_OUTPUT: frozenset[Operation] = frozenset({"embeddings", "rerank"})
"""Operations whose answers have no output tokens, no streams and no stop strings."""


def count_inputs(body: Body, size: int, target: Target, field: str = "input", counter: TokenCounter = SHARED_COUNTER) -> int:
    """Count the tokens of the inputs in `field`. If counting texts would take long, return an upper bound from the size of the body."""
    value = body.get(field)
    if type(value) is list and value and type(value[0]) is int:
        return len(value)
    if type(value) is list and value and type(value[0]) is list:
        return sum(map(len, value))
    tokenizer = tokenizer_for(target.kind.type, target.model)
    if size > MAX_INLINE_BYTES or not counter.is_loaded(tokenizer):
        return size // MIN_BYTES_PER_TOKEN
    return math.ceil(sum(counter.count_texts(_texts(value), tokenizer)) * tokenizer.factor)


def count_ranked(body: Body, size: int, target: Target, counter: TokenCounter = SHARED_COUNTER) -> int:
    """Count the tokens that a reranker reads: the query with each document.

    If counting would take long, return an upper bound from the sizes of the body and the query.
    """
    documents = body.get("documents")
    tokenizer = tokenizer_for(target.kind.type, target.model)
    if size > MAX_INLINE_BYTES or not counter.is_loaded(tokenizer):
        query = len(body.raw("query") or b"") // MIN_BYTES_PER_TOKEN
        return size // MIN_BYTES_PER_TOKEN + query * len(documents)
    query, *counts = counter.count_texts([body.get("query"), *document_texts(body)], tokenizer)
    return math.ceil((query * len(documents) + sum(counts)) * tokenizer.factor)


def input_count(body: Body, field: str = "input") -> int:
    """Return the number of inputs of a request in `field`."""
    value = body.get(field)
    return len(value) if type(value) is list and value and type(value[0]) is not int else 1


def answer_count(body: Body, operation: Operation) -> int:
    """Return the number of choices that a request asks for: `n`, for each prompt of a completion."""
    return choice_count(body) * (input_count(body, "prompt") if operation == "completions" else 1)


def generated_count(body: Body, operation: Operation) -> int:
    """Return the number of choices that are generated, which is more than are returned with `best_of`."""
    best_of = body.get("best_of") if operation == "completions" and "best_of" in body else None
    count = answer_count(body, operation)
    return count if type(best_of) is not int else count // choice_count(body) * max(best_of, choice_count(body))


def choice_count(body: Body) -> int:
    """Return the number of answers that a request asks for."""
    count = body.get("n") if "n" in body else 1
    return count if type(count) is int and count > 1 else 1


def _texts(value: Any) -> list[str]:
    return [value] if type(value) is str else value
