"""Counts the tokens of requests without messages: inputs of embeddings, prompts of completions, documents of rerank."""

from __future__ import annotations

import math
from typing import Any

from gateway.tokens.counter import SHARED_COUNTER, TokenCounter
from gateway.tokens.tokenizer import tokenizer_for
from providers.base import Body, Operation, Target
from providers.rules.rerank import document_texts

WITHOUT_OUTPUT: frozenset[Operation] = frozenset({"embeddings", "rerank"})
"""Operations without output tokens, streams or stop strings."""
DOCUMENTS_PER_UNIT = 100
"""Maximum number of documents in one of Cohere's search units (learn.microsoft.com, Cohere rerank models, as of 2026-11-28)."""


def count_inputs(
    body: Body, target: Target, field: str = "input", counter: TokenCounter = SHARED_COUNTER
) -> int:
    """Count the tokens of the inputs in `field`, in this thread."""
    value = body.get(field)
    if (ids := _id_count(value)) is not None:
        return ids
    tokenizer = tokenizer_for(target.kind.type, target.model)
    return math.ceil(sum(counter.count_texts(_texts(value), tokenizer)) * tokenizer.factor)


def count_ranked(body: Body, target: Target, counter: TokenCounter = SHARED_COUNTER) -> int:
    """Count the tokens that a reranker reads, in this thread: the query with each document."""
    documents = body.get("documents")
    tokenizer = tokenizer_for(target.kind.type, target.model)
    query, *counts = counter.count_texts([body.get("query"), *document_texts(body)], tokenizer)
    return math.ceil((query * len(documents) + sum(counts)) * tokenizer.factor)


def inputs_by_size(body: Body, size: int, bytes_per_token: int, field: str = "input") -> int:
    """Estimate the tokens of the inputs in `field` by the size of the body, but count token ids."""
    ids = _id_count(body.get(field))
    return ids if ids is not None else size // bytes_per_token


def ranked_by_size(body: Body, size: int, bytes_per_token: int) -> int:
    """Estimate the tokens that a reranker reads by the sizes of the body and the query."""
    return (size + len(body.raw("query") or b"") * len(body.get("documents"))) // bytes_per_token


def _id_count(value: Any) -> int | None:
    """Return the number of token ids if the inputs are ids, else None."""
    if type(value) is list and value and type(value[0]) is int:
        return len(value)
    return sum(map(len, value)) if type(value) is list and value and type(value[0]) is list else None


def input_count(body: Body, field: str = "input") -> int:
    """Return the number of inputs in `field` of a request."""
    value = body.get(field)
    return len(value) if type(value) is list and value and type(value[0]) is not int else 1


def answer_count(body: Body, operation: Operation) -> int:
    """Return the number of choices that a request asks for: `n`, or for completions, `n` for each prompt."""
    return choice_count(body) * (input_count(body, "prompt") if operation == "completions" else 1)


def generated_count(body: Body, operation: Operation) -> int:
    """Return the number of choices that are generated. With `best_of`, this can be more than the number returned."""
    best_of = body.get("best_of") if operation == "completions" and "best_of" in body else None
    count = answer_count(body, operation)
    return count if type(best_of) is not int else count // choice_count(body) * max(best_of, choice_count(body))


def choice_count(body: Body) -> int:
    """Return `n`, the number of choices for each prompt, or 1 if the request does not set `n`."""
    count = body.get("n") if "n" in body else 1
    return count if type(count) is int and count > 1 else 1


def _texts(value: Any) -> list[str]:
    return [value] if type(value) is str else value


def search_units(body: Body | None, operation: Operation) -> int:
    """Return the search units of a rerank call with short documents, one for each 100 documents or part of them, or 0 for other calls."""
    return math.ceil(len(body.get("documents")) / DOCUMENTS_PER_UNIT) if operation == "rerank" and body is not None else 0
