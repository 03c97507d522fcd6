"""Converts rerank answers of all vendors to one form: `results` with `index` and `relevance_score`, and `usage`."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from providers.base import Answer, AnswerShapeError, Usage
from providers.usage import MAX_TOKENS, read_cost

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def read_rerank(body: bytes) -> Answer:
    """Parse a rerank answer: `results`, or `data` from Fireworks.

    Raise ValueError, such as AnswerShapeError, for any other body.
    """
    source = _decode(body)
    listed = source.get("results", source.get("data"))
    if type(listed) is not list:
        raise AnswerShapeError("it has neither a list 'results' nor a list 'data'")
    answer: dict[str, Any] = {"id": source.get("id"), "results": [_result(each, at) for at, each in enumerate(listed)]}
    usage, counts = _usage(source)
    if counts:
        answer["usage"] = counts
    return Answer(_encode(answer), usage)


def _result(source: Any, at: int) -> dict[str, Any]:
    """Return the result at a position of the list without its document, which the gateway takes from the request.

    Raise AnswerShapeError if the index or a finite score is missing.
    """
    if type(source) is not dict:
        raise AnswerShapeError(f"the result at position {at} is not an object")
    index, score = source.get("index"), source.get("relevance_score")
    if type(index) is not int or index < 0:
        raise AnswerShapeError(f"the 'index' of the result at position {at} is not an integer of at least 0")
    if not isinstance(score, int | float) or type(score) is bool or not math.isfinite(score):
        raise AnswerShapeError(f"the 'relevance_score' of the result at position {at} is not a finite number")
    return {name: value for name, value in source.items() if name != "document"}


def _usage(source: dict[str, Any]) -> tuple[Usage | None, dict[str, Any]]:
    """Return the billed usage, or None, and the usage that the answer shows. Vendors report tokens, search units, or both."""
    given, meta = _object(source.get("usage")), _object(source.get("meta"))
    billed, tokens = _object(meta.get("billed_units")), _object(meta.get("tokens"))
    found = (given.get("prompt_tokens"), given.get("total_tokens"), tokens.get("input_tokens"), billed.get("input_tokens"))
    prompt = next((count for value in found if (count := _count(value))), 0)
    units = next((count for value in (billed.get("search_units"), given.get("search_units")) if (count := _count(value))), 0)
    if not prompt and not units:
        return None, {}
    counts = {"prompt_tokens": prompt, "total_tokens": prompt} if prompt else {}
    if units:
        counts["search_units"] = units
    return Usage(prompt, search_units=units, reported_cost=read_cost(given)), counts


def _object(value: Any) -> dict[str, Any]:
    return value if type(value) is dict else {}


def _count(value: Any) -> int:
    """Return the value as an integer if it is a plausible count, else 0. Cohere reports floats."""
    return int(value) if type(value) in (int, float) and 0 <= value <= MAX_TOKENS and value == int(value) else 0
