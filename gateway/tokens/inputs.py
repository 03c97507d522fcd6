"""Counts the tokens of the inputs of an embeddings request."""

from __future__ import annotations

import math
from typing import Any

from gateway.tokens.counter import MAX_INLINE_BYTES, MIN_BYTES_PER_TOKEN, SHARED_COUNTER, TokenCounter, tokenizer_for
from providers.base import Body, Target


def count_inputs(body: Body, size: int, target: Target, counter: TokenCounter = SHARED_COUNTER) -> int:
    """Count the tokens of the inputs. If counting texts would take long, return an upper bound from the size of the body."""
    value = body.get("input")
    if type(value) is list and value and type(value[0]) is int:
        return len(value)
    if type(value) is list and value and type(value[0]) is list:
        return sum(map(len, value))
    tokenizer = tokenizer_for(target.kind.type, target.model)
    if size > MAX_INLINE_BYTES or not counter.is_loaded(tokenizer):
        return size // MIN_BYTES_PER_TOKEN
    return math.ceil(sum(counter.count_texts(_texts(value), tokenizer)) * tokenizer.factor)


def input_count(body: Body) -> int:
    """Return the number of inputs of a request."""
    value = body.get("input")
    return len(value) if type(value) is list and value and type(value[0]) is not int else 1


def _texts(value: Any) -> list[str]:
    return [value] if type(value) is str else value
