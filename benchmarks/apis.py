"""Calls of the APIs other than chat completions, each with a chat completion that takes the same work upstream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.measure import CHAT_EVENTS, request_body


class ApiCall(NamedTuple):
    """One call. `events` is the number of events if the response is a stream."""

    path: str
    body: bytes
    stream: bool
    events: int = CHAT_EVENTS

    @property
    def chat(self) -> bytes:
        """The chat completion for comparison."""
        return request_body(self.stream)


def _encode(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _chat(stream: bool) -> tuple[dict[str, Any], str, str]:
    """Return the chat completion without its messages, and the system and user texts."""
    chat = json.loads(request_body(stream))
    system, user = (message["content"] for message in chat.pop("messages"))
    return chat, system, user


def responses(stream: bool, *, native: bool = False) -> ApiCall:
    """Return the call of the Responses API. A native one passes unchanged."""
    chat, system, user = _chat(stream)
    chat |= {"instructions": system, "input": user, "max_output_tokens": chat.pop("max_tokens")}
    if native:
        chat |= {"model": "native-responses", "store": False}
    return ApiCall("/v1/responses", _encode(chat), stream, 55)


def messages(stream: bool, *, native: bool = False) -> ApiCall:
    """Return the call of the Messages API. The native one has no fields that Anthropic removed."""
    chat, system, user = _chat(stream)
    chat |= {"system": system, "messages": [{"role": "user", "content": user}]}
    if native:
        chat = {name: value for name, value in chat.items() if name not in ("temperature", "top_p")} | {"model": "native-messages"}
    return ApiCall("/v1/messages", _encode(chat), stream, 53 if native else 52)


def cohere(stream: bool) -> ApiCall:
    """Return the call of Cohere's chat API."""
    chat = json.loads(request_body(stream))
    chat["p"] = chat.pop("top_p")
    return ApiCall("/v2/chat", _encode(chat), stream, 52)


def completions(stream: bool) -> ApiCall:
    """Return the text completion, which passes unchanged."""
    chat, system, user = _chat(stream)
    return ApiCall("/v1/completions", _encode({**chat, "prompt": f"{system} {user}"}), stream)


def embeddings() -> ApiCall:
    """Return the embedding of the same text, which passes unchanged."""
    _, system, user = _chat(stream=False)
    body = {"model": "bench", "input": f"{system} {user}"}
    return ApiCall("/v1/embeddings", _encode(body), stream=False)


def rerank() -> ApiCall:
    """Return the ranking of the same text, as two documents for a query."""
    _, system, user = _chat(stream=False)
    half = len(user) // 2
    body = {"model": "bench", "query": system, "documents": [user[:half], user[half:]]}
    return ApiCall("/v1/rerank", _encode(body), stream=False)


def tokenize(model: str) -> ApiCall:
    """Return the request for the tokens of the same text."""
    _, system, user = _chat(stream=False)
    return ApiCall("/v1/tokenize", _encode({"model": model, "prompt": f"{system} {user}"}), stream=False)


def _rows() -> Iterator[tuple[str, ApiCall]]:
    for form, stream in (("JSON", False), ("SSE", True)):
        yield f"Responses {form}, translated", responses(stream)
        yield f"Responses {form}, native", responses(stream, native=True)
        yield f"Messages {form}, translated", messages(stream)
        yield f"Messages {form}, native", messages(stream, native=True)
        yield f"Cohere's chat {form}, translated", cohere(stream)
        yield f"Completions {form}, unchanged", completions(stream)
    yield "Embeddings, unchanged", embeddings()
    yield "Rerank, translated", rerank()
    yield "Tokens, from the upstream", tokenize("bench-tokens")
    yield "Tokens, estimated by the gateway", tokenize("bench")


CALLS = dict(_rows())
"""The calls by the names of their rows, all with 32 connections."""
