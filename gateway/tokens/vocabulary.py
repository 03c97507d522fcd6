"""The vocabulary of an encoding, in a file that is mapped into memory: all workers share its pages, and opening it takes little time.

`python -m gateway.tokens.vocabulary_build` writes the files. All numbers are little-endian, with 32 bits:

1. the number of tokens and the number of slots, which is a power of two;
2. the slots, a hash table with open addressing: 0, or the rank of a token plus 1, from the slot CRC-32(token) % slots onwards;
3. for each token, by rank, the position of its first byte in the file, and at the end the length of the file;
4. for each pair of bytes `a, b`, at `a * 256 + b`, the rank of its token, or NO_RANK;
5. the bytes of all tokens.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from zlib import crc32

FOLDER = Path(__file__).parent / "vocabularies"
HEAD_NUMBERS, PAIRS = 2, 256 * 256
NUMBER_BYTES = 4
NO_RANK = (1 << 32) - 1
"""The rank of bytes that are not a token, which is higher than that of every token."""


class Vocabulary:
    """The ranks of the tokens of an encoding. The lower the rank, the earlier bytes are merged into the token."""

    def __init__(self, name: str) -> None:
        """Open the file of an encoding. Raise OSError if there is none."""
        if sys.byteorder != "little":
            raise OSError("the files of vocabularies are little-endian")
        with (FOLDER / f"{name}.bin").open("rb") as file:
            contents = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        numbers = memoryview(contents)[: len(contents) // NUMBER_BYTES * NUMBER_BYTES].cast("I")
        count, slot_count = numbers[:HEAD_NUMBERS]
        at_positions = HEAD_NUMBERS + slot_count
        at_pairs = at_positions + count + 1
        self.pairs = numbers[at_pairs : at_pairs + PAIRS]
        """The rank of each pair of bytes."""
        self.rank_of = _finder(contents, numbers[HEAD_NUMBERS:at_positions], numbers[at_positions:at_pairs])
        """Returns the rank of a token, or NO_RANK."""


def _finder(contents: mmap.mmap, slots: Sequence[int], positions: Sequence[int]) -> Callable[[bytes], int]:
    mask = len(slots) - 1

    def rank_of(token: bytes) -> int:
        at = crc32(token) & mask
        while following := slots[at]:
            if contents[positions[following - 1] : positions[following]] == token:
                return following - 1
            at = (at + 1) & mask
        return NO_RANK

    return rank_of
