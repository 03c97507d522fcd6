"""How deep a JSON text nests, for parsers that would follow it further than whatever handles the value later."""

from __future__ import annotations

import sys
from itertools import accumulate

MAX_DEPTH = 1000
"""What Python 3.11's parsers stop at by themselves; from 3.12 on they go on to ten thousand."""
PARSERS_ALLOW_MORE = sys.version_info >= (3, 12)
CANCEL_ROUNDS = 8

_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = [0] * 256
for _opening, _closing in (b"[]", b"{}"):
    _STEPS[_opening], _STEPS[_closing] = 1, -1


def is_deep(source: bytes, max_depth: int = MAX_DEPTH) -> bool:
    """Whether a valid JSON text nests deeper than `most`. Few brackets cost a count of them; flat ones cancel out at memory speed."""
    if source.count(b"[") + source.count(b"{") <= max_depth:
        return False
    outside = b"".join(source.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])  # every other piece is in a string
    brackets = outside.translate(None, _OTHERS)
    left = brackets
    for _ in range(CANCEL_ROUNDS):
        left = left.replace(b"[]", b"").replace(b"{}", b"")
    if len(left) <= 2 * (max_depth - 2 * CANCEL_ROUNDS):  # a round takes off two levels at most
        return False
    return any(depth > max_depth for depth in accumulate(map(_STEPS.__getitem__, brackets)))
