"""Reads from a GGUF file how its model pools token vectors.

Embedding models and rerankers declare the kind of pooling; chat models do not.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of each type of number. Types 8 and 9 are strings and arrays."""
_STRING, _ARRAY, _UINT32, _INT32 = 8, 9, 4, 5
MAX_KEYS = 10_000
MAX_ENTRIES = 10_000_000
MAX_BYTES = 1 << 24


MEAN, CLS, LAST, RANK = 1, 2, 3, 4
"""Ways of pooling. A model with RANK is a reranker: it computes one score instead of a vector."""


def pooling_of(path: Path) -> int:
    """Return the pooling that the file declares, or 0 if the file declares none or cannot be read."""
    try:
        with path.open("rb") as file:
            return _find_pooling(file)
    except (OSError, ValueError, struct.error):
        return 0


def _find_pooling(file: BinaryIO) -> int:
    if file.read(4) != b"GGUF":
        raise ValueError("not a GGUF file")
    _, _, keys = struct.unpack("<IQQ", file.read(20))
    for _ in range(min(keys, MAX_KEYS)):
        name = file.read(_length(file))
        (kind,) = struct.unpack("<I", file.read(4))
        if name.endswith(b".pooling_type") and kind in (_UINT32, _INT32):
            (declared,) = struct.unpack("<i", file.read(4))
            return declared if MEAN <= declared <= RANK else 0
        _skip(file, kind)
    return 0


def _skip(file: BinaryIO, kind: int) -> None:
    """Move the position in the file past a value."""
    if kind == _STRING:
        file.seek(_length(file), 1)
    elif kind == _ARRAY:
        of, count = struct.unpack("<IQ", file.read(12))
        if count > MAX_ENTRIES or of == _ARRAY:
            raise ValueError("an array is too long, or holds arrays")
        if of != _STRING:
            file.seek(_size(of) * count, 1)
        for _ in range(count if of == _STRING else 0):
            file.seek(_length(file), 1)
    else:
        file.seek(_size(kind), 1)


def _size(kind: int) -> int:
    if kind not in _SIZES:
        raise ValueError("the file has a value of an unknown type")
    return _SIZES[kind]


def _length(file: BinaryIO) -> int:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > MAX_BYTES:
        raise ValueError("a string is too long")
    return int(length)
