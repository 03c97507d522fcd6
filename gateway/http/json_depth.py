"""How deep a JSON text nests, for parsers that would follow it further than whatever handles the value later."""

from __future__ import annotations

import sys
from itertools import accumulate

MAX_DEPTH = 1000
"""What Python 3.11's parsers stop at by themselves; from 3.12 on they go on to ten thousand."""
PARSERS_GO_DEEPER = sys.version_info >= (3, 12)
ROUNDS = 8

_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = [0] * 256
for _opening, _closing in (b"[]", b"{}"):
    _STEPS[_opening], _STEPS[_closing] = 1, -1


def is_deep(source: bytes, most: int = MAX_DEPTH) -> bool:
    """Whether a valid JSON text nests deeper than `most`. Few brackets cost a count of them; flat ones cancel out at memory speed."""
    if source.count(b"[") + source.count(b"{") <= most:
        return False
    outside = b"".join(source.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])  # every other piece is in a string
    brackets = outside.translate(None, _OTHERS)
    left = brackets
    for _ in range(ROUNDS):
        left = left.replace(b"[]", b"").replace(b"{}", b"")
    if len(left) <= 2 * (most - 2 * ROUNDS):  # a round takes off two levels at most
        return False
    return any(depth > most for depth in accumulate(map(_STEPS.__getitem__, brackets)))
