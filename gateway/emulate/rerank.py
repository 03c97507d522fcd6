"""Completes rerank answers: order, number of results, and documents, which vendors treat differently."""

from __future__ import annotations

from typing import Any

import msgspec

from providers.base import Body

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def complete_answer(answer: bytes, asked: Body, id: str) -> bytes:
    """Return the best `top_n` results for the caller's request `asked`. `id` is used if the answer has no id.

    Raise ValueError for a result without a document, a document with two results, or too few results.
    """
    source, documents = _decode(answer), asked.get("documents")
    results = source["results"]
    indexes = {result["index"] for result in results}
    most = min(asked.get("top_n") or len(documents), len(documents))
    if len(indexes) != len(results) or len(results) < most or not all(index < len(documents) for index in indexes):
        raise ValueError("the results do not match the documents")
    best = sorted(results, key=_score, reverse=True)[:most]
    if asked.get("return_documents"):
        best = [{**result, "document": _shown(documents[result["index"]])} for result in best]
    whole = {"id": source.get("id") or id, "object": "rerank", "model": asked.get("model"), "results": best}
    if "usage" in source:
        whole["usage"] = source["usage"]
    return _encode(whole)


def _score(result: dict[str, Any]) -> float:
    score: float = result["relevance_score"]
    return score


def _shown(document: str | dict[str, Any]) -> dict[str, Any]:
    return {"text": document} if isinstance(document, str) else document
