"""What was used of windows while the store was away, as it is told when the store is back: each slot's part where it belongs, once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from gateway.store.limit import Limit
from gateway.store.members import RunScript
from gateway.store.memory import steady_now
from gateway.store.script_args import batches, reservation_key
from gateway.store.scripts import REPLAY_USAGE


class SlotUsage(msgspec.Struct):
    """What was used of one window, by the number of the slot."""

    limit: Limit
    slots: dict[int, int]
    id: str = msgspec.field(default_factory=lambda: f"used:{os.urandom(8).hex()}")


class UsageReplay:
    """One process's word on windows."""

    def __init__(self, run: RunScript, now: Callable[[], int] = steady_now) -> None:
        self._run = run
        self._now = now
        self._pending: list[SlotUsage] = []

    def replay(self, used: Iterable[SlotUsage]) -> None:
        """Tell it, with what got no answer the last time."""
        owed, self._pending = [*self._pending, *used], []
        sides: dict[str, list[SlotUsage]] = {}
        for one in owed:
            sides.setdefault(one.limit.side, []).append(one)
        for side in sides.values():
            for part in batches(side):
                self._send(part)

    def _send(self, part: list[SlotUsage]) -> None:
        keys: list[str] = []
        arguments: list[Any] = []
        for one in part:
            limit, now = one.limit, one.limit.slot_at(self._now())
            # clocks do not begin their slots together: rather a slot too late than too early
            ages = [(max(0, now - slot - 1), amount) for slot, amount in one.slots.items() if amount > 0]
            pairs = [pair for pair in ages if pair[0] <= limit.slots]
            if pairs:
                keys += (reservation_key(limit, one.id), limit.key)
                arguments += (limit.slot, limit.slots, limit.ttl, len(pairs), *(number for pair in pairs for number in pair))
        if keys:
            self._run(REPLAY_USAGE, keys, arguments, lambda reply: self._pending.extend(part) if isinstance(reply, Exception) else None)
