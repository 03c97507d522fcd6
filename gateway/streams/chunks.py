"""Typed reading of chat chunks: only the fields that the relay needs; everything else is passed on as bytes."""

from __future__ import annotations

from typing import Any

import msgspec

from providers.base import Body, Usage

UNREADABLE_ERRORS = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""Errors raised by reading JSON that differs from the upstream's documentation, such as a number in place of an object."""
PLAIN_KEYS = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier", "provider"}
)
"""The usual members of a chunk: one without choices and without other members only reports usage."""
_ABSENT = msgspec.Raw(b"")
_decode_text = msgspec.json.Decoder(str).decode
_SILENT = frozenset({b"null", b'""', b"[]", b"{}"})
_NO_ERROR = _SILENT | {b"false"}


def is_present(value: msgspec.Raw) -> bool:
    """Return whether a value is present and is not null (msgspec cannot type `Raw | None`)."""
    return len(value) != 0 and bytes(value) != b"null"


def is_error(value: msgspec.Raw) -> bool:
    """Return whether the `error` of a chunk is not empty."""
    return len(value) != 0 and bytes(value) not in _NO_ERROR


def count_framed(piece: bytes, prefix: bytes, suffix: bytes) -> int:
    """Return the number of events in a piece if each consists of `prefix`, a text and `suffix`, else 0.

    The texts must be valid in a JSON string and contain neither quotes nor backslashes.

    Code that runs for every call or event uses `find` instead of `in`: `in` first tries to convert the bytes that it searches for
    to an integer, and the error that this attempt raises costs 0.4 us.
    """
    if not piece.startswith(prefix) or not piece.endswith(suffix):
        return 0
    begin, end = len(prefix), len(piece) - len(suffix)
    text, events = piece[begin:end], 1
    if text.find(b'"') >= 0:
        # Joining and comparing is far cheaper than searching for a long text, for which every find() prepares a table.
        texts = [event[begin : 2 - len(suffix)] for event in piece[:-2].split(b"\n\n")]
        if (suffix + prefix).join(texts) != text:
            return 0
        text, events = b" ".join(texts), len(texts)
    if text.find(b"\\") >= 0 or end < begin:
        return 0
    try:
        _decode_text(b'"%b"' % text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0
    return events


def is_text(data: bytes) -> bool:
    """Return whether the bytes are UTF-8. The JSON decoder does not check the encoding of skipped values."""
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
    return True


class ReadChoice(msgspec.Struct, gc=False):
    """The index of a choice, and its finish reason once it has ended."""

    index: int = 0
    finish_reason: str | None = None


class ReadChunk(msgspec.Struct, gc=False):
    """The choices of a chunk, and its usage or error if it has one."""

    choices: list[ReadChoice] | None = None
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT
    object: str | None = None


class _Opening(msgspec.Struct):
    """The content of a choice in one of the first events: the delta of a chat, or the text of a completion."""

    delta: dict[str, msgspec.Raw] | None = None
    text: msgspec.Raw = _ABSENT


class OpeningChunk(msgspec.Struct):
    """The identity that every chunk of a stream repeats, and the choices of this chunk."""

    id: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[_Opening] | None = None


def with_reason(reasons: tuple[str | None, ...], choice: ReadChoice) -> tuple[str | None, ...]:
    """Return the finish reasons of all choices, in order, with that of one more choice."""
    known = [*reasons, *[None] * (choice.index + 1 - len(reasons))]
    known[choice.index] = choice.finish_reason
    return tuple(known)


def has_content(opening: OpeningChunk) -> bool:
    """Return whether a chunk has any content besides roles."""
    for choice in opening.choices or ():
        if is_present(choice.text) and bytes(choice.text) not in _SILENT:
            return True
        for name, value in (choice.delta or {}).items():
            if name != "role" and bytes(value) not in _SILENT:
                return True
    return False


read_chunk = msgspec.json.Decoder(ReadChunk).decode
read_chunks = msgspec.json.Decoder(ReadChunk).decode_lines
read_opening = msgspec.json.Decoder(OpeningChunk).decode


def usage_chunk(data: bytes, body: Body, raw: dict[str, Any], usage: Usage) -> bytes:
    """Return a chunk that contains a usage with its total, and no choices. `body` is the chunk in `data`, whose usage is `raw`."""
    if "total_tokens" in raw and body.raw("choices") == b"[]":
        return data
    body = body.copy()
    if "total_tokens" not in raw:
        body.set("usage", {**raw, "total_tokens": usage.prompt_tokens + usage.completion_tokens})
    if body.raw("choices") != b"[]":
        body.set("choices", [])
    return body.encode()
