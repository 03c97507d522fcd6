"""Goodfire's response format, for calls on Goodfire's paths, whichever provider answers. Source: goodfire 0.3.5.

Goodfire's client rejects an answer without `system_fingerprint`, a chunk without choices, and a chunk whose choices lack
`gf_token_index`, `role`, `content` or `finish_reason`. The client drops chunks with a token index that it has already received.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.dialects.parameters import check_parameters
from gateway.streams.chunk_filter import ChunkFilter
from providers.base import Body, Operation, StreamDecoder

GOODFIRE_PREFIX = "/api/inference/v1"
"""The prefix of all paths that Goodfire's client requests."""

_USAGE_KEYS = frozenset({"id", "object", "created", "model", "choices", "usage"})

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class GoodfireChat:
    """Chat completions on the paths of Goodfire's client."""

    operation: Operation = "chat"
    paths = (f"{GOODFIRE_PREFIX}/chat/completions",)
    has_messages = True
    can_continue = False  # another target could not continue the numbering of the chunks
    native = None

    def check(self, body: Body) -> None:
        """Check the parameters of a chat completion."""
        check_parameters(body)

    def translator(self) -> None:
        """Return None: requests are chat completions."""

    def response(self, answer: bytes) -> bytes:
        """Return the answer with the fields that Goodfire's client requires."""
        return to_goodfire(answer)

    def stream(self, inner: StreamDecoder | None) -> StreamDecoder | None:
        """Return a decoder that adds to each chunk the fields that Goodfire's client requires."""
        return GoodfireStream(inner)


def to_goodfire(answer: bytes) -> bytes:
    """Return a chat completion with the fields that Goodfire's client requires."""
    completion = _decode(answer)
    _complete(completion, "chat.completion")
    for index, choice in enumerate(completion.get("choices") or ()):
        choice.setdefault("index", index)
        choice.setdefault("finish_reason", None)
        _complete_message(choice, "message")
    return _encode(completion)


class GoodfireStream(ChunkFilter):
    """Adds to each chunk the fields that Goodfire's client requires, and numbers each choice's chunks.

    `inner`, if any, converts the provider's events to OpenAI chunks first.
    """

    def __init__(self, inner: StreamDecoder | None) -> None:
        super().__init__(inner)
        self._next: dict[int, int] = {}

    def _pass(self, data: bytes) -> Sequence[bytes]:
        if data == b"[DONE]":
            return (data,)
        chunk = _decode(data)
        choices = chunk.get("choices")
        if chunk.get("error") or chunk.get("object") == "error":
            return (data,)
        if not choices:
            # the relay decides whether the caller sees usage; other chunks without choices are dropped
            return (
                (_encode({key: value for key, value in chunk.items() if key in _USAGE_KEYS}),)
                if chunk.get("usage")
                else ()
            )
        _complete(chunk, "chat.completion.chunk")
        for choice in choices:
            if type(choice) is not dict:
                raise TypeError("a choice is not an object")
            index = choice.setdefault("index", 0)
            choice["gf_token_index"] = self._next.get(index, 0)
            self._next[index] = choice["gf_token_index"] + 1
            choice.setdefault("finish_reason", None)
            _complete_message(choice, "delta")
        return (_encode(chunk),)


def _complete(response: dict[str, Any], kind: str) -> None:
    response.setdefault("id", "")
    response.setdefault("object", kind)
    response.setdefault("model", "")
    response.setdefault("created", int(time.time()))
    if response.get("system_fingerprint") is None:
        response["system_fingerprint"] = ""


def _complete_message(choice: dict[str, Any], name: str) -> None:
    """Add the role and the content that Goodfire's client requires in every message and delta."""
    message = choice.get(name)
    if type(message) is not dict:
        message = choice[name] = {}
    for key, default in (("role", "assistant"), ("content", "")):
        if message.get(key) is None:
            message[key] = default
