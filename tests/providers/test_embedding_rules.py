"""Rules for embeddings: batches that respect every maximum, encodings, and the length of vectors."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import providers
from providers.base import Adjustment, Body, Options, Refusal, Target
from providers.embedding_table import EMBEDDINGS, EmbeddingRow
from providers.friendli import FRIENDLI
from providers.rules.embeddings import Inputs, batch_sizes, batches, input_count
from providers.rules.rule import Work
from tests.providers.adapting import target_for

ROW = EmbeddingRow(max_inputs=3, max_tokens=20, source="test", as_of="2026-11-28")
TEXTS = st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=30)
ARRAYS = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=20), min_size=1, max_size=30)


def split(value: Any, row: EmbeddingRow = ROW) -> list[Any]:
    """Return the inputs of each request."""
    body = Body(json.dumps({"input": value}).encode())
    work = Work(body, "Test", Options(operation="embeddings"), {})
    Inputs("input", row).apply(work)
    sizes = batch_sizes(work.adjustments)
    bodies = [body] if sizes is None else batches(body, sizes)
    return [each.get("input") for each in bodies]


@given(st.one_of(TEXTS, ARRAYS))
def test_batches_keep_every_input_in_order_and_respect_each_maximum(value: list[Any]) -> None:
    parts = split(value)
    assert [each for part in parts for each in part] == value
    for part in parts:
        tokens = sum(len(each) if isinstance(each, list) else len(each.encode("utf-8", "surrogatepass")) for each in part)
        assert 1 <= len(part) <= 3
        assert tokens <= 20 or len(part) == 1


@given(TEXTS)
def test_two_neighbouring_batches_never_fit_into_one_request(value: list[str]) -> None:
    parts = split(value)
    for first, second in pairwise(parts):
        bytes_with_next = sum(len(text.encode("utf-8", "surrogatepass")) for text in (*first, second[0]))
        assert len(first) == 3 or bytes_with_next > 20


def test_inputs_are_counted_in_an_adapted_body() -> None:
    for value, count in (("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2]], 2)):
        assert input_count(Body(json.dumps({"input": value}).encode())) == count
    assert input_count(Body(b'{"texts":["a","b","c"]}')) == 3


def test_no_adjustment_means_one_request() -> None:
    assert batch_sizes([]) is None
    assert batch_sizes([Adjustment("n", "fan_out", 3)]) is None


@pytest.mark.parametrize(
    ("kind", "model", "dimensions", "accepted"),
    [
        ("openai", "text-embedding-3-small", 512, True),
        ("openai", "text-embedding-ada-002", 512, False),
        ("cohere", "embed-v4.0", 512, True),
        ("cohere", "embed-v4.0", 500, False),
        ("cohere", "embed-english-v3.0", 512, False),
        ("mistral", "codestral-embed", 512, True),
        ("siati", "bge-m3", 1024, False),
    ],
)
def test_dimensions_that_a_model_lacks_are_refused_in_both_modes(kind: str, model: str, dimensions: int, accepted: bool) -> None:
    for strict in (False, True):
        target = target_for(kind, model)
        body = Body(json.dumps({"model": "m", "input": "x", "dimensions": dimensions}).encode())
        if accepted:
            target.kind.adapt(body, target, Options(strict=strict, operation="embeddings"))
            assert body.get("dimensions") == dimensions or body.get("output_dimension") == dimensions
            continue
        with pytest.raises(Refusal) as refused:
            target.kind.adapt(body, target, Options(strict=strict, operation="embeddings"))
        assert refused.value.param == "dimensions"


@pytest.mark.parametrize("kind", sorted(EMBEDDINGS))
def test_plain_request_loses_nothing_in_strict_mode(kind: str) -> None:
    target = target_for(kind)
    if kind == "friendli":
        target = target_for(kind)
        with pytest.raises(Refusal):
            providers.get(kind).adapt(Body(b'{"model":"m","input":"x"}'), target, Options(strict=True, operation="embeddings"))
        return
    for encoding in ("float", "base64"):
        body = Body(json.dumps({"model": "m", "input": ["x"], "encoding_format": encoding}).encode())
        providers.get(kind).adapt(body, target, Options(strict=True, operation="embeddings"))


@pytest.mark.parametrize("ids", [[7, 8], [[7, 8]]])
def test_token_ids_for_friendli_are_renamed_and_reported(ids: object) -> None:
    target = Target("friendli/m", "friendli", FRIENDLI, "m", "https://api.friendli.ai/dedicated/v1", "KEY")
    body = Body(json.dumps({"model": "m", "input": ids}).encode())
    options = Options(operation="embeddings")
    adjustments = FRIENDLI.adapt(body, target, options)
    assert [(each.param, each.action, each.to) for each in adjustments] == [("input", "rename", "tokens")]
    assert json.loads(FRIENDLI.encode(body, target, options).body) == {"model": "m", "tokens": [7, 8]}


def test_cohere_gets_the_fields_that_it_requires_and_they_are_reported() -> None:
    target = target_for("cohere", "embed-v4.0")
    body = Body(b'{"model":"m","input":"x","input_type":"search_query"}')
    options = Options(operation="embeddings")
    adjustments = target.kind.adapt(body, target, options)
    sent = json.loads(target.kind.encode(body, target, options).body)
    assert sent == {
        "model": "embed-v4.0", "texts": ["x"], "input_type": "search_query", "embedding_types": ["float"], "truncate": "NONE",
    }  # fmt: skip
    assert {(each.param, each.action) for each in adjustments} == {
        ("embedding_types", "set_default"), ("truncate", "set_default"), ("input", "rename"),
    }  # fmt: skip
