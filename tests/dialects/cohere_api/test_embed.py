"""Requests of Cohere's embed API become embeddings requests, and their answers become Cohere's; errors name the parameter."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.cohere_api.embed import FIELDS, NATIVE, EmbedTranslator, EmbedV1Translator, read_answer, unsuited
from gateway.dialects.cohere_api.embed_request import TYPES, translate_request
from gateway.dialects.cohere_api.errors import translate_error
from gateway.errors import BadRequest
from providers.base import Body, Refusal, Usage
from tests.providers.adapting import target_for
from tests.providers.strict_embeddings import packed
from tests.support.each import each

VECTORS = [[0.5, 1.5], [-2.0, 0.25]]


def source(**more: Any) -> bytes:
    """Return a request."""
    return json.dumps({"model": "m", "input_type": "search_query", "texts": ["a", "b"], **more}).encode()


def text(value: str) -> dict[str, Any]:
    """Return an input of one text."""
    return {"content": [{"type": "text", "text": value}]}


IMAGE = {"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}


@each(
    ("more", "expected"),
    [
        ({}, {}),
        ({"output_dimension": 256, "truncate": "NONE", "x": 1}, {"dimensions": 256, "truncate": "NONE", "x": 1}),
        ({"embedding_types": ["float"]}, {}),
        ({"embedding_types": []}, {}),
        ({"embedding_types": None, "images": None}, {}),
        ({"embedding_types": ["base64"]}, {"encoding_format": "base64"}),
        ({"embedding_types": ["base64", "float", "float"]}, {}),
        ({"texts": None, "inputs": [text("a"), text("b")]}, {}),
    ],
)
def test_requests_are_translated(more: dict[str, Any], expected: dict[str, Any]) -> None:
    made = translate_request(source(**more))
    assert json.loads(made.body) == {"model": "m", "input_type": "search_query", "input": ["a", "b"], **expected}
    assert made.refusal is None


@each(
    ("more", "param"),
    [
        ({"texts": None, "images": ["data:image/png;base64,AAAA"]}, "images"),
        ({"texts": None, "inputs": [text("a"), IMAGE]}, "inputs[1].content"),
        ({"texts": None, "inputs": [{"content": [*text("a")["content"], *text("b")["content"]]}]}, "inputs[0].content"),
        *(({"embedding_types": ["float", kind]}, "embedding_types") for kind in TYPES if kind not in ("float", "base64")),
    ],
)
def test_parameter_that_only_cohere_supports_is_named(more: dict[str, Any], param: str) -> None:
    refusal = translate_request(source(**more)).refusal
    assert refusal is not None
    assert (refusal.param, "passthrough" in refusal.message, param in refusal.message) == (param, True, True)


@each(
    ("more", "param"),
    [
        ({"texts": None}, "texts"),
        ({"images": ["x"]}, "texts"),
        ({"input": "a"}, "input"),
        ({"texts": "a"}, "texts"),
        ({"texts": ["a", 1]}, "texts[1]"),
        ({"texts": None, "images": [{}]}, "images[0]"),
        ({"texts": None, "images": "x"}, "images"),
        ({"texts": None, "inputs": {}}, "inputs"),
        ({"texts": None, "inputs": ["a"]}, "inputs[0].content"),
        ({"texts": None, "inputs": [{"content": []}]}, "inputs[0].content"),
        ({"texts": None, "inputs": [{"content": "a"}]}, "inputs[0].content"),
        ({"texts": None, "inputs": [{"content": [1]}]}, "inputs[0].content"),
        ({"embedding_types": "float"}, "embedding_types"),
        ({"embedding_types": [1]}, "embedding_types"),
        ({"embedding_types": ["float16"]}, "embedding_types"),
    ],
)
def test_invalid_requests_are_refused_by_name(more: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        translate_request(source(**more))
    assert caught.value.param == param


@each(
    ("types", "kinds"),
    [(None, ("float",)), (["float"], ("float",)), (["base64"], ("base64",)), (["base64", "float"], ("base64", "float"))],
)
def test_answers_have_the_requested_types(types: list[str] | None, kinds: tuple[str, ...]) -> None:
    expected = {"float": VECTORS, "base64": [packed(vector) for vector in VECTORS]}
    given = expected["base64" if kinds == ("base64",) else "float"]
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(given)]
    answer = json.dumps({"data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}, "gateway": {"x": 1}}).encode()
    for translator in (EmbedTranslator(), EmbedV1Translator()):
        translator.request(source(embedding_types=types), strict=False)
        whole = json.loads(translator.answer(answer))
        is_plain = translator.version == "1" and types is None
        assert whole["embeddings"] == (VECTORS if is_plain else {kind: expected[kind] for kind in kinds})
        assert whole["response_type"] == ("embeddings_floats" if is_plain else "embeddings_by_type")
        assert whole["meta"] == {"api_version": {"version": translator.version}, "billed_units": {"input_tokens": 7}}
        assert (whole["texts"], whole["gateway"], type(whole["id"])) == (["a", "b"], {"x": 1}, str)


def test_the_default_of_truncate_is_cohere_s() -> None:
    for more, expected in (({}, "END"), ({"truncate": "START"}, "START")):
        translator = EmbedTranslator()
        body = Body(translator.request(source(**more), strict=False))
        made = translator.fit_to(body, target_for("cohere"), strict=True)
        assert body.get("truncate") == expected
        assert [each.param for each in made] == (["truncate"] if expected == "END" else [])


@each("kind", ["openai", "vllm", "openai-compatible", "mistral"])
def test_fields_of_cohere_alone_are_reported_at_other_providers(kind: str) -> None:
    own = {"truncate": "END", "max_tokens": 5, "priority": 3}
    for given, lossy in (({}, True), ({"input_type": None, "truncate": "NONE", "priority": 0}, False)):
        translator = EmbedTranslator()
        body = Body(translator.request(source(**({**own, **given} if lossy else given)), strict=False))
        twin = body.copy()
        made = translator.fit_to(body, target_for(kind), strict=False)
        assert body.encode() == b'{"model":"m","input":["a","b"]}'
        assert {each.param for each in made} == set(twin) - {"model", "input"}
        if lossy:
            with pytest.raises(Refusal, match="input_type"):
                translator.fit_to(twin, target_for(kind), strict=True)
        else:
            assert translator.fit_to(twin, target_for(kind), strict=True) == made


def test_errors_use_the_callers_names() -> None:
    translator = EmbedTranslator()
    translator.request(source(texts=None, inputs=[text("a")]), strict=False)
    assert [translator.param(name) for name in ("input", "input[3]", "dimensions", "encoding_format", "input_type")] == [
        "inputs", "inputs[3]", "output_dimension", "embedding_types", "input_type",
    ]  # fmt: skip
    body = json.dumps({"error": {"message": "'input[0]' is bad.", "param": "input[0]"}, "gateway": {}}).encode()
    assert json.loads(translate_error(body, "r1", translator.param)) == {"id": "r1", "message": "'inputs[0]' is bad.", "gateway": {}}


@each(
    ("meta", "usage"),
    [
        ({"billed_units": {"input_tokens": 5.0}}, Usage(5)),
        ({"billed_units": {"image_tokens": 4.0, "input_tokens": 0.0, "images": 1.0}}, Usage(4, image_prompt_tokens=4)),
        ({"tokens": {"input_tokens": 9}, "billed_units": {"input_tokens": 5}}, Usage(9)),
        ({"billed_units": {"images": 1.0}}, None),
        (None, None),
    ],
)
def test_a_native_answer_keeps_its_bytes_and_shows_the_usage(meta: Any, usage: Usage | None) -> None:
    whole = json.dumps({"id": "e", "embeddings": {"int8": [[1]]}, "meta": meta}).encode()
    answer = read_answer(whole)
    assert (answer.body, answer.usage) == (whole, usage)


def test_long_lists_are_translated_to_be_split() -> None:
    assert unsuited(Body(source(texts=["a"] * 96))) is None
    assert "96" in str(unsuited(Body(source(texts=["a"] * 97))))
    assert "96" in str(unsuited(Body(source(inputs=[text("a")] * 97))))
    assert NATIVE.foreign_field(FIELDS) is None
