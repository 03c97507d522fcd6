"""The way to the store: one connection to one server, or to each node of a cluster that has keys of ours. It tells of outages once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gateway.store.connection import CONNECTION_ENDED, STABLE_AFTER_S, RedisConnection
from gateway.store.resp import OnReply, RedisAddress
from gateway.store.script_args import side_of
from gateway.store.topology import HASH_TAGS, Topology

DECISION_TIMEOUT_S = 0.05
"""Seconds that one decision may take."""


class RedisConnections:
    """Runs scripts. `up` says whether the store can be asked now; `changed(up)` is called when that changes."""

    def __init__(
        self, address: RedisAddress, on_change: Callable[[bool], None], report: Callable[[str], None], timeout_s: float = DECISION_TIMEOUT_S
    ) -> None:
        """`report` gets one line when the store goes, and one when it is back for a while."""
        self._address = address
        self._on_change = on_change
        self._report = report
        tags = HASH_TAGS if address.kind == "cluster" else HASH_TAGS[:1]
        self._connections = {
            tag: RedisConnection(Topology(address, tag).locate, f"lockgate:{{{tag}}}:probe", timeout_s, partial(self._on_connection_change), self.count_error)
            for tag in tags
        }
        self._single = self._connections[HASH_TAGS[0]] if len(tags) == 1 else None
        self._outage_reason = ""
        self._unreported = False
        self._recovery_timer: asyncio.TimerHandle | None = None
        self.up = False
        self.is_used = False
        """Whether this process asks the store at all: a supervisor leaves that to its workers."""
        self.errors: dict[str, int] = {}
        """Failures by kind."""

    @property
    def in_reported_outage(self) -> bool:
        """An outage was told of, and not yet its end."""
        return bool(self._outage_reason)

    @property
    def commands(self) -> int:
        """Scripts run: one for all decisions of a tick."""
        return sum(wire.commands for wire in self._connections.values())

    @property
    def slowest_reply_s(self) -> float:
        """Longest wait for a reply, or for giving it up, in seconds."""
        return max(wire.slowest_reply_s for wire in self._connections.values())

    async def start(self) -> None:
        """Reach the store, waiting for the first attempt only."""
        self.is_used = True
        await asyncio.gather(*(wire.start() for wire in self._connections.values()))

    async def stop(self) -> None:
        """Close the connections for good."""
        if self._recovery_timer is not None:
            self._recovery_timer.cancel()
        for wire in self._connections.values():
            await wire.stop()
        self.up = False

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any], done: OnReply) -> None:
        """Run a script within the deadline, where its keys are. `done` gets its reply once, or the exception that opened the breaker."""
        wire = self._single if self._single is not None else self._connections[side_of(keys[0])]
        wire.run(script, keys, arguments, done)

    def count_error(self, kind: str) -> None:
        """One more failure of a kind."""
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def _on_connection_change(self, why: str) -> None:
        """A connection came, went, or could not be made: the store is up while all of them are."""
        up = all(wire.up for wire in self._connections.values())
        if up == self.up:
            if why:
                self._begin_outage(why)
            return
        self.up = up
        self._on_change(up)
        if not up:
            self._begin_outage(why)
        elif self._outage_reason:
            self._report_outage(self._outage_reason)
            self._recovery_timer = asyncio.get_running_loop().call_later(STABLE_AFTER_S, self._end_outage)

    def _begin_outage(self, why: str) -> None:
        """An outage is one line, however often it is tried again and fails again."""
        if self._recovery_timer is not None:
            self._recovery_timer.cancel()
            self._recovery_timer = None
        if not self._outage_reason:
            self._outage_reason, self._unreported = why, True
            if why == CONNECTION_ENDED:
                return
        self._report_outage(why)

    def _report_outage(self, why: str) -> None:
        if self._unreported:
            self._unreported = False
            self._report(f"store: Redis at {self._address} is out of reach ({why}): limits follow their outage mode")

    def _end_outage(self) -> None:
        self._outage_reason, self._recovery_timer = "", None
        self._report(f"store: Redis at {self._address} is back: limits are shared again")
