"""Keys for values that callers send again and again, such as the tools and the history of a conversation."""

from __future__ import annotations

import sys
from hashlib import blake2b

DIGEST_BYTES = 16


def _digest(value: str | bytes) -> int | bytes:
    source = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return blake2b(source, digest_size=DIGEST_BYTES).digest()


value_hash = hash if sys.flags.hash_randomization else _digest
"""Return a key of a string or of bytes, which is not their key outside this process.

Python's hash is SipHash with a secret of 64 bits that is drawn at the start of the process: the probability that a value has the
hash of one of 20,000 others is 10^-15. It takes a twentieth of the time of BLAKE2, which is used if an operator has switched the
secret off (PYTHONHASHSEED=0).
"""
