"""Typed reading of chat chunks: only the fields that the relay needs; everything else is passed on as bytes."""

from __future__ import annotations

import msgspec

UNREADABLE_ERRORS = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""Errors raised by reading JSON that differs from the upstream's documentation, such as a number in place of an object."""
_ABSENT = msgspec.Raw(b"")


def is_present(value: msgspec.Raw) -> bool:
    """Return whether a value is neither absent nor null (msgspec cannot type `Raw | None`)."""
    return len(value) != 0 and bytes(value) != b"null"


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


read_chunk = msgspec.json.Decoder(ReadChunk).decode
read_chunks = msgspec.json.Decoder(ReadChunk).decode_lines
read_opening = msgspec.json.Decoder(OpeningChunk).decode
