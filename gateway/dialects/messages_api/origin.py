"""The blocks of a Messages request from which the messages of a chat completion come."""

from __future__ import annotations

from typing import Any

import msgspec


class Origin(msgspec.Struct):
    """The blocks from which a message of the chat completion comes, for the caller's names in errors."""

    param: str
    parts: list[int] = []
    """The block of each content part."""
    calls: list[int] = []
    """The block of each tool call."""
    thoughts: list[int] = []
    """The blocks of thinking."""
    mark: int | None = None
    """The block whose cache mark became the message's cache mark."""


def origins_of_texts(turns: int, *, has_system: bool = False) -> list[Origin]:
    """Return the origins of a conversation of texts, with the system prompt before it if it has one."""
    system = [Origin("system")] if has_system else []
    return [*system, *[Origin(f"messages[{index}]") for index in range(turns)]]


def numbers_of(content: Any) -> list[int]:
    """Return the numbers of the blocks of a content, each of which has become a part."""
    return list(range(len(content))) if type(content) is list else []
