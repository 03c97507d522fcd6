"""Rerank answers of each vendor: one form of results and usage, and answers that are rejected."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.base import Usage
from providers.rerank_answers import read_rerank

RESULT = {"index": 0, "relevance_score": 0.5}


def read(**answer: Any) -> tuple[dict[str, Any], Usage | None]:
    """Return the answer in one form, and its usage."""
    found = read_rerank(json.dumps(answer).encode())
    return json.loads(found.body), found.usage


def test_usage_is_read_wherever_a_vendor_reports_it() -> None:
    tokens = {"prompt_tokens": 7, "total_tokens": 7}
    assert read(results=[RESULT], usage=tokens)[1] == Usage(7)
    assert read(data=[RESULT], usage={"total_tokens": 7})[0]["usage"] == tokens
    units = read(results=[RESULT], meta={"billed_units": {"search_units": 2.0}})
    assert units == ({"id": None, "results": [RESULT], "usage": {"search_units": 2}}, Usage(search_units=2))
    both = read(results=[RESULT], usage={"search_units": 1, "total_tokens": 150, "cost": 0.001})[1]
    assert both == Usage(150, search_units=1, reported_cost=1_000_000)
    assert read(results=[RESULT], usage={"total_tokens": -3}, meta=[])[1] is None


def test_further_fields_of_a_result_are_kept_but_not_its_document() -> None:
    spans = [{"start": 0, "end": 4}]
    answer, _ = read(id="x", results=[{**RESULT, "relevant_spans": spans, "document": {"text": "a"}}])
    assert answer == {"id": "x", "results": [{**RESULT, "relevant_spans": spans}]}


@pytest.mark.parametrize(
    "answer",
    [
        b"[]",
        b"no json",
        b"{}",
        b'{"results":{}}',
        b'{"results":[1]}',
        b'{"results":[{"index":0}]}',
        b'{"results":[{"index":-1,"relevance_score":1}]}',
        b'{"results":[{"index":true,"relevance_score":1}]}',
        b'{"results":[{"index":0,"relevance_score":"1"}]}',
        b'{"results":[{"index":0,"relevance_score":null}]}',
    ],
)
def test_answer_that_is_not_a_ranking_is_rejected(answer: bytes) -> None:
    with pytest.raises((ValueError, AttributeError)):
        read_rerank(answer)
