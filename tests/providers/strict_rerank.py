"""Rerank endpoints that reject the same requests as their vendors. Sources: providers/rerank_table.py."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from tests.faults.upstream_server import Exchange


class StrictReranker(msgspec.Struct, frozen=True, kw_only=True):
    """The requests that a vendor's endpoint accepts, and the shape of its answers."""

    fields: str = "model query documents top_n"
    shape: str = "results"
    most: int = 100_000


RERANKERS: dict[str, StrictReranker] = {
    "cohere": StrictReranker(
        fields="model query documents top_n max_tokens_per_doc relevant_spans priority", shape="cohere", most=10_000
    ),
    "vllm": StrictReranker(fields="model query documents top_n priority truncate_prompt_tokens user"),
    "llamacpp": StrictReranker(),
    "fireworks": StrictReranker(fields="model query documents top_n return_documents task", shape="data"),
    "together": StrictReranker(fields="model query documents top_n rank_fields return_documents"),
    "openrouter": StrictReranker(fields="model query documents top_n provider", shape="openrouter"),
    "openai-compatible": StrictReranker(),
}


def score_of(query: str, document: str) -> float:
    """Return the share of the query's letters that a document has."""
    return round(sum(letter in document for letter in query) / len(query), 3)


def complaint(endpoint: StrictReranker, body: dict[str, Any]) -> str | None:
    """Return the reason why the vendor would reject a body, or None."""
    if extra := set(body) - set(endpoint.fields.split()):
        return f"unknown fields {sorted(extra)}"
    if missing := {"model", "query", "documents"} - set(body):
        return f"missing fields {sorted(missing)}"
    if not all(isinstance(document, str) for document in body["documents"]):
        return "documents that are not texts"
    if not 1 <= len(body["documents"]) <= endpoint.most:
        return f"{len(body['documents'])} documents"
    if body.get("top_n", 1) < 1:
        return "top_n"
    return None


def answer_of(endpoint: StrictReranker, body: dict[str, Any]) -> dict[str, Any]:
    """Return a vendor's answer: the best documents first. Tokens are characters."""
    query, documents = body["query"], body["documents"]
    scored = [{"index": at, "relevance_score": score_of(query, text)} for at, text in enumerate(documents)]
    scored.sort(key=lambda each: -each["relevance_score"])
    scored = scored[: body.get("top_n")]
    tokens = len(query) * len(documents) + sum(map(len, documents))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    if endpoint.shape == "cohere":
        return {"id": "r1", "results": scored, "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}}
    if endpoint.shape == "data":
        shows = body.get("return_documents", True)
        data = [{**each, "document": documents[each["index"]]} if shows else each for each in scored]
        return {"object": "list", "model": body["model"], "data": data, "usage": usage}
    results = [{**each, "document": {"text": documents[each["index"]]}} for each in scored]
    if endpoint.shape == "openrouter":
        usage = {"search_units": 1, "total_tokens": tokens, "cost": 0.001}  # type: ignore[dict-item]
    return {"id": "r1", "model": body["model"], "results": results, "usage": usage}


def script(kind: str) -> Any:
    """Return the script of a vendor's endpoint."""
    endpoint = RERANKERS[kind]

    async def answer(exchange: Exchange) -> None:
        body = exchange.request.json
        if (why := complaint(endpoint, body)) is not None:
            await _send(exchange, 400, {"error": {"message": f"the vendor rejects {why}", "type": "invalid_request_error"}})
        else:
            await _send(exchange, 200, answer_of(endpoint, body))

    return answer


async def _send(exchange: Exchange, status: int, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 {status} OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    await exchange.send(head.encode() + body)
