"""Connections to all Redis nodes that hold limits and the ledger: one server, or one node of a cluster for each hash tag.

The start and the end of each outage are reported once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from gateway.config.redis_address import RedisAddress
from gateway.store.connection import CONNECTION_ENDED, STABLE_AFTER_S, RedisConnection
from gateway.store.resp import OnReply, RespConnection
from gateway.store.script_args import side_of
from gateway.store.scripts import ADMIT
from gateway.store.topology import HASH_TAGS, Topology

DECISION_TIMEOUT_S = 0.05
"""Timeout of one script run, and therefore of one decision."""

Prepare = Callable[[Sequence[str], RespConnection], Awaitable[None]]


class RedisConnections:
    """Runs scripts on the node that holds their keys. `up` is True while every connection is up."""

    def __init__(
        self,
        address: RedisAddress,
        on_change: Callable[[bool], None],
        report: Callable[[str], None],
        timeout_s: float = DECISION_TIMEOUT_S,
        prepare: Prepare | None = None,
    ) -> None:
        """Create the connections; `start` opens them.

        `on_change` is called with each new value of `up`. `report` receives one line at the start of an outage and one
        at its end. `prepare` gets the hash tags of a new connection, and sends more commands before the connection is used.
        """
        self._address = address
        self._on_change = on_change
        self._report = report
        tags = HASH_TAGS if address.kind == "cluster" else HASH_TAGS[:1]
        self._connections = {
            tag: RedisConnection(
                locate=Topology(address, tag).locate,
                probe=_probe(tag),
                timeout_s=timeout_s,
                on_change=self._on_connection_change,
                count_error=self.count_error,
                prepare=partial(prepare, HASH_TAGS if len(tags) == 1 else (tag,)) if prepare is not None else None,
            )
            for tag in tags
        }
        self._single = self._connections[HASH_TAGS[0]] if len(tags) == 1 else None
        self._outage_reason = ""
        self._unreported = False
        self._recovery_timer: asyncio.TimerHandle | None = None
        self.up = False
        self.is_used = False
        """Whether this process has opened these connections. A supervisor does not open them: only its workers decide on limits."""
        self.errors: dict[str, int] = {}
        """Number of failures by kind."""

    @property
    def in_reported_outage(self) -> bool:
        """Whether there is an outage whose end has not been reported."""
        return bool(self._outage_reason)

    @property
    def commands(self) -> int:
        """Number of scripts run."""
        return sum(connection.commands for connection in self._connections.values())

    @property
    def slowest_reply_s(self) -> float:
        """Longest time from a script run to its reply or its timeout."""
        return max(connection.slowest_reply_s for connection in self._connections.values())

    async def start(self) -> None:
        """Open all connections. Return after the first attempt of each connection, successful or not."""
        self.is_used = True
        await asyncio.gather(*(connection.start() for connection in self._connections.values()))

    async def stop(self) -> None:
        """Close the connections."""
        if self._recovery_timer is not None:
            self._recovery_timer.cancel()
        for connection in self._connections.values():
            await connection.stop()
        self.up = False

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any], on_reply: OnReply) -> None:
        """Run a script on the node of its keys. `on_reply` is called once, with the reply or with an exception."""
        connection = self._single if self._single is not None else self._connections[side_of(keys[0])]
        connection.run(script, keys, arguments, on_reply)

    def run_together(self, send: Callable[[], None]) -> None:
        """Call `send`, which runs several scripts. Write their commands together if there is a single server."""
        if self._single is None:
            send()
        else:
            self._single.run_together(send)

    async def replies(self) -> None:
        """Wait for the replies to all scripts that were run before this call, or for their failures."""
        waiting, done = len(self._connections), asyncio.Event()

        def on_reply(reply: Any) -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                done.set()

        for tag, connection in self._connections.items():
            connection.run(ADMIT, [_probe(tag)], [0, ""], on_reply)  # decides on nothing; a server replies in order
        await done.wait()

    def count_error(self, kind: str) -> None:
        """Count a failure of this kind."""
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def _on_connection_change(self, reason: str) -> None:
        """Update `up` after a connection opened, closed or failed to open."""
        up = all(connection.up for connection in self._connections.values())
        if up == self.up:
            if reason:
                self._begin_outage(reason)
            return
        self.up = up
        self._on_change(up)
        if not up:
            self._begin_outage(reason)
        elif self._outage_reason:
            self._report_outage(self._outage_reason)
            self._recovery_timer = asyncio.get_running_loop().call_later(STABLE_AFTER_S, self._end_outage)

    def _begin_outage(self, reason: str) -> None:
        """Report an outage once, no matter how many connection attempts fail."""
        if self._recovery_timer is not None:
            self._recovery_timer.cancel()
            self._recovery_timer = None
        if not self._outage_reason:
            self._outage_reason, self._unreported = reason, True
            if reason == CONNECTION_ENDED:
                return  # the next connection attempt may give a better reason
        self._report_outage(reason)

    def _report_outage(self, reason: str) -> None:
        if self._unreported:
            self._unreported = False
            self._report(f"store: Redis at {self._address} is unavailable ({reason}); applying outage modes")

    def _end_outage(self) -> None:
        self._outage_reason, self._recovery_timer = "", None
        self._report(f"store: Redis at {self._address} is available again; limits are shared")


def _probe(tag: str) -> str:
    """Return the key to which a node with this hash tag must accept writes."""
    return f"lockgate:{{{tag}}}:probe"
