"""Replays to Redis the usage that was recorded during an outage: once per window, with each amount in its slot."""

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
    """The usage of one window, by slot number. Redis ignores a repeated replay with the same `id`."""

    limit: Limit
    slots: dict[int, int]
    id: str = msgspec.field(default_factory=lambda: f"used:{os.urandom(8).hex()}")


class UsageReplay:
    """The replay of one process. Usage whose replay got no reply is sent again with the next replay."""

    def __init__(self, run: RunScript, now: Callable[[], int] = steady_now) -> None:
        self._run = run
        self._now = now
        self._pending: list[SlotUsage] = []

    def replay(self, usages: Iterable[SlotUsage]) -> None:
        """Send `usages`, together with the earlier usages whose replay got no reply."""
        pending, self._pending = [*self._pending, *usages], []
        sides: dict[str, list[SlotUsage]] = {}
        for usage in pending:
            sides.setdefault(usage.limit.side, []).append(usage)
        for side in sides.values():
            for batch in batches(side):
                self._send(batch)

    def _send(self, batch: list[SlotUsage]) -> None:
        keys: list[str] = []
        arguments: list[Any] = []
        for usage in batch:
            limit, now = usage.limit, usage.limit.slot_at(self._now())
            # slots of different clocks start at different moments: charge one slot too late rather than too early
            ages = [(max(0, now - slot - 1), amount) for slot, amount in usage.slots.items() if amount > 0]
            pairs = [pair for pair in ages if pair[0] <= limit.slots]
            if pairs:
                keys += (reservation_key(limit, usage.id), limit.key)
                arguments += (limit.slot, limit.slots, limit.ttl, len(pairs), *(number for pair in pairs for number in pair))
        if keys:
            self._run(
                REPLAY_USAGE, keys, arguments, lambda reply: self._pending.extend(batch) if isinstance(reply, Exception) else None
            )
