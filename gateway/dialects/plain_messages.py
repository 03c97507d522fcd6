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


class PlainTurn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message that consists of a role and a text only. The text keeps its bytes."""

    role: Literal["user", "assistant", "system"]
    content: msgspec.Raw


_decode_turns = msgspec.json.Decoder(list[PlainTurn]).decode
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
    if {memoryview(message.content)[0] for message in messages} != {_QUOTE}:
        return None
    if not {message.role for message in messages} <= roles or not {message.type for message in messages} <= types:
        return None
    return [{"role": message.role, "content": message.content} for message in messages]


def read_turns(raw: msgspec.Raw) -> list[PlainTurn] | None:
    """Return the messages of a conversation, or None for a list with anything other than texts, an empty list or invalid JSON."""
    try:
        turns = _decode_turns(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    for turn in turns:
        if memoryview(turn.content)[0] != _QUOTE:
            return None
    return turns or None
