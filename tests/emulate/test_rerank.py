"""Completed rankings: order, number, documents, and results that do not match the documents."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.emulate.rerank import complete_answer
from providers.base import Body


def complete(results: list[dict[str, Any]], documents: list[Any], **more: Any) -> dict[str, Any]:
    """Return the completed answer to a request with these documents."""
    asked = Body(json.dumps({"model": "m", "query": "q", "documents": documents, **more}).encode())
    answer: dict[str, Any] = json.loads(complete_answer(json.dumps({"id": None, "results": results}).encode(), asked, "call-1"))
    return answer


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.integers(1, 25), st.randoms())
def test_results_are_the_best_in_order_whatever_the_order_of_the_vendor(scores: list[float], most: int, random: Any) -> None:
    given_results = [{"index": at, "relevance_score": score} for at, score in enumerate(scores)]
    random.shuffle(given_results)
    answer = complete(given_results, [f"d{at}" for at in range(len(scores))], top_n=most, return_documents=True)
    shown = [result["relevance_score"] for result in answer["results"]]
    assert shown == sorted(scores, reverse=True)[:most]
    assert all(result["document"] == {"text": f"d{result['index']}"} for result in answer["results"])
    assert (answer["id"], answer["object"], answer["model"]) == ("call-1", "rerank", "m")


def test_objects_are_returned_as_they_were_sent() -> None:
    document = {"text": "a", "title": "b"}
    answer = complete([{"index": 0, "relevance_score": 1}], [document], return_documents=True)
    assert answer["results"] == [{"index": 0, "relevance_score": 1, "document": document}]


@pytest.mark.parametrize("indexes", [[0, 0], [0, 2], [0], []])
def test_results_that_do_not_match_the_documents_are_rejected(indexes: list[int]) -> None:
    with pytest.raises(ValueError, match="do not match"):
        complete([{"index": index, "relevance_score": 1} for index in indexes], ["a", "b"])
