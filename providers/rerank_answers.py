"""Converts rerank answers of all vendors to one form: `results` with `index` and `relevance_score`, and `usage`."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from providers.base import Answer, Usage
from providers.usage import MAX_TOKENS, read_cost

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def read_rerank(body: bytes) -> Answer:
    """Parse a rerank answer: `results`, or `data` from Fireworks.

    Raise ValueError or AttributeError for any other body.
    """
    source = _decode(body)
    listed = source.get("results", source.get("data"))
    if type(listed) is not list:
        raise ValueError("the answer has no results")
    answer: dict[str, Any] = {"id": source.get("id"), "results": [_result(each) for each in listed]}
    usage, counts = _usage(source)
    if counts:
        answer["usage"] = counts
    return Answer(_encode(answer), usage)


def _result(source: Any) -> dict[str, Any]:
    """Return one result without its document, which the gateway takes from the request.

    Raise ValueError if the index or a finite score is missing.
    """
    index, score = source.get("index"), source.get("relevance_score")
    if type(index) is not int or index < 0 or type(score) not in (int, float) or not math.isfinite(score):
        raise ValueError("a result has no index or no score")
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
