"""Replays usage to Redis, each amount in its slot and only once: usage of an outage, and usage that Redis has lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gateway.store.members import RunScript
from gateway.store.memory import steady_now
from gateway.store.replay_scripts import REPLAY_USAGE
from gateway.store.runs import Runs
from gateway.store.script_args import MAX_ENTRIES_PER_COMMAND, Run, reservation_key, run_key
from gateway.store.window_usage import Charge, SlotUsage

MAX_SLOTS_PER_COMMAND = 1000
"""Number of slots after which a command gets no further window, so that it completes within the timeout."""
MAX_IN_FLIGHT = 8
"""Number of commands that are sent without waiting for a reply."""


class UsageReplay:
    """The replay of one process. Usage whose replay got no reply is sent again with the next replay."""

    def __init__(self, run: RunScript, runs: Runs, now: Callable[[], int] = steady_now) -> None:
        self._run = run
        self._runs = runs
        self._now = now
        self._pending: list[SlotUsage] = []
        self._in_flight: list[list[SlotUsage]] = []

    @property
    def is_sending(self) -> bool:
        """Whether commands have no reply. Each reply lets the next usage be sent."""
        return bool(self._in_flight)

    def replay(self, usages: Iterable[SlotUsage]) -> None:
        """Send `usages`, together with the earlier usages whose replay got no reply."""
        self._pending += usages
        self._send_pending()

    def _send_pending(self) -> None:
        """Send pending usages in batches, each of one side and one incarnation. Keep the rest if MAX_IN_FLIGHT commands have no reply."""
        to_send: list[list[SlotUsage]] = []
        while self._pending and len(self._in_flight) + len(to_send) < MAX_IN_FLIGHT:
            first, count = self._pending[0], MAX_SLOTS_PER_COMMAND
            batch: list[SlotUsage] = []
            others: list[SlotUsage] = []
            for usage in self._pending:
                fits = len(batch) < MAX_ENTRIES_PER_COMMAND and (count > 0 or not batch)
                if fits and (usage.limit.side, usage.instance) == (first.limit.side, first.instance):
                    batch.append(usage)
                    count -= len(usage.slots)
                else:
                    others.append(usage)
            to_send.append(batch)
            self._pending = others
        is_sent = [self._send(batch[0].limit.side, batch[0].instance, batch) for batch in to_send]
        if to_send and not any(is_sent):
            self._send_pending()  # all of it has expired, so no reply lets the rest be sent

    def announce(self, side: str) -> None:
        """Record a first run of this process. If the run is missing later, the store has lost data."""
        self._send(side, "", [])

    def drop_known(self, side: str) -> None:
        """Drop the pending usages of a side that `Runs.take_lost` returns again after another loss."""
        self._pending = [usage for usage in self._pending if not usage.is_known or usage.instance or usage.limit.side != side]

    def unconfirmed(self) -> list[Charge]:
        """Return the charges to windows that Redis has not confirmed, without those that this process has counted before."""
        usages = [usage for batch in (self._pending, *self._in_flight) for usage in batch if not usage.is_known]
        return [(usage.limit, usage.limit.slot_at(self._now()), sum(usage.slots.values())) for usage in usages]

    def _send(self, side: str, instance: str, batch: list[SlotUsage]) -> bool:
        """Send a batch. Return False if none of its usage counts any longer."""
        keys, arguments, charges = list[str](), list[int](), list[Charge]()
        for usage in batch:
            limit = usage.limit
            store_slot = limit.slot_at(self._now() + self._runs.clock_offset_us)
            # slots of different clocks start at different moments: charge one slot too late rather than too early
            now = store_slot if usage.is_known else limit.slot_at(self._now()) - 1
            ages = [(max(0, now - slot), amount) for slot, amount in usage.slots.items() if amount > 0]
            pairs = [pair for pair in ages if pair[0] <= limit.slots]
            if pairs:
                keys += (reservation_key(limit, usage.id), limit.key)
                arguments += (limit.slot, limit.slots, limit.ttl, len(pairs), *(number for pair in pairs for number in pair))
            if not usage.is_known:
                charges += ((limit, store_slot - age, amount) for age, amount in pairs)
        if batch and not keys:
            return False
        # only now: the run after one that is never sent would require it
        run = Run(run_key(side, instance), 1) if instance else self._runs.begin(side)

        def on_reply(reply: Any) -> None:
            self._in_flight = [each for each in self._in_flight if each is not batch]
            if isinstance(reply, Exception):
                self._pending.extend(batch)
                return
            if not instance:
                self._runs.on_reply(side, run.number, charges=charges)
            self._send_pending()

        self._in_flight.append(batch)
        self._run(REPLAY_USAGE, [run.key, *keys], [run.number, run.acked, *arguments], on_reply)
        return True
