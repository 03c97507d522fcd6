"""Who shares a store: every process says twice a second that it lives, and learns from the answer whether the store forgot it.

Who ends says goodbye. Who falls silent without one may be dead, or cut off and serve by its shares: for `HOLD` its share is held back
from the others, unless a process with its seat comes in its stead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from gateway.store.limit import SECOND
from gateway.store.member_scripts import BEAT, LEAVE
from gateway.store.script_args import members_key, side_of, told_key

BEAT_EVERY = 0.5
HOLD = 120.0
"""Seconds for which the share of an instance that fell silent is held back."""

Run = Callable[[str, Sequence[str], Sequence[Any], Callable[[Any], Any]], None]
"""Runs a script: its text, keys, arguments, and who gets the reply."""


class Members:
    """One process among those that share a store."""

    def __init__(self, run: Run, instance: str, lease: int, forgotten: Callable[[], None], *, hold: float = HOLD, seat: str = "") -> None:
        """`lease` in microseconds; `forgotten` is called when the store no longer has what the last beat told it; `seat` is the place in
        the fleet that the next process takes over, "" when nobody will.
        """
        self._run = run
        self._instance = instance
        self._lease = lease
        self._forgotten = forgotten
        self._hold = int(hold * SECOND)
        self._seat = seat
        self._due: dict[str, tuple[int, float]] = {"caller": (0, 0.0)}
        """By side, when the store expects the next beat, by its clock, and when it said so, by ours."""
        self._said = 1
        self.count = 1
        self.missing = 0
        """Of these, who fell silent and may be serving by shares."""

    @property
    def parts(self) -> int:
        """By how many this process divides when it cannot ask: never by fewer than the store was told."""
        return max(self.count, self._said)

    def join(self, side: str) -> None:
        """Be a member on this side too."""
        self._due.setdefault(side, (0, 0.0))

    def begin(self) -> None:
        """A new connection: what the store knew is no matter."""
        self._due = dict.fromkeys(self._due, (0, 0.0))

    def beat(self, leases: dict[str, str]) -> None:
        """Say that this instance lives, and that the calls with these leases do (set and reservation, to the reservation's id)."""
        self._said = self.count
        for side, (due, since) in self._due.items():
            mine = {key: id for key, id in leases.items() if side_of(key) == side}
            keys = [members_key(side), told_key(side), *(key.rpartition(" ")[0] for key in mine)]
            waited = int((monotonic() - since) * SECOND)
            arguments = [self._instance, self._seat, self._hold, self._lease, due, waited, self._said, *mine.values()]
            self._run(BEAT, keys, arguments, self._reader(side))

    def leave(self, left: Callable[[], None]) -> None:
        """Say goodbye: others may use all from now on. `left` is called when all has been answered, or never will be."""
        sides = list(self._due)

        def gone(reply: Any) -> None:
            sides.pop()
            if not sides:
                left()

        for side in tuple(sides):
            self._run(LEAVE, [members_key(side), told_key(side)], [self._instance, self._seat], gone)

    def _reader(self, side: str) -> Callable[[Any], None]:
        def counted(reply: Any) -> None:
            if not isinstance(reply, list):
                return
            count, due, forgotten, missing = reply
            self._due[side] = due, monotonic()
            if side == "caller":
                self.count, self.missing = max(1, count), missing
                if self.count != self._said:  # should this process die now, no more than its share is missing
                    self.beat({})
            if forgotten:
                self._forgotten()

        return counted
