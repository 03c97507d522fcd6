"""Run-time keys as they are stored: JSON that also older versions read, as long as a key uses only what they know.

Older versions know one limit per kind, stored as an object, or as null if there is none.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.config.limit import RATE_FIELDS
from gateway.keys.store import RuntimeKey

_BLOCKS = ("limits", "limits_per_user")


def encode_key(key: RuntimeKey) -> bytes:
    """Return a key as JSON."""
    stored = msgspec.to_builtins(key)
    for block in _blocks_of(stored):
        for kind in RATE_FIELDS:
            rates = block.get(kind, ())
            if len(rates) < 2:
                block[kind] = rates[0] if rates else None
    return msgspec.json.encode(stored)


def decode_key(text: bytes | msgspec.Raw) -> RuntimeKey:
    """Return a key from JSON. Raise msgspec.DecodeError if it is invalid."""
    stored = msgspec.json.decode(text)
    for block in _blocks_of(stored):
        for kind in RATE_FIELDS:
            rate = block.get(kind, ())
            if rate is None or isinstance(rate, dict):
                block[kind] = () if rate is None else (rate,)
    return msgspec.convert(stored, RuntimeKey)


def _blocks_of(stored: Any) -> list[dict[str, Any]]:
    """Return the blocks of limits that apply to all models. Only versions that know several limits store other blocks."""
    entry = stored.get("entry") if isinstance(stored, dict) else None
    blocks = [entry.get(name) for name in _BLOCKS] if isinstance(entry, dict) else []
    return [block for block in blocks if isinstance(block, dict)]
