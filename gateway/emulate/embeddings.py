"""Embeddings in the caller's encoding: answers are checked, converted between `float` and `base64`, and merged.

Base64 contains little-endian 32-bit floats, as in OpenAI's API.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.emulate.fan_out import sum_usage_objects
from providers.base import Body
from providers.vectors import encode_vector


class _Vector(msgspec.Struct):
    index: int | None = None
    embedding: msgspec.Raw = msgspec.Raw(b"")


class _Answer(msgspec.Struct):
    data: list[_Vector]


_decode_answer = msgspec.json.Decoder(_Answer).decode


def _ordered(data: list[_Vector], count: int) -> list[msgspec.Raw]:
    """Return the JSON of the vectors in the order of the inputs.

    Raise ValueError unless there is one vector for each of the `count` inputs.
    """
    if len(data) != count:
        raise ValueError(f"{len(data)} vectors for {count} inputs")
    if any(each.index is not None for each in data):
        data = sorted(data, key=_index)
        if [each.index for each in data] != list(range(count)):
            raise ValueError("the vectors do not match the inputs")
    return [each.embedding for each in data]


def _index(vector: _Vector) -> int:
    if vector.index is None:
        raise ValueError("a vector has no index")
    return vector.index


def merge_answers(answers: Sequence[bytes], counts: Sequence[int], encoding: str) -> bytes:
    """Return one answer with the vectors of all answers in order, and with their total usage if each answer reports its usage.

    `counts` has the number of inputs of each answer. A single answer that needs no change keeps its bytes. Raise ValueError for an
    invalid answer.
    """
    if len(answers) == 1:
        return _single(answers[0], counts[0], encoding)
    pairs = zip(answers, counts, strict=True)
    vectors = [encode_vector(vector, encoding) for answer, count in pairs for vector in _ordered(_decode_answer(answer).data, count)]
    body = _with_vectors(answers[0], vectors)
    usages = [usage for answer in answers if type(usage := Body(answer).get("usage")) is dict]
    if len(usages) == len(answers):
        body.set("usage", sum_usage_objects(usages))
    else:
        body.pop("usage")
    return body.encode()


def _single(answer: bytes, count: int, encoding: str) -> bytes:
    given = _decode_answer(answer).data
    vectors = [encode_vector(vector, encoding) for vector in _ordered(given, count)]
    is_complete = all(each.index == at for at, each in enumerate(given))
    if is_complete and all(each.embedding is vector for each, vector in zip(given, vectors, strict=True)):
        return answer
    return _with_vectors(answer, vectors).encode()


def _with_vectors(answer: bytes, vectors: Sequence[msgspec.Raw]) -> Body:
    body = Body(answer)
    body.set("object", "list")
    body.set("data", [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)])
    return body
