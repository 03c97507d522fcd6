"""Limits on the structure of JSON: its nesting depth, and the number of its objects and lists."""

from __future__ import annotations

import sys
from itertools import accumulate

MAX_DEPTH = 1000
"""The limit of the parsers of Python 3.11. From 3.12 on, their limit is ten thousand."""
MAX_CONTAINERS = 50_000
"""Maximum number of objects and lists. Each of them blocks the event loop for up to ten microseconds, whatever its size."""
PARSERS_ALLOW_MORE = sys.version_info >= (3, 12)
CANCEL_ROUNDS = 8
FIRST_BYTES = 1 << 20

_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = [0] * 256
for _opening, _closing in (b"[]", b"{}"):
    _STEPS[_opening], _STEPS[_closing] = 1, -1


def is_deep(source: bytes, max_depth: int = MAX_DEPTH) -> bool:
    """Return whether valid JSON nests deeper than `max_depth`. For flat JSON, this takes little longer than `bytes.replace`."""
    if source.count(b"[") + source.count(b"{") <= max_depth:
        return False
    brackets = _outside_strings(source).translate(None, _OTHERS)
    left = brackets
    for _ in range(CANCEL_ROUNDS):
        left = left.replace(b"[]", b"").replace(b"{}", b"")
    if len(left) <= 2 * (max_depth - 2 * CANCEL_ROUNDS):  # each round removes at most two levels
        return False
    return any(depth > max_depth for depth in accumulate(map(_STEPS.__getitem__, brackets)))


def has_many_containers(source: bytes, most: int = MAX_CONTAINERS) -> bool:
    """Return whether valid JSON has more than `most` objects and lists. Brackets in strings do not count."""
    if len(source) < 2 * most or source.count(b"[") + source.count(b"{") <= most:
        return False
    # a body with too many brackets usually has too many in its first part
    for part in (source[:FIRST_BYTES], source) if len(source) > FIRST_BYTES else (source,):
        outside = _outside_strings(part)
        if outside.count(b"[") + outside.count(b"{") > most:
            return True
    return False


def _outside_strings(source: bytes) -> bytes:
    """Return the part of `source` that is outside strings. `source` must be valid JSON."""
    return b"".join(source.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])  # every other piece is a string
