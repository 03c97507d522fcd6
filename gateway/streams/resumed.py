"""The chunks of a continued stream, rewritten as those of the stream that broke.

The rewritten chunks have the first stream's identity, do not repeat the role, and omit white space that the caller already has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.streams.chunk_filter import ChunkFilter
from gateway.streams.transcript import EMPTY_VALUES, Transcript
from providers.base import StreamDecoder

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class ResumedStream(ChunkFilter):
    """A stream decoder that rewrites the chunks of `inner` (if any) as those of the stream in `transcript`."""

    def __init__(self, inner: StreamDecoder | None, transcript: Transcript) -> None:
        super().__init__(inner)
        self._identity = transcript.identity
        text = transcript.text
        # The request contained the text without its trailing white space, so the model may repeat that white space.
        self._repeatable = text[len(text.rstrip()) :]

    def _pass(self, data: bytes) -> Sequence[bytes]:
        if data == b"[DONE]":
            return (data,)
        chunk = _decode(data)
        choices = chunk.get("choices")
        if chunk.get("error") or chunk.get("object") == "error":
            return (data,)
        chunk |= {name: value for name, value in self._identity.items() if value is not None}
        if choices:
            chunk["choices"] = kept = [choice for choice in choices if self._strip_repeated(choice)]
            if not kept and not chunk.get("usage"):
                return ()
        return (_encode(chunk),)

    def _strip_repeated(self, choice: dict[str, Any]) -> bool:
        """Remove from a choice the text that the caller already has. Return whether anything is left."""
        delta = {name: value for name, value in (choice.get("delta") or {}).items() if name != "role"}
        content = delta.get("content")
        if isinstance(content, str) and content and self._repeatable:
            delta["content"] = self._skip(content)
        choice["delta"] = delta
        return choice.get("finish_reason") is not None or any(value not in EMPTY_VALUES for value in delta.values())

    def _skip(self, content: str) -> str:
        length = 0
        while length < min(len(content), len(self._repeatable)) and content[length] == self._repeatable[length]:
            length += 1
        self._repeatable = self._repeatable[length:] if length == len(content) else ""
        return content[length:]
