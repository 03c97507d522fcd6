"""Finds in a chunk's JSON text the values that may vary from chunk to chunk without changing how the chunk is handled.

These are texts, the usage, and values that are passed on or replaced regardless of their content. `ChunkTemplates` uses
them.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_raw_decode = json.JSONDecoder().raw_decode
_member = re.compile(r'[{,]\s*"([^"\\]*)"\s*:\s*(?:"([^"\\\x00-\x1f]*)"|([-+.\w]+))?').match
"""A name with its value, if that is a plain string (2) or a number or word (3)."""
_item = re.compile(r"[\[,]\s*(?=[^\s\]])").match
_skip_space = re.compile(r"\s*").match

Path = tuple[str | int, ...]

TEXT, VALUE, USAGE = "text", "value", "usage"
"""The kinds of leaves: the inside of a string, a JSON value that has no effect, or the usage so far."""


class _Fields(NamedTuple):
    """The members of an object, or of the objects in a list. Members that must not vary are None.

    `others` is the kind of all members that are not listed; None if they must not vary.
    """

    members: dict[str, Any]
    others: str | None = None
    may_be_text: bool = False


_FUNCTION = _Fields({"arguments": TEXT, "input": TEXT})
_CALL = _Fields({"function": _FUNCTION, "custom": _FUNCTION, "arguments": TEXT})
_PARTS = _Fields({"text": TEXT, "thinking": _Fields({"text": TEXT}, may_be_text=True)}, may_be_text=True)
_DELTA = _Fields(
    {
        "content": _PARTS,
        "reasoning_content": TEXT,
        "reasoning": TEXT,
        "refusal": TEXT,
        "tool_calls": _CALL,
        "role": None,
        "function_call": None,
    },
    others=VALUE,
)
_CHOICE = _Fields(
    {"delta": _DELTA, "text": TEXT, "usage": USAGE, **dict.fromkeys(("index", "finish_reason", "message", "error"))},
    others=VALUE,
)
_CHUNK = _Fields({"choices": _CHOICE, "usage": USAGE, "error": None, "object": None}, others=VALUE)


class Leaf(NamedTuple):
    """A value of a chunk that may vary, with its place in the chunk and its span in the text.

    The span of a TEXT does not include its quotes.
    """

    path: Path
    kind: str
    start: int
    end: int
    value: Any


class _UnusualError(Exception):
    """The chunk is written in an unusual way, such as with an escape in the name of a member."""


def leaves_of(event: str, start: int) -> list[Leaf] | None:
    """Return the leaves of the chunk that begins at `start`, in order, or None if the chunk is written in an unusual way."""
    found: list[Leaf] = []
    try:
        _visit(event, start, _CHUNK, (), found)
    except (_UnusualError, StopIteration, IndexError, ValueError, RecursionError):
        return None
    return found if len({leaf.path for leaf in found}) == len(found) else None


def _visit(event: str, at: int, node: Any, path: Path, found: list[Leaf]) -> int:
    """Add the leaves of the value at `at`. Return the position at which the value ends."""
    first = event[at : at + 1]
    if type(node) is _Fields and first == "{":
        return _visit_members(event, at, node, path, found)
    if type(node) is _Fields and first == "[":
        number = 0
        while (item := _item(event, at)) is not None:
            at = _after_space(event, _visit(event, item.end(), node, (*path, number), found))
            number += 1
        return _closed(event, at, "]")
    value, end = _raw_decode(event, at)
    if first == '"' and (node is TEXT or (type(node) is _Fields and node.may_be_text)):
        found.append(Leaf(path, TEXT, at + 1, end - 1, value))
    elif node is VALUE or (node is USAGE and first == "{"):
        found.append(Leaf(path, node, at, end, value))
    return end


def _visit_members(event: str, at: int, node: _Fields, path: Path, found: list[Leaf]) -> int:
    members, others, _ = node
    while (member := _member(event, at)) is not None:
        name, text, word = member.groups()
        child, at = members.get(name, others), member.end()
        if text is not None:
            if child is VALUE:
                found.append(Leaf((*path, name), VALUE, member.start(2) - 1, at, text))
            elif child is TEXT or (type(child) is _Fields and child.may_be_text):
                found.append(Leaf((*path, name), TEXT, member.start(2), at - 1, text))
        elif word is None:
            at = _visit(event, at, child, (*path, name), found)
        elif child is VALUE:
            found.append(Leaf((*path, name), VALUE, member.start(3), at, None if word == "null" else word))
        if event[at] not in ",}":
            at = _after_space(event, at)
    return _closed(event, at, "}")


def _after_space(event: str, at: int) -> int:
    return _skip_space(event, at).end()  # type: ignore[union-attr]


def _closed(event: str, at: int, bracket: str) -> int:
    if event[at] in "{[":
        at = _after_space(event, at + 1)
    if event[at] != bracket:
        raise _UnusualError
    return at + 1
