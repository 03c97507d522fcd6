"""Goodfire's form of an answer, for calls on its own paths: what goodfire 0.3.5 reads, whoever answered.

Its client refuses an answer without `system_fingerprint`, a chunk whose choices lack `gf_token_index`, `role`, `content` or
`finish_reason`, and a chunk without choices; chunks whose token index it has seen it drops.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.streams.chunk_filter import ChunkFilter
from providers.base import StreamDecoder

PATH_PREFIX = "/api/inference/"
"""Where Goodfire's client looks for everything."""

_USAGE_KEYS = frozenset({"id", "object", "created", "model", "choices", "usage"})

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def to_goodfire(answer: bytes) -> bytes:
    """A chat completion with everything that Goodfire's client asks for."""
    whole = _decode(answer)
    _complete(whole, "chat.completion")
    for at, choice in enumerate(whole.get("choices") or ()):
        choice.setdefault("index", at)
        choice.setdefault("finish_reason", None)
        _complete_said(choice, "message")
    return _encode(whole)


class GoodfireStream(ChunkFilter):
    """A stream decoder that numbers each choice's chunks and completes them, after `inner` (if any) made OpenAI chunks of events."""

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
            # a usage is the relay's to show or to keep; anything else in a chunk without choices would end Goodfire's client
            return (_encode({key: value for key, value in chunk.items() if key in _USAGE_KEYS}),) if chunk.get("usage") else ()
        _complete(chunk, "chat.completion.chunk")
        for choice in choices:
            if type(choice) is not dict:
                raise TypeError("a choice is no object")
            index = choice.setdefault("index", 0)
            choice["gf_token_index"] = self._next.get(index, 0)
            self._next[index] = choice["gf_token_index"] + 1
            choice.setdefault("finish_reason", None)
            _complete_said(choice, "delta")
        return (_encode(chunk),)


def _complete(whole: dict[str, Any], kind: str) -> None:
    whole.setdefault("id", "")
    whole.setdefault("object", kind)
    whole.setdefault("model", "")
    whole.setdefault("created", int(time.time()))
    if whole.get("system_fingerprint") is None:
        whole["system_fingerprint"] = ""


def _complete_said(choice: dict[str, Any], name: str) -> None:
    """Role and content are text in every message and delta of Goodfire's."""
    said = choice.get(name)
    if type(said) is not dict:
        said = choice[name] = {}
    for key, default in (("role", "assistant"), ("content", "")):
        if said.get(key) is None:
            said[key] = default
