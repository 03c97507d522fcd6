"""What the relay reads of a stream's chunks, and nothing more: everything else goes on as the bytes it is."""

from __future__ import annotations

import msgspec

UNREADABLE_ERRORS = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What reading an upstream's JSON raises where it is not what its provider documents: a number for an object, a word for a list."""
_ABSENT = msgspec.Raw(b"")


def is_present(value: msgspec.Raw) -> bool:
    """Whether a value is there: neither absent nor null (msgspec cannot type `Raw | None`)."""
    return len(value) != 0 and bytes(value) != b"null"


def is_text(data: bytes) -> bool:
    """Whether it is UTF-8: what is passed on unread is not looked at by the JSON decoder."""
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
    return True


class ReadChoice(msgspec.Struct, gc=False):
    """A choice: whose, and whether it is over."""

    index: int = 0
    finish_reason: str | None = None


class ReadChunk(msgspec.Struct, gc=False):
    """A chunk: its choices, and whether it tells a usage or is an error."""

    choices: list[ReadChoice] | None = None
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT
    object: str | None = None


class _Opening(msgspec.Struct):
    """A choice of the first events: has anything been said yet?"""

    delta: dict[str, msgspec.Raw] | None = None
    text: msgspec.Raw = _ABSENT


class OpeningChunk(msgspec.Struct):
    """What every chunk of a stream repeats, and what its choices say."""

    id: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[_Opening] | None = None


read_chunk = msgspec.json.Decoder(ReadChunk).decode
read_chunks = msgspec.json.Decoder(ReadChunk).decode_lines
read_opening = msgspec.json.Decoder(OpeningChunk).decode
