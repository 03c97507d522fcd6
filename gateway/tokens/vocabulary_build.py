"""Writes the data files of `vocabulary.py` and `pieces.py` from the data of toktok-rs: `python -m gateway.tokens.vocabulary_build`.

The character classes need a `unicodedata` with the Unicode version of the encodings: that of Python 3.15, or the package
unicodedata2, version 17.
"""

from __future__ import annotations

import importlib
import struct
import sys
from collections.abc import Iterator
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any
from zlib import crc32

from gateway.tokens.pieces import CASELESS, CLASSES_FILE, LOWER, MARK, NUMBER, OTHER, PATTERNS, SPACE, UPPER
from gateway.tokens.vocabulary import FOLDER, HEAD_NUMBERS, NO_RANK, NUMBER_BYTES, PAIRS

UNICODE_VERSION = "17.0.0"
SPECIAL_FROM = {"o200k_base": 199_998, "cl100k_base": 100_256}
"""The number of tokens of each encoding. Later ids are special tokens."""
CLASS_OF_CATEGORY = {
    "Lu": UPPER, "Lt": UPPER, "Ll": LOWER, "Lm": CASELESS, "Lo": CASELESS,
    "Mn": MARK, "Mc": MARK, "Me": MARK, "Nd": NUMBER, "Nl": NUMBER, "No": NUMBER,
}  # fmt: skip
LONG_S = 0x17F
"""The code point of the long s, which counts as an `s` in contractions that ignore case."""


def tokens_of(name: str) -> list[bytes]:
    """Return all tokens of an encoding by rank."""
    library = importlib.import_module("toktok")._encoding(name)
    return [bytes(library.decode_single_token_bytes(rank)) for rank in range(SPECIAL_FROM[name])]


def vocabulary_file(tokens: list[bytes]) -> bytes:
    """Return the contents of the file of a vocabulary."""
    slots = [0] * (1 << (len(tokens) * 5 // 4 - 1).bit_length())
    for rank, token in enumerate(tokens):
        at = crc32(token) % len(slots)
        while slots[at]:
            at = (at + 1) % len(slots)
        slots[at] = rank + 1
    start = (HEAD_NUMBERS + len(slots) + len(tokens) + 1 + PAIRS) * NUMBER_BYTES
    positions = accumulate(map(len, tokens), initial=start)
    ranks = {token: rank for rank, token in enumerate(tokens)}
    pairs = [ranks.get(bytes(divmod(pair, 256)), NO_RANK) for pair in range(PAIRS)]
    return _numbers(len(tokens), len(slots), *slots, *positions, *pairs) + b"".join(tokens)


def classes_file(unicode: Any) -> bytes:
    """Return the contents of the file of character classes: for each range, its first code point; then the classes."""

    def class_of(code: int) -> str:
        if code == LONG_S:
            return "s"
        character = chr(code)
        return CLASS_OF_CATEGORY.get(unicode.category(character), SPACE if character.isspace() and code > 0x7F else OTHER)

    ranges = [(next(codes), name) for name, codes in groupby(range(sys.maxunicode + 1), class_of)]
    return _numbers(*(first for first, _ in ranges)) + "".join(name for _, name in ranges).encode()


def _numbers(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def files() -> Iterator[tuple[Path, bytes]]:
    """Yield the path and the contents of each file."""
    for name in PATTERNS:
        yield FOLDER / f"{name}.bin", vocabulary_file(tokens_of(name))
    unicode = importlib.import_module("unicodedata" if sys.version_info >= (3, 15) else "unicodedata2")
    if unicode.unidata_version != UNICODE_VERSION:
        raise SystemExit(f"the character classes need Unicode {UNICODE_VERSION}, not {unicode.unidata_version}")
    yield CLASSES_FILE, classes_file(unicode)


if __name__ == "__main__":
    for path, contents in files():
        path.write_bytes(contents)
