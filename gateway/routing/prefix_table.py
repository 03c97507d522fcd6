"""The probable contents of the prompt caches of targets: the beginnings of the prompts that were sent to them.

A prompt is a chain of blocks of BLOCK_BYTES. The hash of a block covers the block and everything before it, so two prompts with
the same hash have the same beginning. For each target, the table keeps the blocks that were sent to the target most recently.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

BLOCK_BYTES = 512
"""About 128 tokens: several blocks of an engine's cache."""
MAX_BLOCKS = 128
"""Maximum number of blocks of a prompt that are compared. The beginning of a prompt decides where it is cached."""
BLOCKS_PER_TARGET = 4_096
"""About 500,000 tokens, the order of magnitude of an engine's cache."""
MAX_TARGETS = 1_000


def blocks_of(*parts: bytes) -> tuple[bytes, ...]:
    """Return the hashes of the complete blocks at the beginning of a prompt."""
    text = b"".join(parts)[: BLOCK_BYTES * MAX_BLOCKS]
    chain, hashes = blake2b(digest_size=8), list[bytes]()
    for end in range(BLOCK_BYTES, len(text) + 1, BLOCK_BYTES):
        chain.update(text[end - BLOCK_BYTES : end])
        hashes.append(chain.digest())
    return tuple(hashes)


class PrefixTable:
    """The blocks that were sent to each target, by the target's name."""

    def __init__(self, blocks_per_target: int = BLOCKS_PER_TARGET) -> None:
        self._blocks_per_target = blocks_per_target
        self._targets: OrderedDict[str, OrderedDict[bytes, None]] = OrderedDict()

    def matched(self, target: str, blocks: Sequence[bytes]) -> int:
        """Return the number of leading blocks that were sent to a target."""
        known = self._targets.get(target, ())
        return next((number for number, block in enumerate(blocks) if block not in known), len(blocks))

    def record(self, target: str, blocks: Sequence[bytes]) -> None:
        """Record that a prompt is sent to a target. If the target has too many blocks, drop the oldest, the end of a prompt first."""
        known = self._targets.setdefault(target, OrderedDict())
        self._targets.move_to_end(target)
        for block in reversed(blocks):  # so that the beginning of a prompt is dropped last
            known[block] = None
            known.move_to_end(block)
        while len(known) > self._blocks_per_target:
            known.popitem(last=False)
        if len(self._targets) > MAX_TARGETS:
            self._targets.popitem(last=False)
