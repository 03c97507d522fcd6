"""Who shares a store: every process says twice a second that it lives, and learns from the answer whether the store forgot it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.limits.encode import members_key, side_of
from gateway.limits.scripts import BEAT
from gateway.limits.types import SECOND

BEAT_EVERY = 0.5
LIFE = 5.0
"""Seconds without a beat after which an instance is counted no more, and holds nothing reserved of a budget."""

Run = Callable[[str, Sequence[str], Sequence[Any], Callable[[Any], Any]], None]
"""Runs a script: its text, keys, arguments, and who gets the reply."""


class Members:
    """One process among those that share a store."""

    def __init__(self, run: Run, instance: str, lease: int, forgotten: Callable[[], None]) -> None:
        """`lease` in microseconds; `forgotten` is called when the store no longer has what the last beat told it."""
        self._run = run
        self._instance = instance
        self._lease = lease
        self._forgotten = forgotten
        self._ends: dict[str, int] = {"caller": 0}
        self.count = 1

    def join(self, side: str) -> None:
        """Be a member on this side too."""
        self._ends.setdefault(side, 0)

    def begin(self) -> None:
        """A new connection: what the store knew is no matter."""
        self._ends = dict.fromkeys(self._ends, 0)

    def beat(self, leases: dict[str, str]) -> None:
        """Say that this instance lives, and that the calls with these leases do (set and reservation, to the reservation's id)."""
        for side in self._ends:
            mine = {key: id for key, id in leases.items() if side_of(key) == side}
            keys = [members_key(side), *(key.rpartition(" ")[0] for key in mine)]
            arguments = [self._instance, int(LIFE * SECOND), self._lease, self._ends[side], *mine.values()]
            self._run(BEAT, keys, arguments, self._reader(side))

    def _reader(self, side: str) -> Callable[[Any], None]:
        def counted(reply: Any) -> None:
            if not isinstance(reply, list):
                return
            count, self._ends[side], forgotten = reply
            if side == "caller":
                self.count = max(1, count)
            if forgotten:
                self._forgotten()

        return counted
