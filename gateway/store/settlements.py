"""The settlements of one process: collected for a few milliseconds, sent together, and sent again until Redis has replied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from gateway.store import script_args
from gateway.store.connections import RedisConnections
from gateway.store.limit import Costs, Reservation
from gateway.store.runs import Runs
from gateway.store.script_args import Settlement, batches, group_by_side
from gateway.store.scripts import SETTLE
from gateway.store.settled_spend import SettledSpend

SETTLE_DELAY_S = 0.005
"""Time for which settlements are collected before they are sent. A decision sends collected settlements first."""
MAX_PENDING_SETTLEMENTS = 100_000


class Settlements:
    """The settlements that Redis has not confirmed."""

    def __init__(self, connections: RedisConnections, runs: Runs, settled_spend: SettledSpend) -> None:
        self._connections = connections
        self._runs = runs
        self._settled_spend = settled_spend
        self.new: list[Settlement] = []
        """Settlements that have not been sent."""
        self.pending: dict[str, Settlement] = {}
        """Settlements to send again, by the id of the reservation."""
        self._sent: list[list[Settlement]] = []
        self.timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        """Return whether there are settlements that Redis has not confirmed."""
        return bool(self.new or self.pending or self._sent)

    def unconfirmed(self) -> list[Settlement]:
        """Return all settlements that Redis has not confirmed."""
        return [*self.new, *self.pending.values(), *(each for batch in self._sent for each in batch)]

    def defer(self, reservation: Reservation, actual: Costs) -> None:
        """Keep a settlement until Redis is available."""
        if len(self.pending) < MAX_PENDING_SETTLEMENTS:
            self.pending.setdefault(reservation.id, (reservation, actual))
        else:
            self._connections.count_error("forgotten")

    def defer_new(self) -> None:
        """Keep the settlements that have not been sent until Redis is available."""
        settled, self.new = self.new, []
        for each in settled:
            self.defer(*each)

    def send(self, on_sent: Callable[[], Any] | None = None) -> None:
        """Send new and failed settlements, batched by side. `on_sent` is called after all replies or failures."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self._connections.up:  # in a cluster, the node of one side may be available
            self.defer_new()
        settled, self.new = self.new, []
        if self._connections.up and self.pending:
            settled += self.pending.values()
            self.pending.clear()
        to_send = [batch for side in group_by_side(settled) for batch in batches(side)]
        in_flight = len(to_send)

        def on_reply(batch: list[Settlement], side: str, run: int, reply: Any) -> None:
            nonlocal in_flight
            in_flight -= 1
            self._sent.remove(batch)
            if isinstance(reply, Exception):
                for reservation, actual in batch:
                    self.defer(reservation, actual)
            else:
                self._runs.on_reply(side, run, batch)
            if on_sent is not None and not in_flight:
                on_sent()

        for batch in to_send:
            side = batch[0][0].limits[0].side
            run = self._runs.begin(side)
            self._sent.append(batch)
            keys, arguments = script_args.settle_args(batch, self._settled_spend, run)
            self._connections.run(SETTLE, keys, arguments, partial(on_reply, batch, side, run.number))
        if on_sent is not None and not to_send:
            on_sent()
