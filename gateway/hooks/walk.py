"""Finds and replaces the strings of a JSON document.

Every string is a text, whatever its field is called, so that a new field of an API cannot bypass a hook. Exceptions are
the fields in SKIPPED, whose values are words of the API, and media: data URLs and long base64. In the arguments of tool
calls, names of fields and long numbers are texts as well, and arguments that are written as JSON in a string are decoded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.hooks.api import Kind

SKIPPED = frozenset({"model", "object", "role", "type"})
MIN_NUMBER = 10**8
"""The smallest number in the arguments of a tool call that is a text: account numbers are longer than amounts."""
MAX_DEPTH = 200
_FREE = frozenset({"arguments", "input", "metadata", "parameters"})
"""Fields whose objects may have any structure."""
_KINDS: Mapping[str, Kind] = {
    "content": "text", "text": "text", "refusal": "text", "input": "text", "prompt": "text", "query": "text", "documents": "text",
    "texts": "text", "instructions": "text", "output": "text", "system": "text", "suffix": "text", "output_text": "text",
    "reasoning": "reasoning", "reasoning_content": "reasoning", "thinking": "reasoning", "summary": "reasoning", "tool_plan": "reasoning",
    "arguments": "arguments", "partial_json": "arguments",
}  # fmt: skip
_MEDIA = re.compile(r"data:[A-Za-z0-9.+/=;_-]{0,200};base64,[A-Za-z0-9+/_=-]*|[A-Za-z0-9+/_=-]{1024,}")
"""Matches a string that is media as a whole: a text that only begins like media is a text."""
_JSON = re.compile(r"\s*[{\[]")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode

Replace = Callable[[str], str]


class Leaf(NamedTuple):
    """One text of a document."""

    path: str
    text: str
    kind: Kind


def leaves(value: Any, path: str = "", kind: Kind = "other", *, is_free: bool = False, depth: int = 0) -> Iterator[Leaf]:
    """Return the texts of a value in order. Raise RecursionError for a document that is nested too deeply."""
    if depth > MAX_DEPTH:
        raise RecursionError("the document is nested too deeply")
    if type(value) is str:
        if kind == "arguments" and (inner := _inner(value)) is not None:
            yield from leaves(inner, path, kind, is_free=True, depth=depth + 1)
        elif value and _MEDIA.fullmatch(value) is None:
            yield Leaf(path, value, kind)
    elif type(value) is dict:
        for name, each in value.items():
            if name in SKIPPED and not is_free and type(each) is str:
                continue
            below = f"{path}.{_shown(name)}" if path else _shown(name)
            if is_free:
                yield Leaf(below, name, kind)
            of = kind if is_free else kind_of(name, each, kind)
            yield from leaves(each, below, of, is_free=is_free or _is_free(name, each), depth=depth + 1)
    elif type(value) is list:
        for index, each in enumerate(value):
            yield from leaves(each, f"{path}[{index}]", kind, is_free=is_free, depth=depth + 1)
    elif is_free and type(value) is int and abs(value) >= MIN_NUMBER:
        yield Leaf(path, str(value), kind)


def replaced(value: Any, replace: Replace, kind: Kind = "other", *, is_free: bool = False) -> Any:
    """Return a value whose texts are replaced. Values without a change are returned as they are."""
    if type(value) is str:
        return _replaced_text(value, replace, kind)
    if type(value) is dict:
        changed = {}
        is_changed = False
        for name, each in value.items():
            new_name, new = name, each
            if not (name in SKIPPED and not is_free and type(each) is str):
                new_name = replace(name) if is_free else name
                new = replaced(each, replace, kind if is_free else kind_of(name, each, kind), is_free=is_free or _is_free(name, each))
            is_changed = is_changed or new is not each or new_name != name
            changed[new_name] = new
        return changed if is_changed else value
    if type(value) is list:
        items = [replaced(each, replace, kind, is_free=is_free) for each in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if is_free and type(value) is int and abs(value) >= MIN_NUMBER:
        text = str(value)
        return value if (new := replace(text)) == text else new
    return value


def has_token_ids(value: Any) -> bool:
    """Return whether a value is a list of token ids, or a list of such lists: text that no hook can read."""
    while type(value) is list and value:
        value = value[0]
        if type(value) is int:
            return True
    return False


def repeats_names(source: str | bytes) -> bool:
    """Return whether an object in valid JSON has two members of one name: hooks get only the last one, but a provider may use the first."""
    found = False

    def check(members: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({name for name, _ in members}) < len(members)

    json.loads(source, object_pairs_hook=check)
    return found


def without_logprobs(value: Any) -> Any:
    """Return a value without log probabilities, which would repeat its texts."""
    if type(value) is dict:
        return {name: _no_logprobs(each) if name == "logprobs" else without_logprobs(each) for name, each in value.items()}
    return [without_logprobs(each) for each in value] if type(value) is list else value


def _no_logprobs(value: Any) -> Any:
    return [] if type(value) is list else None


def _replaced_text(text: str, replace: Replace, kind: Kind) -> str:
    if kind == "arguments" and (inner := _inner(text)) is not None:
        new = replaced(inner, replace, kind, is_free=True)
        return text if new is inner and not repeats_names(text) else _encode(new).decode()
    if not text or _MEDIA.fullmatch(text) is not None:
        return text
    return text if (changed := replace(text)) == text else changed


def _inner(text: str) -> Any:
    """Return the object or list that a string contains as JSON, or None."""
    if _JSON.match(text) is None:
        return None
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def kind_of(name: str, value: Any, outer: Kind) -> Kind:
    """Return the kind of the texts in a field of an object whose own kind is `outer`."""
    if name == "input" and type(value) is dict:
        return "arguments"
    return _KINDS.get(name, outer)


def _is_free(name: str, value: Any) -> bool:
    return name in _FREE and type(value) is dict


def _shown(name: str) -> str:
    """Return a name for a path, or "?" for an unusual name, which may contain confidential text of the caller."""
    return name if _NAME.match(name) else "?"
