"""Nesting depth of JSON, for parsers that accept deeper values than later stages can handle."""

from __future__ import annotations

import sys
from itertools import accumulate

MAX_DEPTH = 1000
"""The limit of the parsers of Python 3.11. From 3.12 on, their limit is ten thousand."""
PARSERS_ALLOW_MORE = sys.version_info >= (3, 12)
CANCEL_ROUNDS = 8

_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = [0] * 256
for _opening, _closing in (b"[]", b"{}"):
    _STEPS[_opening], _STEPS[_closing] = 1, -1


def is_deep(source: bytes, max_depth: int = MAX_DEPTH) -> bool:
    """Return whether valid JSON nests deeper than `max_depth`. Flat texts take little more time than `bytes.replace`."""
    if source.count(b"[") + source.count(b"{") <= max_depth:
        return False
    outside = b"".join(source.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])  # every other piece is a string
    brackets = outside.translate(None, _OTHERS)
    left = brackets
    for _ in range(CANCEL_ROUNDS):
        left = left.replace(b"[]", b"").replace(b"{}", b"")
    if len(left) <= 2 * (max_depth - 2 * CANCEL_ROUNDS):  # each round removes two levels at most
        return False
    return any(depth > max_depth for depth in accumulate(map(_STEPS.__getitem__, brackets)))
