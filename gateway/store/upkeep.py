"""The regular work of a process at Redis: a check for lost data, heartbeats, and the publication of budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.store.budget_sync import BudgetSync
from gateway.store.connections import RedisConnections
from gateway.store.limit import US_PER_S
from gateway.store.members import HEARTBEAT_INTERVAL_S, Members
from gateway.store.replay_scripts import CHECK_RUN
from gateway.store.runs import Runs
from gateway.store.settlements import Settlements

RENEWALS_PER_LEASE = 3
"""Number of renewals of a concurrent call within the length of its lease."""


class Upkeep:
    """The regular work of one process."""

    def __init__(
        self, connections: RedisConnections, runs: Runs, members: Members, budget_sync: BudgetSync, settlements: Settlements
    ) -> None:
        self._connections = connections
        self._runs = runs
        self._members = members
        self._budget_sync = budget_sync
        self._settlements = settlements

    async def run(self, leases: dict[str, str], lease: int, is_deciding: Callable[[], bool], on_done: Callable[[], None]) -> None:
        """Do the work at regular intervals while Redis is available.

        `leases` are the concurrent calls whose leases of `lease` microseconds are renewed. `is_deciding` returns whether decisions are
        in flight. `on_done` is called each time.
        """
        count = 0
        renew_every = max(1, round(lease / US_PER_S / RENEWALS_PER_LEASE / HEARTBEAT_INTERVAL_S))
        budget_sync = self._budget_sync
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)
            count += 1
            if not self._connections.up:
                continue
            renew = count % renew_every == 0
            self._runs.fold()
            for side in self._members.sides:
                latest = self._runs.latest(side)
                self._connections.run(CHECK_RUN, [latest.key], [latest.acked], lambda reply: None)
            self._members.send_heartbeat(leases if renew else {})
            if (budget_sync.reserved_uncertain or (renew and budget_sync.has_reserved)) and not is_deciding():
                self._settlements.send()
                budget_sync.publish_reserved()
            budget_sync.publish_settled()
            on_done()
