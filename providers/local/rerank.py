"""Rerank at the embedded engine: a reranker scores the documents; with an embedding model, the score is the cosine of two vectors."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from providers.answers import read_embeddings
from providers.base import Answer
from providers.local import gguf
from providers.local.options import EMBEDDING_MODELS
from providers.rules.rule import Rule, Work

BY_VECTORS_MEMO = "local.rerank"
"""Key of `Options.memo`: whether documents are scored by their vectors."""
_encode = msgspec.json.Encoder().encode


class _Vector(msgspec.Struct):
    index: int
    embedding: list[float]


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    usage: msgspec.Raw = msgspec.Raw(b"{}")


_decode = msgspec.json.Decoder(_Vectors).decode


def pooling_of(settings: Mapping[str, Any]) -> int:
    """Return the pooling of vectors by the model of an engine with these settings (`gguf.MEAN` etc.), or 0 for a chat model.

    The model file is read once, and again if it changes.
    """
    path = settings.get("model")
    if path is None:
        return gguf.MEAN if settings.get("bundled") in EMBEDDING_MODELS else 0
    try:
        changed = Path(path).stat().st_mtime_ns
    except OSError:
        return 0
    return _pooling_of_file(path, changed)


@functools.lru_cache(maxsize=64)
def _pooling_of_file(path: str, changed: int) -> int:
    return gguf.pooling_of(Path(path))


class RankByModel(Rule, frozen=True):
    """Sends rerank requests to a reranker unchanged, and to an embedding model as embeddings requests."""

    param: str = "documents"
    runs: ClassVar[Literal["present", "always", "stream"]] = "always"

    def apply(self, work: Work) -> None:
        """For an embedding model, make the query and the documents the inputs. Raise Refusal for a chat model."""
        pooling = pooling_of(work.settings)
        if pooling == gguf.RANK:
            return
        if not pooling:
            why = "rerank requires an embedding model or a reranker, and this is a chat model"
            raise work.refuse("model", why, "unsupported_operation")
        body = work.body
        inputs = [body.pop("query"), *body.pop("documents")]
        if "top_n" in body:
            body.pop("top_n")
            work.report("top_n", "enforce_locally", why="the gateway limits the number of results")
        body.set("input", inputs)
        work.options.memo[BY_VECTORS_MEMO] = True
        work.report("documents", "enforce_locally", why="the score of a document is the cosine of its vector and the query's")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


class VectorsOfModel(Rule, frozen=True):
    """Refuses embeddings requests for a reranker, which has no vectors."""

    param: str = "input"

    def apply(self, work: Work) -> None:
        if pooling_of(work.settings) == gguf.RANK:
            raise work.refuse("model", "the model is a reranker, which has no vectors", "unsupported_operation")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


def read_vectors(body: bytes) -> Answer:
    """Return the rerank answer for an embeddings answer whose first vector is the query's.

    Raise ValueError for any other body.
    """
    found = _decode(body)
    ordered = sorted(found.data, key=lambda each: each.index)
    if not ordered or [each.index for each in ordered] != list(range(len(ordered))):
        raise ValueError("the vectors do not match the inputs")
    query, *documents = (each.embedding for each in ordered)
    results = [{"index": index, "relevance_score": cosine(query, vector)} for index, vector in enumerate(documents)]
    usage = read_embeddings(body).usage
    counts = {"usage": found.usage} if usage is not None else {}
    return Answer(_encode({"id": None, "results": results, **counts}), usage)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the cosine of two vectors of the same length, or 0 if one of them is zero. Raise ValueError if their lengths differ."""
    if len(one) != len(other):
        raise ValueError("the vectors differ in length")
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(map(operator.mul, one, other)) / lengths if lengths else 0.0
