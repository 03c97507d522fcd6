"""Repairs JSON that some servers write although it is not valid: half characters and numbers that are not finite.

A server that escapes text piece by piece writes a character outside the Basic Multilingual Plane as a surrogate pair,
and the two halves may end up in two events: `"\\ud83d"`, then `"\\ude00"`. Python's `json` writes `NaN` and `Infinity`,
which parsers of other languages reject. An event or an answer that is valid JSON is not repaired.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateway.streams.sse import Event

UNLIKELY_LOGPROB = -9999.0
"""The log-probability that OpenAI (openai 2.8, `ChatCompletionTokenLogprob`) and vLLM use for a very unlikely token."""
REPLACEMENT = "\ufffd"
"""The character that replaces half a character."""
MAX_HELD_EVENTS = 16
"""Maximum number of events that wait for the second half of a character."""

_parse = json.JSONDecoder().decode
_encode = msgspec.json.Encoder().encode
_half = re.compile("[\ud800-\udfff]")
has_escaped_half = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
).search
"""Find an escape of half a character (a surrogate) whose other half is not next to it."""
_CONTEXT = ("type", "index", "output_index", "content_index", "summary_index", "item_id")
"""Members of an event that identify the text to which its piece belongs."""

_Key = tuple[Any, ...]
_Place = tuple[Any, Any]
"""A list or object, and the position or name of a text in it."""


class _Walk:
    """Replaces the invalid values of one JSON document. `piece` returns the rest of a text that may continue an earlier one."""

    def __init__(self, piece: Callable[[_Key, _Place, str], str] | None = None) -> None:
        self._piece = piece
        self.changed = False

    def visit(self, container: Any, key: _Key, is_logprob: bool = False) -> None:
        """Visit the values of an object or a list."""
        if type(container) is dict:
            for name, value in container.items():
                self._value(container, name, value, (*key, name), is_logprob or "logprob" in name.lower())
        else:
            for position, value in enumerate(container):
                index = value.get("index") if type(value) is dict else None
                self._value(container, position, value, (*key, index if type(index) is int else position), is_logprob)

    def _value(self, container: Any, name: Any, value: Any, key: _Key, is_logprob: bool) -> None:
        kind = type(value)
        if kind is dict or kind is list:
            self.visit(value, key, is_logprob)
        elif kind is str and value:
            text = value if self._piece is None or is_logprob else self._piece(key, (container, name), value)
            self._replace(container, name, value, text if text is not value else whole(value))
        elif kind is float and not math.isfinite(value):
            self._replace(container, name, value, UNLIKELY_LOGPROB if is_logprob else None)

    def _replace(self, container: Any, name: Any, old: Any, new: Any) -> None:
        if new is not old:
            container[name] = new
            self.changed = True


def whole(text: str) -> str:
    """Return a text in which half characters are replaced, or the text itself if it has none."""
    return text if _half.search(text) is None else _half.sub(REPLACEMENT, text)


def mended(data: bytes) -> bytes | None:
    """Return a JSON document with its half characters and non-finite numbers replaced, or None if it has neither or cannot be read."""
    try:
        value = _parse(data.decode())
        if type(value) not in (dict, list):
            return None
        walk = _Walk()
        walk.visit(value, ())
        return _encode(value) if walk.changed else None
    except (ValueError, RecursionError, OverflowError):
        return None


class _HeldEvent:
    """An event, and the number of its texts that end with the first half of a character."""

    __slots__ = ("changed", "data", "name", "value", "waits")

    def __init__(self, name: str, data: bytes, value: Any) -> None:
        self.name, self.data, self.value = name, data, value
        self.changed, self.waits = False, 0

    def event(self) -> Event:
        return self.name, _encode(self.value) if self.changed else self.data


class EventMender:
    """Repairs the events of one stream. An event whose text ends in half a character waits for the rest of the text."""

    def __init__(self) -> None:
        self._held: list[_HeldEvent] = []
        self._halves: dict[_Key, tuple[_HeldEvent, _Place]] = {}

    @property
    def waits(self) -> bool:
        """Whether events are held."""
        return bool(self._held)

    def feed(self, name: str, data: bytes) -> Sequence[Event]:
        """Return the events that are complete now, in order. Data that is not a JSON object is returned as it is."""
        try:
            value = _parse(data.decode())
        except (ValueError, RecursionError):
            value = None
        if type(value) is not dict:
            return [*self.flush(), (name, data)]
        event = _HeldEvent(name, data, value)
        context = tuple([value.get(member) for member in _CONTEXT])

        def piece(key: _Key, place: _Place, text: str) -> str:
            return self._join(event, (*context, *key), place, text)

        walk = _Walk(piece)
        try:
            walk.visit(value, ())
        except (RecursionError, TypeError):  # a member of the context cannot be hashed
            return [*self.flush(), (name, data)]
        event.changed = event.changed or walk.changed
        self._held.append(event)
        if len(self._held) > MAX_HELD_EVENTS or value.get("error") or name == "error":
            return self.flush()
        return self._release()

    def _join(self, event: _HeldEvent, key: _Key, place: _Place, text: str) -> str:
        """Add the second half at the beginning of a text to the event that waits for it. Return the rest of the text."""
        if (half := self._halves.pop(key, None)) is not None:
            holder, (container, name) = half
            start = container[name]
            if "\udc00" <= text[0] <= "\udfff":
                pair = (start[-1] + text[0]).encode("utf-16", "surrogatepass").decode("utf-16")
                start, text = start[:-1] + pair, text[1:]
            container[name] = whole(start)
            holder.changed = True
            holder.waits -= 1
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._halves[key] = event, place
            event.waits += 1
            return whole(text[:-1]) + text[-1]
        return whole(text)

    def _release(self) -> list[Event]:
        ready = 0
        while ready < len(self._held) and not self._held[ready].waits:
            ready += 1
        released, self._held = self._held[:ready], self._held[ready:]
        return [event.event() for event in released]

    def flush(self) -> list[Event]:
        """Return the events that are held. Half characters without a second half are replaced."""
        for event, (container, name) in self._halves.values():
            container[name] = whole(container[name])
            event.changed, event.waits = True, 0
        self._halves.clear()
        return self._release()
