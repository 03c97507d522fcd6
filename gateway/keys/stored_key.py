"""Run-time keys and teams as they are stored: JSON that older versions can also read if the entry uses only settings that they support.

Older versions support one limit per kind, stored as an object, or as null if there is none.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple

import msgspec

from gateway.config.limit import RATE_FIELDS
from gateway.keys.store import Entry, RuntimeKey, RuntimeTeam

_BLOCKS = ("limits", "limits_per_user")


class EntryKind(NamedTuple, Generic[Entry]):
    """The place where a store keeps its entries, and their type."""

    type: type[Entry]
    file: str
    """The name of the file in the state folder."""
    field: str
    """The last part of the name of the hash in Redis."""
    version: str
    """The last part of the name of the version in Redis."""


KEYS = EntryKind(RuntimeKey, "run-time-keys.json", "made", "version")
TEAMS = EntryKind(RuntimeTeam, "run-time-teams.json", "teams", "teams-version")


def encode_entry(entry: RuntimeKey | RuntimeTeam) -> bytes:
    """Return an entry as JSON."""
    stored = msgspec.to_builtins(entry)
    for block in _blocks_of(stored):
        for kind in RATE_FIELDS:
            rates = block.get(kind, ())
            if len(rates) < 2:
                block[kind] = rates[0] if rates else None
    return msgspec.json.encode(stored)


def decode_entry(text: bytes | msgspec.Raw, kind: EntryKind[Entry]) -> Entry:
    """Return an entry from JSON. Raise msgspec.DecodeError if the JSON is invalid."""
    stored = msgspec.json.decode(text)
    for block in _blocks_of(stored):
        for name in RATE_FIELDS:
            rate = block.get(name, ())
            if rate is None or isinstance(rate, dict):
                block[name] = () if rate is None else (rate,)
    return msgspec.convert(stored, kind.type)


def _blocks_of(stored: Any) -> list[dict[str, Any]]:
    """Return the blocks of limits that apply to all models.

    Blocks for single models need no conversion, because every version that stores them supports several limits.
    """
    entry = stored.get("entry") if isinstance(stored, dict) else None
    blocks = [entry.get(name) for name in _BLOCKS] if isinstance(entry, dict) else []
    return [block for block in blocks if isinstance(block, dict)]
