"""Recognizes the usual conversation, whose messages are texts, so that its messages need not be translated one by one."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, Literal

import msgspec

_QUOTE = ord('"')


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: str
    content: msgspec.Raw
    type: str = ""


class TextBlock(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A text in a list of contents. The text keeps its bytes."""

    type: Literal["text"]
    text: msgspec.Raw
    cache_control: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class PlainTurn(msgspec.Struct, forbid_unknown_fields=True):
    """A message that consists of a role and texts only."""

    role: Literal["user", "assistant", "system"]
    content: msgspec.Raw
    """A text, or a list of texts."""


_decode_turns = msgspec.json.Decoder(list[PlainTurn]).decode
_decode_blocks = msgspec.json.Decoder(list[TextBlock]).decode
_NULL = msgspec.Raw(b"null")
_encode = msgspec.json.Encoder().encode
_decode: Callable[[bytes | msgspec.Raw], list[_Message]] = msgspec.json.Decoder(list[_Message]).decode


def read_plain(raw: msgspec.Raw, roles: Set[str], types: Set[str]) -> list[dict[str, Any]] | None:
    """Return the messages of a conversation with role and content, which keeps its bytes.

    Return None for a list with anything other than texts of these roles and of these `types`; the type of a message without a
    type is "". Also return None for an empty list and for invalid JSON.
    """
    try:
        messages = _decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    for message in messages:
        if memoryview(message.content)[0] != _QUOTE or message.role not in roles or message.type not in types:
            return None
    return [{"role": message.role, "content": message.content} for message in messages] or None


def read_turns(raw: msgspec.Raw, *, unwraps: bool = False) -> list[PlainTurn] | None:
    """Return the messages of a conversation, or None for a list with anything other than texts, an empty list or invalid JSON.

    With `unwraps`, the content of an assistant's message with a single text is that text.
    """
    try:
        turns = _decode_turns(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    for turn in turns:
        if memoryview(turn.content)[0] != _QUOTE:
            content = read_texts(turn.content, unwraps=unwraps and turn.role == "assistant")
            if content is None:
                return None
            turn.content = content
    return turns or None


def read_texts(raw: msgspec.Raw, *, unwraps: bool = False) -> msgspec.Raw | None:
    """Return a list of texts without spaces between them, or None for anything else. With `unwraps`, return a single text itself."""
    try:
        blocks = _decode_blocks(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    for block in blocks:
        if memoryview(block.text)[0] != _QUOTE or block.cache_control == _NULL:
            return None
    if unwraps and len(blocks) == 1 and blocks[0].cache_control is msgspec.UNSET:
        return blocks[0].text
    return msgspec.Raw(_encode(blocks)) if blocks else None
