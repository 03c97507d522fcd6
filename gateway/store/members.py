"""Who shares a store: every process says twice a second that it lives, and learns from the answer whether the store forgot it.

Who ends says goodbye. Who falls silent without one may be dead, or cut off and serve by its shares: for `HOLD` its share is held back
from the others, unless a process with its seat comes in its stead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from gateway.store.limit import US_PER_S
from gateway.store.member_scripts import HEARTBEAT, LEAVE
from gateway.store.script_args import member_info_key, members_key, side_of

HEARTBEAT_INTERVAL_S = 0.5
HOLD_BACK_S = 120.0
"""Seconds for which the share of an instance that fell silent is held back."""

RunScript = Callable[[str, Sequence[str], Sequence[Any], Callable[[Any], Any]], None]
"""Runs a script: its text, keys, arguments, and who gets the reply."""


class Members:
    """One process among those that share a store."""

    def __init__(self, run: RunScript, instance: str, lease: int, on_forgotten: Callable[[], None], *, hold_back_s: float = HOLD_BACK_S, seat: str = "") -> None:
        """`lease` in microseconds; `forgotten` is called when the store no longer has what the last beat told it; `seat` is the place in
        the fleet that the next process takes over, "" when nobody will.
        """
        self._run = run
        self._instance = instance
        self._lease = lease
        self._on_forgotten = on_forgotten
        self._hold_back = int(hold_back_s * US_PER_S)
        self._seat = seat
        self._due: dict[str, tuple[int, float]] = {"caller": (0, 0.0)}
        """By side, when the store expects the next beat, by its clock, and when it said so, by ours."""
        self._sent_divisor = 1
        self.count = 1
        self.missing = 0
        """Of these, who fell silent and may be serving by shares."""

    @property
    def divisor(self) -> int:
        """By how many this process divides when it cannot ask: never by fewer than the store was told."""
        return max(self.count, self._sent_divisor)

    def join_side(self, side: str) -> None:
        """Be a member on this side too."""
        self._due.setdefault(side, (0, 0.0))

    def on_reconnect(self) -> None:
        """A new connection: what the store knew is no matter."""
        self._due = dict.fromkeys(self._due, (0, 0.0))

    def send_heartbeat(self, leases: dict[str, str]) -> None:
        """Say that this instance lives, and that the calls with these leases do (set and reservation, to the reservation's id)."""
        self._sent_divisor = self.count
        for side, (due, since) in self._due.items():
            mine = {key: id for key, id in leases.items() if side_of(key) == side}
            keys = [members_key(side), member_info_key(side), *(key.rpartition(" ")[0] for key in mine)]
            waited = int((monotonic() - since) * US_PER_S)
            arguments = [self._instance, self._seat, self._hold_back, self._lease, due, waited, self._sent_divisor, *mine.values()]
            self._run(HEARTBEAT, keys, arguments, self._on_reply(side))

    def leave(self, on_left: Callable[[], None]) -> None:
        """Say goodbye: others may use all from now on. `left` is called when all has been answered, or never will be."""
        sides = list(self._due)

        def gone(reply: Any) -> None:
            sides.pop()
            if not sides:
                on_left()

        for side in tuple(sides):
            self._run(LEAVE, [members_key(side), member_info_key(side)], [self._instance, self._seat], gone)

    def _on_reply(self, side: str) -> Callable[[Any], None]:
        def counted(reply: Any) -> None:
            if not isinstance(reply, list):
                return
            count, due, forgotten, missing = reply
            self._due[side] = due, monotonic()
            if side == "caller":
                self.count, self.missing = max(1, count), missing
                if self.count != self._sent_divisor:  # should this process die now, no more than its share is missing
                    self.send_heartbeat({})
            if forgotten:
                self._on_forgotten()

        return counted
