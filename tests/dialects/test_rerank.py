"""Checks of rerank requests, and the form of answers and errors of each path."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.rerank import CohereTranslator, FireworksTranslator, RerankTranslator, check_rerank
from gateway.errors import BadRequest
from providers.base import Body
from providers.rules.rerank import document_texts
from tests.dialects.test_embeddings import JSON
from tests.support.each import each

ANSWER = {
    "id": "r",
    "object": "rerank",
    "model": "m",
    "results": [{"index": 1, "relevance_score": 0.5, "document": {"text": "b"}}],
    "usage": {"prompt_tokens": 3, "total_tokens": 3, "search_units": 1},
    "gateway": {"target": "up/m"},
}


def check(**fields: Any) -> Body:
    """Check a request, and return it."""
    body = Body(json.dumps({"model": "m", "query": "q", "documents": ["a"], **fields}).encode())
    check_rerank(body)
    return body


INVALID: tuple[tuple[dict[str, Any], str], ...] = (
    ({"query": None}, "query"),
    ({"query": ""}, "query"),
    ({"query": ["q"]}, "query"),
    ({"documents": None}, "documents"),
    ({"documents": []}, "documents"),
    ({"documents": "a"}, "documents"),
    ({"documents": ["a", 1]}, "documents[1]"),
    ({"documents": [{}]}, "documents[0]"),
    ({"documents": [{"image": "data:x"}]}, "documents[0]"),
    ({"documents": ["a", {"title": "t"}], "rank_fields": ["body"]}, "documents[1]"),
    ({"documents": [{"text": None}], "rank_fields": ["text"]}, "documents[0]"),
    ({"top_n": 0}, "top_n"),
    ({"top_n": "1"}, "top_n"),
    ({"return_documents": 1}, "return_documents"),
    ({"rank_fields": "text"}, "rank_fields"),
    ({"rank_fields": [1]}, "rank_fields"),
    ({"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
    ({"stream": True}, "stream"),
    ({"api_key": "x"}, "api_key"),
)


@each("fields, param", INVALID)
def test_invalid_field_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check(**fields)
    assert refused.value.param == param


@settings(max_examples=40)
@given(JSON, st.none() | st.lists(st.text(max_size=2), max_size=2))
def test_every_accepted_document_has_a_text(value: Any, fields: list[str] | None) -> None:
    refused = None
    try:
        body = check(documents=value, rank_fields=fields)
    except BadRequest as error:
        refused = error
    if refused is not None:
        assert str(refused.param).startswith("documents")
        return
    texts = document_texts(body)
    assert len(texts) == len(value)
    assert all(type(text) is str for text in texts)


def test_answer_has_the_form_of_its_path() -> None:
    source = json.dumps(ANSWER).encode()
    meta = {"api_version": {"version": "1"}, "billed_units": {"search_units": 1}, "tokens": {"input_tokens": 3}}
    assert json.loads(RerankTranslator().answer(source)) == {**ANSWER, "meta": meta}
    cohere = json.loads(CohereTranslator().answer(source))
    assert cohere == {
        "id": "r",
        "results": ANSWER["results"],
        "meta": {**meta, "api_version": {"version": "2"}},
        "gateway": ANSWER["gateway"],
    }
    fireworks = json.loads(FireworksTranslator().answer(source))
    assert fireworks == {
        "object": "list",
        "model": "m",
        "data": [{"index": 1, "relevance_score": 0.5, "document": "b"}],
        "usage": ANSWER["usage"],
        "gateway": ANSWER["gateway"],
    }


def test_fireworks_returns_documents_by_default() -> None:
    for given_value, expected in ((None, True), (False, False), (True, True)):
        body = {"model": "m"} if given_value is None else {"model": "m", "return_documents": given_value}
        sent = FireworksTranslator().request(json.dumps(body).encode(), strict=False)
        assert json.loads(sent)["return_documents"] is expected


def test_cohere_error_has_a_message_and_the_request_id() -> None:
    translator = CohereTranslator()
    translator.headers([(b"x-request-id", b"id-1")])
    assert json.loads(translator.error(400, b'{"error":{"message":"no"}}')) == {"id": "id-1", "message": "no"}
