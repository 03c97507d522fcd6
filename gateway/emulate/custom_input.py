"""Reads the input of a custom tool from the arguments of a function, `{"input": "..."}`, as a whole or piece by piece."""

from __future__ import annotations

import json
import re

from providers.rules.custom_tools import INPUT

_OPENING = re.compile(rf'\s*\{{\s*"{INPUT}"\s*:\s*"')
_WHOLE_OPENING = f'{{"{INPUT}":"'
_HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}")


def read_input(arguments: str) -> str:
    """Return the input. Of arguments that were cut off, return the input so far. Return arguments of another form unchanged."""
    reader = InputReader()
    return reader.feed(arguments) + reader.finish()


def _read_other_form(arguments: str) -> str:
    """Return the input in arguments that do not begin with it: another order, no input, or a cut before the input."""
    try:
        value = json.loads(arguments, strict=False)
    except (ValueError, RecursionError):
        return "" if _WHOLE_OPENING.startswith("".join(arguments.split())) else arguments
    text = value.get(INPUT) if type(value) is dict else None
    return text if type(text) is str else arguments


class InputReader:
    """Reads the input of one call. A piece is returned as soon as its last escape sequence is complete."""

    __slots__ = ("_is_open", "_is_over", "_raw")

    def __init__(self) -> None:
        self._raw = ""
        self._is_open = False
        self._is_over = False

    def feed(self, text: str) -> str:
        """Return the next piece of the input, possibly empty."""
        if self._is_over:
            return ""
        self._raw += text
        if not self._is_open:
            opening = _OPENING.match(self._raw)
            if opening is None:
                return ""
            self._is_open = True
            self._raw = self._raw[opening.end() :]
        end = self._complete()
        piece, self._raw = self._raw[:end], self._raw[end:]
        self._is_over = self._raw.startswith('"')
        return _unescaped(piece)

    def finish(self) -> str:
        """Return the rest at the end of the arguments: an incomplete escape sequence, or the input in arguments of another form."""
        rest, self._raw = self._raw, ""
        if self._is_over:
            return ""
        self._is_over = True
        return rest if self._is_open else _read_other_form(rest) if rest else ""

    def _complete(self) -> int:
        """Return the length of the text before the closing quote or an incomplete escape sequence."""
        raw, at = self._raw, 0
        while True:
            stop = min((found for found in (raw.find('"', at), raw.find("\\", at)) if found >= 0), default=len(raw))
            if stop == len(raw) or raw[stop] == '"':
                return stop
            size = 2
            if raw[stop + 1 : stop + 2] == "u":
                size = 12 if _HIGH_SURROGATE.match(raw, stop) and raw[stop + 6 : stop + 8] in ("", "\\", "\\u") else 6
            if stop + size > len(raw):
                return stop
            at = stop + size


def _unescaped(piece: str) -> str:
    try:
        text: str = json.loads(f'"{piece}"', strict=False)
    except ValueError:  # an escape sequence that JSON does not define
        return piece
    return text
