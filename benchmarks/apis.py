"""Calls of the other APIs, each with a chat completion that causes the same work upstream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.bodies import CHAT_EVENTS, chat, encode, prose, request_body
from benchmarks.processes import CHAT_PATH, Request


class ApiCall(NamedTuple):
    """One call, and whether its response is a stream."""

    request: Request
    stream: bool

    @property
    def chat(self) -> Request:
        """The chat completion for comparison."""
        return Request(request_body(self.stream), events=CHAT_EVENTS if self.stream else 0)


def _call(path: str, body: dict[str, Any], stream: bool, events: int = CHAT_EVENTS) -> ApiCall:
    return ApiCall(Request(encode(body), path, events if stream else 0), stream)


def _parts(stream: bool) -> tuple[dict[str, Any], str, list[dict[str, str]]]:
    """Return the parts of a chat completion: its fields without the messages, its system text, and its turns."""
    body = chat(stream)
    system, *turns = body.pop("messages")
    return body, system["content"], turns


def responses(stream: bool, *, native: bool = False) -> ApiCall:
    """Return the call of the Responses API. A native call passes unchanged."""
    body, system, turns = _parts(stream)
    body |= {"instructions": system, "input": turns, "max_output_tokens": body.pop("max_tokens")}
    if native:
        body |= {"model": "native-responses", "store": False}
    return _call("/v1/responses", body, stream, 55)


def messages(stream: bool, *, native: bool = False) -> ApiCall:
    """Return the call of the Messages API. A native call lacks the fields that Anthropic has removed from its API."""
    body, system, turns = _parts(stream)
    body |= {"system": system, "messages": turns}
    if native:
        body = {name: value for name, value in body.items() if name not in ("temperature", "top_p")} | {"model": "native-messages"}
    return _call("/v1/messages", body, stream, 53 if native else 52)


def cohere(stream: bool, *, native: bool = False) -> ApiCall:
    """Return the call of Cohere's chat API."""
    body = chat(stream, model="native-cohere" if native else "bench")
    body["p"] = body.pop("top_p")
    return _call("/v2/chat", body, stream, 53 if native else 52)


def anthropic_upstream(stream: bool) -> ApiCall:
    """Return a chat completion that is translated to Anthropic's API."""
    body = {name: value for name, value in chat(stream, model="native-messages").items() if name not in ("temperature", "top_p")}
    return _call(CHAT_PATH, body, stream)


def completions(stream: bool) -> ApiCall:
    """Return the text completion, which passes unchanged."""
    body, _, _ = _parts(stream)
    return _call("/v1/completions", {**body, "prompt": prose(1700)}, stream)


def rerank(path: str, model: str) -> ApiCall:
    """Return the ranking of two documents for a query."""
    text = prose(1700)
    body = {"model": model, "query": text[:200], "documents": [text[200:900], text[900:]]}
    return _call(path, body, stream=False)


def tokenize(model: str) -> ApiCall:
    """Return the request for the tokens of a text."""
    return _call("/v1/tokenize", {"model": model, "prompt": prose(1700)}, stream=False)


def _rows() -> Iterator[tuple[str, ApiCall]]:
    for form, stream in (("JSON", False), ("SSE", True)):
        yield f"Responses {form}, translated", responses(stream)
        yield f"Responses {form}, native", responses(stream, native=True)
        yield f"Messages {form}, translated", messages(stream)
        yield f"Messages {form}, native", messages(stream, native=True)
        yield f"Cohere's chat {form}, translated", cohere(stream)
        yield f"Cohere's chat {form}, native", cohere(stream, native=True)
        yield f"Chat {form} at Anthropic, translated", anthropic_upstream(stream)
        yield f"Completions {form}, unchanged", completions(stream)
        yield f"Azure's chat {form}", _call("/openai/deployments/bench/chat/completions?api-version=2024-10-21", chat(stream), stream)
        yield f"Passthrough {form}", _call("/v1/raw/chat/completions", chat(stream), stream)
    yield "Embeddings, unchanged", _call("/v1/embeddings", {"model": "bench", "input": prose(1700)}, stream=False)
    yield "Rerank, OpenAI-compatible server", rerank("/v1/rerank", "bench")
    yield "Rerank, Cohere", rerank("/v2/rerank", "native-cohere")
    yield "Tokens, from the upstream", tokenize("bench-tokens")
    yield "Tokens, estimated by the gateway", tokenize("bench")


CALLS = dict(_rows())
"""The calls by the names of their rows. All calls are measured with 32 connections."""
