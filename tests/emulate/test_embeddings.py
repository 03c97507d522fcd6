"""Vectors in the caller's encoding: exact conversion, order, and answers that are rejected."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.emulate.embeddings import merge_answers
from providers.vectors import encode_vector

FLOATS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20)


def answer(vectors: list[Any], order: list[int] | None = None, **more: Any) -> bytes:
    """Return an answer with these vectors."""
    data = [{"object": "embedding", "index": at, "embedding": vectors[at]} for at in order or range(len(vectors))]
    return json.dumps({"object": "list", "data": data, "model": "m", **more}).encode()


def usage(tokens: int) -> dict[str, int]:
    """Return a usage object."""
    return {"prompt_tokens": tokens, "total_tokens": tokens}


@given(FLOATS)
def test_32_bit_floats_survive_both_conversions_exactly(floats: list[float]) -> None:
    packed = base64.b64encode(struct.pack(f"<{len(floats)}f", *floats)).decode()
    as_text = encode_vector(msgspec.Raw(json.dumps(floats).encode()), "base64")
    assert json.loads(bytes(as_text)) == packed
    back = encode_vector(as_text, "float")
    assert json.loads(bytes(back)) == floats


@given(st.lists(FLOATS, min_size=1, max_size=12), st.data())
def test_merged_answers_have_all_vectors_in_the_order_of_the_inputs(vectors: list[list[float]], data: st.DataObject) -> None:
    counts, answers, start = [], [], 0
    while start < len(vectors):
        size = data.draw(st.integers(1, len(vectors) - start))
        part = vectors[start : start + size]
        answers.append(answer(part, data.draw(st.permutations(range(size))), usage=usage(size)))
        counts.append(size)
        start += size
    merged = json.loads(merge_answers(answers, counts, "float"))
    assert [each["embedding"] for each in merged["data"]] == vectors
    assert [each["index"] for each in merged["data"]] == list(range(len(vectors)))
    assert merged["usage"] == usage(len(vectors))


def test_usage_is_left_out_of_merged_answers_if_one_lacks_it() -> None:
    merged = json.loads(merge_answers([answer([[1.0]], usage=usage(1)), answer([[2.0]])], [1, 1], "float"))
    assert "usage" not in merged


def test_single_answer_in_the_right_encoding_keeps_its_bytes() -> None:
    for vectors, encoding in (([[1.0, 2.0]], "float"), (["AACAPw=="], "base64")):
        source = answer(vectors, extra=[1, {"a": None}])
        assert merge_answers([source], [1], encoding) is source


@pytest.mark.parametrize(
    "vector", ["[1,null]", '["a"]', "[1e300]", '"!!"', '"AAA="', "null", "7", "{}", "true", "[[1]]"]
)
def test_value_that_is_not_a_vector_is_rejected(vector: str) -> None:
    source = b'{"data":[{"index":0,"embedding":' + vector.encode() + b"}]}"
    with pytest.raises((ValueError, TypeError, ArithmeticError)):
        merge_answers([source], [1], "base64" if vector.startswith("[") else "float")


@pytest.mark.parametrize("order", [[0], [0, 1, 2], [0, 0], [1, 2]])
def test_wrong_number_or_indexes_of_vectors_are_rejected(order: list[int]) -> None:
    data = [{"index": at, "embedding": [1.0]} for at in order]
    with pytest.raises(ValueError, match="vector"):
        merge_answers([json.dumps({"data": data}).encode()], [2], "float")
