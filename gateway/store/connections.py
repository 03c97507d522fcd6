"""The way to the store: one connection to one server, or to each node of a cluster that has keys of ours. It tells of outages once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gateway.store.connection import ENDED, STEADY, RedisConnection
from gateway.store.resp import Done, RedisAddress
from gateway.store.script_args import side_of
from gateway.store.topology import TAGS, Topology

DEADLINE = 0.05
"""Seconds that one decision may take."""


class RedisConnections:
    """Runs scripts. `up` says whether the store can be asked now; `changed(up)` is called when that changes."""

    def __init__(
        self, address: RedisAddress, changed: Callable[[bool], None], report: Callable[[str], None], deadline: float = DEADLINE
    ) -> None:
        """`report` gets one line when the store goes, and one when it is back for a while."""
        self._address = address
        self._changed = changed
        self._report = report
        tags = TAGS if address.kind == "cluster" else TAGS[:1]
        self._wires = {
            tag: RedisConnection(Topology(address, tag).locate, f"lockgate:{{{tag}}}:probe", deadline, partial(self._turned), self.count)
            for tag in tags
        }
        self._only = self._wires[TAGS[0]] if len(tags) == 1 else None
        self._said = ""
        self._untold = False
        self._back: asyncio.TimerHandle | None = None
        self.up = False
        self.used = False
        """Whether this process asks the store at all: a supervisor leaves that to its workers."""
        self.errors: dict[str, int] = {}
        """Failures by kind."""

    @property
    def away(self) -> bool:
        """An outage was told of, and not yet its end."""
        return bool(self._said)

    @property
    def commands(self) -> int:
        """Scripts run: one for all decisions of a tick."""
        return sum(wire.commands for wire in self._wires.values())

    @property
    def slowest(self) -> float:
        """Longest wait for a reply, or for giving it up, in seconds."""
        return max(wire.slowest for wire in self._wires.values())

    async def start(self) -> None:
        """Reach the store, waiting for the first attempt only."""
        self.used = True
        await asyncio.gather(*(wire.start() for wire in self._wires.values()))

    async def stop(self) -> None:
        """Close the connections for good."""
        if self._back is not None:
            self._back.cancel()
        for wire in self._wires.values():
            await wire.stop()
        self.up = False

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any], done: Done) -> None:
        """Run a script within the deadline, where its keys are. `done` gets its reply once, or the exception that opened the breaker."""
        wire = self._only if self._only is not None else self._wires[side_of(keys[0])]
        wire.run(script, keys, arguments, done)

    def count(self, kind: str) -> None:
        """One more failure of a kind."""
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def _turned(self, why: str) -> None:
        """A connection came, went, or could not be made: the store is up while all of them are."""
        up = all(wire.up for wire in self._wires.values())
        if up == self.up:
            if why:
                self._away(why)
            return
        self.up = up
        self._changed(up)
        if not up:
            self._away(why)
        elif self._said:
            self._tell(self._said)
            self._back = asyncio.get_running_loop().call_later(STEADY, self._is_back)

    def _away(self, why: str) -> None:
        """An outage is one line, however often it is tried again and fails again."""
        if self._back is not None:
            self._back.cancel()
            self._back = None
        if not self._said:
            self._said, self._untold = why, True
            if why == ENDED:
                return
        self._tell(why)

    def _tell(self, why: str) -> None:
        if self._untold:
            self._untold = False
            self._report(f"store: Redis at {self._address} is out of reach ({why}): limits follow their outage mode")

    def _is_back(self) -> None:
        self._said, self._back = "", None
        self._report(f"store: Redis at {self._address} is back: limits are shared again")
