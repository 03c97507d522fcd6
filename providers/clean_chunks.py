"""Recognizes chunks of text that already have OpenAI's shape. Most streams consist of them, and they are passed on unchanged.

A typed decode of such a chunk costs a quarter of a full one and needs no further checks of its values.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from providers.usage import MAX_TOKENS

_Name = Annotated[str, Meta(min_length=1)]
_Count = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
_Text = str | None | UnsetType


class CleanDelta(msgspec.Struct, forbid_unknown_fields=True):
    """A delta with text alone."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: _Text = UNSET
    reasoning_content: _Text = UNSET
    refusal: UnsetType | None = UNSET


class CleanChoice(msgspec.Struct, forbid_unknown_fields=True):
    """A choice without tool calls and log-probabilities."""

    index: Annotated[int, Meta(ge=0)]
    delta: CleanDelta
    finish_reason: Literal["stop", "length", "content_filter"] | None = None
    logprobs: None = None


class CleanUsage(msgspec.Struct, forbid_unknown_fields=True):
    """A usage with OpenAI's fields."""

    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: dict[str, int | None] | None = None
    completion_tokens_details: dict[str, int | None] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the total is the sum of the parts."""
        return self.total_tokens == self.prompt_tokens + self.completion_tokens


class CleanChunk(msgspec.Struct, forbid_unknown_fields=True):
    """A chunk of at most one choice."""

    id: _Name
    object: Literal["chat.completion.chunk"]
    created: Annotated[int, Meta(gt=0)]
    model: _Name
    choices: Annotated[list[CleanChoice], Meta(max_length=1)]
    usage: CleanUsage | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    obfuscation: str = ""
    provider: str = ""


_decode = msgspec.json.Decoder(CleanChunk).decode
_decode_lines = msgspec.json.Decoder(CleanChunk).decode_lines


def read_clean(data: bytes) -> CleanChunk | None:
    """Return a chunk, or None if it is not clean."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_clean_events(events: bytes) -> list[CleanChunk] | None:
    """Return the chunks of complete events with one `data: ` line each, or None if one of them is not clean."""
    if events[:6] != b"data: ":
        return None
    try:
        chunks = _decode_lines(events[6:].replace(b"\n\ndata: ", b"\n"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # The decoder also takes other white space between and inside the chunks.
    return chunks if events.count(b"\n") == 2 * len(chunks) else None


def frame_of(data: bytes, chunk: CleanChunk) -> tuple[bytes, bytes] | None:
    """Return the bytes around the content in a chunk's event, or None if the content is empty, has escapes or occurs twice."""
    content = chunk.choices[0].delta.content
    if not content or b"\\" in data:
        return None
    quoted = b'"%s"' % content.encode()
    at = data.find(quoted)
    if data.find(quoted, at + 1) >= 0:
        return None  # the same text occurs twice
    return b"data: " + data[: at + 1], data[at + len(quoted) - 1 :] + b"\n\n"
