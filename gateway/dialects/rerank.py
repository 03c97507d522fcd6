"""Rerank for callers: checks of requests, and answers in the format of each path.

    /v1/rerank             the answer of Jina, Together and vLLM, with the `meta` of Cohere's v1 (also below other prefixes)
    /v2/rerank             the answer and the errors of Cohere's v2
    /inference/v1/rerank   the answer of Fireworks, which contains the documents by default
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.dialects.described import described
from gateway.dialects.dialect import request_id_of
from gateway.dialects.field_checks import check_fields
from gateway.dialects.parameters import CHECKS, MAX_TOKENS, integer
from gateway.errors import BadRequest, Headers, refuse
from providers.base import Adjustment, Body, Target
from providers.rules.rerank import document_text, ranked_fields

MAX_RANK_FIELDS = 64
_TYPE = "invalid_type"
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def check_rerank(body: Body) -> None:
    """Check the known fields of a request without changing them. Raise BadRequest for the first error."""
    check_fields(body, FIELDS)
    for name in ("query", "documents"):
        if body.get(name) is None:
            raise refuse(name, f"'{name}' is required.", "missing_required_parameter")
    if body.get("stream"):
        raise refuse("stream", "Rankings cannot be streamed: omit 'stream'.", "unsupported_parameter")
    fields = body.get("rank_fields")
    for index, document in enumerate(body.get("documents")):
        if type(document) is dict:
            _check_object(f"documents[{index}]", document, fields)


def _check_object(path: str, document: dict[str, Any], fields: list[str] | None) -> None:
    """Refuse an object that has none of the ranked fields. If `rank_fields` is not set, also refuse an object with an image and no text."""
    if type(document.get("text")) is not str and not fields and "image" in document:
        raise refuse(path, f"'{path}' has an image: only text is ranked.", "unsupported_content")
    if not ranked_fields(document, fields):
        wanted = "'text'" if not fields else f"one of {', '.join(fields)}"
        raise refuse(path, f"'{path}' must have {wanted}.")


@described({"type": "string", "minLength": 1})
def _query(param: str, value: Any) -> None:
    if type(value) is not str:
        raise refuse(param, f"'{param}' must be a string.", _TYPE)
    if not value:
        raise refuse(param, f"'{param}' must not be empty.")


@described({"type": "array", "items": {"type": ["string", "object"]}, "minItems": 1})
def _documents(param: str, value: Any) -> None:
    if type(value) is not list:
        raise refuse(param, f"'{param}' must be a list of strings or objects.", _TYPE)
    if not value:
        raise refuse(param, f"'{param}' must not be empty.")
    for index, document in enumerate(value):
        if type(document) is not str and type(document) is not dict:
            raise refuse(f"{param}[{index}]", f"'{param}[{index}]' must be a string or an object.", _TYPE)


@described({"type": "boolean"})
def _boolean(param: str, value: Any) -> None:
    if type(value) is not bool:
        raise refuse(param, f"'{param}' must be a boolean.", _TYPE)


@described({"type": "array", "items": {"type": "string"}, "maxItems": MAX_RANK_FIELDS})
def _names(param: str, value: Any) -> None:
    if type(value) is not list or not all(type(name) is str for name in value):
        raise refuse(param, f"'{param}' must be a list of strings.", _TYPE)
    if len(value) > MAX_RANK_FIELDS:
        raise refuse(param, f"'{param}' must have at most {MAX_RANK_FIELDS} entries, not {len(value)}.")


_positive = integer(1, MAX_TOKENS)
FIELDS = {
    "query": _query,
    "documents": _documents,
    "top_n": _positive,
    "return_documents": _boolean,
    "rank_fields": _names,
    "max_tokens_per_doc": _positive,
    "max_chunks_per_doc": _positive,
    "stream": CHECKS["stream"],
    "user": CHECKS["user"],
    "timeout_microseconds": CHECKS["timeout_microseconds"],
}


class RerankTranslator:
    """Converts the answers of one call to the format of its path. The format of requests is the same for all paths."""

    refusal: BadRequest | None = None
    loss: BadRequest | None = None
    used_headers: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.adjustments: list[Adjustment] = []
        self._request_id = ""

    def request(self, source: bytes, *, strict: bool) -> bytes:
        """Return the request as it is."""
        return source

    def fit_to(self, body: Body, target: Target, *, strict: bool) -> list[Adjustment]:
        """Change nothing. The provider's rules fit the request to the target."""
        return []

    def param(self, name: str) -> str:
        """Return the name of a parameter as it is."""
        return name

    def headers(self, headers: Headers) -> Headers:
        """Return the headers as they are, and keep the request id for errors."""
        self._request_id = request_id_of(headers)
        return headers

    def answer(self, answer: bytes) -> bytes:
        """Return an answer with the usage in `meta`, as in Cohere's v1."""
        return _encode(with_meta(_decode(answer), "1"))

    def error(self, status: int, body: bytes) -> bytes:
        """Return OpenAI's error object as it is."""
        return body

    def feed(self, events: bytes) -> bytes:
        """Return the events as they are. Rankings are not streamed, so there are no events."""
        return events

    def end(self, events: bytes) -> bytes:
        """Return the events as they are."""
        return events


class CohereTranslator(RerankTranslator):
    """Converts answers and errors to the format of Cohere's v2."""

    def answer(self, answer: bytes) -> bytes:
        """Return Cohere's answer: only `id`, `results` and `meta`, and the receipt if the caller requests it."""
        whole = with_meta(_decode(answer), "2")
        return _encode({name: whole[name] for name in ("id", "results", "meta", "gateway") if name in whole})

    def error(self, status: int, body: bytes) -> bytes:
        """Return Cohere's error: an object with `message`."""
        whole = _decode(body)
        kept = {"gateway": whole["gateway"]} if "gateway" in whole else {}
        return _encode({"id": self._request_id, "message": whole["error"]["message"], **kept})


class FireworksTranslator(RerankTranslator):
    """Converts answers to the format of Fireworks: results are in `data`, and the documents of results are texts.

    Results contain their documents unless the request sets `return_documents: false`.
    """

    def request(self, source: bytes, *, strict: bool) -> bytes:
        """Return the request with Fireworks' default."""
        body = Body(source)
        if body.get("return_documents") is None:
            body.set("return_documents", True)
        return body.encode()

    def answer(self, answer: bytes) -> bytes:
        """Return Fireworks' answer."""
        whole = _decode(answer)
        data = [_with_text(result) for result in whole.pop("results")]
        kept = {name: whole[name] for name in ("model", "usage", "gateway") if name in whole}
        return _encode({"object": "list", "data": data, **kept})


def _with_text(result: dict[str, Any]) -> dict[str, Any]:
    document = result.get("document")
    return result if document is None else {**result, "document": document_text(document)}


def with_meta(answer: dict[str, Any], version: str) -> dict[str, Any]:
    """Return an answer with Cohere's `meta`: its API version and the usage."""
    usage = answer.get("usage") or {}
    meta: dict[str, Any] = {"api_version": {"version": version}}
    if "search_units" in usage:
        meta["billed_units"] = {"search_units": usage["search_units"]}
    if "prompt_tokens" in usage:
        meta["tokens"] = {"input_tokens": usage["prompt_tokens"]}
    return {**answer, "meta": meta}

