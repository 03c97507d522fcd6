"""Keys for values that callers send again and again, such as the tools and the history of a conversation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from hashlib import blake2b

DIGEST_BYTES = 16
ValueHash = int | bytes | tuple[int, int]


def _digest(value: str | bytes) -> bytes:
    source = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return blake2b(source, digest_size=DIGEST_BYTES).digest()


def _hash(value: str | bytes) -> int | tuple[int, int]:
    """Return the hash of a value. Python hashes the memory of a string, which another string with characters of another width may share:
    "AA" and "\u4141" have the same hash. Bytes and a string of ASCII with the same memory are the same text.
    """
    return hash(value) if type(value) is bytes or value.isascii() else (hash(value), len(value))


value_hash: Callable[[str | bytes], ValueHash] = _hash if sys.flags.hash_randomization else _digest
"""Return a key of a string or of bytes, which is not their key outside this process.

Python's hash is SipHash with a secret of 64 bits that is drawn at the start of the process: the probability that a value has the
hash of one of 20,000 others is 10^-15. It takes a twentieth of the time of BLAKE2, which is used if an operator has switched the
secret off (PYTHONHASHSEED=0).
"""
