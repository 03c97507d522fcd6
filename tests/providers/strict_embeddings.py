"""Embeddings endpoints that reject the same requests as their vendors. Sources: the vendors' API references, as of 2026-11-28."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import msgspec

from tests.faults.upstream_server import Exchange


class StrictEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The requests that a vendor's endpoint accepts, and the shape of its answers."""

    path: str = "/embeddings"
    fields: str
    required: str = "model input"
    most: int = 10_000
    tokens: bool = False
    flat_tokens_field: str = ""
    formats: tuple[str, ...] = ("float", "base64")
    is_cohere: bool = False
    reports_usage: bool = True


ENDPOINTS: dict[str, StrictEndpoint] = {
    "openai": StrictEndpoint(fields="model input encoding_format dimensions user", most=2048, tokens=True),
    "azure": StrictEndpoint(fields="model input encoding_format dimensions user", most=2048, tokens=True),
    "mistral": StrictEndpoint(fields="model input encoding_format output_dimension output_dtype metadata", most=256),
    "cohere": StrictEndpoint(
        path="/embed",
        fields="model texts input_type embedding_types output_dimension truncate max_tokens priority",
        required="model texts input_type",
        most=96,
        is_cohere=True,
    ),
    "gemini": StrictEndpoint(fields="model input encoding_format dimensions", most=100, formats=("float",), reports_usage=False),
    "together": StrictEndpoint(fields="model input"),
    "fireworks": StrictEndpoint(fields="model input dimensions prompt_template return_logits normalize", most=2048),
    "siati": StrictEndpoint(fields="model input encoding_format", most=32),
    "friendli": StrictEndpoint(
        fields="model input tokens encoding_format", required="model", flat_tokens_field="tokens"
    ),
    "openrouter": StrictEndpoint(fields="model input encoding_format dimensions user provider input_type", tokens=True),
    "vllm": StrictEndpoint(fields="model input encoding_format dimensions user truncate_prompt_tokens", tokens=True),
    "ollama": StrictEndpoint(fields="model input encoding_format dimensions"),
    "llamacpp": StrictEndpoint(fields="model input encoding_format", tokens=True),
}


def vector_of(value: str | list[int], dimensions: int = 3) -> list[float]:
    """Return the vector of an input: exact 32-bit floats that identify it."""
    seed = sum(value.encode()) if isinstance(value, str) else sum(value) + 1_000_000
    return [seed / 8, *(at + 0.5 for at in range(1, dimensions))]


def packed(vector: list[float]) -> str:
    """Return OpenAI's base64 of a vector."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def complaint(endpoint: StrictEndpoint, body: dict[str, Any]) -> str | None:
    """Return the reason why the vendor would reject a body, or None."""
    if extra := set(body) - set(endpoint.fields.split()):
        return f"unknown fields {sorted(extra)}"
    if missing := set(endpoint.required.split()) - set(body):
        return f"missing fields {sorted(missing)}"
    if None in body.values():
        return "a field is null"
    if body.get("encoding_format", "float") not in endpoint.formats:
        return "encoding_format"
    inputs = inputs_of(endpoint, body)
    if not inputs or len(inputs) > endpoint.most:
        return f"{len(inputs)} inputs"
    if not endpoint.tokens and not endpoint.flat_tokens_field and not all(isinstance(each, str) for each in inputs):
        return "token ids"
    if endpoint.tokens and body.get("input") and sum(len(each) for each in inputs) > 300_000:
        return "too many tokens"
    if endpoint.is_cohere and body.get("embedding_types") != ["float"]:
        return "embedding_types"
    return None


def inputs_of(endpoint: StrictEndpoint, body: dict[str, Any]) -> list[Any]:
    """Return the list of inputs in a body."""
    if endpoint.flat_tokens_field and endpoint.flat_tokens_field in body:
        return [body[endpoint.flat_tokens_field]]
    value = body.get("texts") if endpoint.is_cohere else body.get("input")
    if isinstance(value, list):
        return [value] if value and isinstance(value[0], int) else value
    return [value]


def script(kind: str) -> Any:
    """Return the script of a vendor's endpoint. Usage, if it is reported, is one token for each character or token id."""
    endpoint = ENDPOINTS[kind]

    async def answer(exchange: Exchange) -> None:
        body = exchange.request.json
        if (why := complaint(endpoint, body)) is not None:
            await _send(exchange, 400, {"error": {"message": f"the vendor rejects {why}", "type": "invalid_request_error"}})
            return
        inputs = inputs_of(endpoint, body)
        dimensions = body.get("dimensions") or body.get("output_dimension") or 3
        vectors = [vector_of(each, dimensions) for each in inputs]
        tokens = sum(len(each) for each in inputs)
        if endpoint.is_cohere:
            meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}}
            await _send(exchange, 200, {"id": "e1", "embeddings": {"float": vectors}, "texts": inputs, "meta": meta})
            return
        encode = packed if body.get("encoding_format") == "base64" else list
        data = [{"object": "embedding", "index": at, "embedding": encode(each)} for at, each in enumerate(vectors)]
        usage = {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}} if endpoint.reports_usage else {}
        await _send(exchange, 200, {"object": "list", "data": data, "model": body["model"], **usage})

    return answer


async def _send(exchange: Exchange, status: int, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 {status} OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    await exchange.send(head.encode() + body)
