"""Membership of the processes that share a store: each sends a heartbeat twice a second.

The reply states whether the store lost the previous heartbeat, and with it possibly all other data. A process that shuts
down leaves the group. A process that stops responding may be dead, or it may be cut off from Redis and apply its shares.
Therefore its share of each limit is held back from the other processes for `HOLD_BACK_S`, or until a replacement with its seat
starts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import Any

from gateway.store.limit import US_PER_S
from gateway.store.member_scripts import HEARTBEAT, LEAVE
from gateway.store.script_args import member_info_key, members_key, side_of

HEARTBEAT_INTERVAL_S = 0.5
HOLD_BACK_S = 120.0
"""Time for which the share of a process that stopped responding is held back."""
RETURN_S = 5.0
"""Time within which the other members return after an outage of all members."""

RunScript = Callable[[str, Sequence[str], Sequence[Any], Callable[[Any], Any]], None]
"""Runs a script: takes its text, keys and arguments, and a callback for the reply."""


class Members:
    """Membership of one process. `count` is the number of members, including missing ones."""

    def __init__(
        self,
        run: RunScript,
        instance: str,
        lease: int,
        on_forgotten: Callable[[], None],
        *,
        hold_back_s: float = HOLD_BACK_S,
        seat: str = "",
    ) -> None:
        """Create a membership; the first heartbeat joins the group.

        `lease` is the time in microseconds for which a concurrent call counts without renewal. `on_forgotten` is called
        if the store has lost the previous heartbeat. `seat` is the position of this process in the fleet, which a
        replacement of the process takes over; "" if the process has none.
        """
        self._run = run
        self._instance = instance
        self._lease = lease
        self._on_forgotten = on_forgotten
        self._hold_back = int(hold_back_s * US_PER_S)
        self._seat = seat
        self._due: dict[str, tuple[int, float]] = {"caller": (0, 0.0)}
        """For each side, when the next heartbeat is due (Redis clock), and when the last reply arrived (local clock)."""
        self._sent_divisor = 1
        self._has_left = False
        self._last_divisor, self._returning_until = 1, 0.0
        self.count = 1
        self.missing = 0
        """Number of members that stopped responding."""

    @property
    def divisor(self) -> int:
        """Divisor that this process applies to limits during an outage: at least the one recorded in the store.

        Just after an outage it is also at least that of the outage, because other members may not have returned.
        """
        return max(self.count, self._sent_divisor, self._last_divisor if monotonic() < self._returning_until else 1)

    @property
    def sides(self) -> Collection[str]:
        """The sides whose limits this process uses."""
        return self._due

    def join_side(self, side: str) -> None:
        """Send heartbeats for this side as well."""
        self._due.setdefault(side, (0, 0.0))

    def on_reconnect(self, divisor: int) -> None:
        """Forget the earlier heartbeats: the next one is the first on a new connection. `divisor` was used during the outage."""
        self._last_divisor, self._returning_until = divisor, monotonic() + RETURN_S
        self._due = dict.fromkeys(self._due, (0, 0.0))

    def send_heartbeat(self, leases: dict[str, str]) -> None:
        """Send a heartbeat and renew leases. The keys of `leases` are `SET_KEY RESERVATION_ID`, and the values are reservation ids.

        Do nothing after `leave`: a heartbeat would join the group again.
        """
        if self._has_left:
            return
        self._sent_divisor = self.count
        for side, (due, since) in self._due.items():
            own = {key: id for key, id in leases.items() if side_of(key) == side}
            keys = [members_key(side), member_info_key(side), *(key.rpartition(" ")[0] for key in own)]
            waited = int((monotonic() - since) * US_PER_S)
            arguments = [self._instance, self._seat, self._hold_back, self._lease, due, waited, self._sent_divisor, *own.values()]
            self._run(HEARTBEAT, keys, arguments, self._on_reply(side))

    def leave(self, on_left: Callable[[], None]) -> None:
        """Leave the group, so that the other members get the share of this process at once.

        `on_left` is called after all replies or failures.
        """
        self._has_left = True
        sides = list(self._due)

        def on_reply(reply: Any) -> None:
            sides.pop()
            if not sides:
                on_left()

        for side in tuple(sides):
            self._run(LEAVE, [members_key(side), member_info_key(side)], [self._instance, self._seat], on_reply)

    def _on_reply(self, side: str) -> Callable[[Any], None]:
        def on_reply(reply: Any) -> None:
            if not isinstance(reply, list) or self._has_left:
                return
            count, due, is_forgotten, missing = reply
            self._due[side] = due, monotonic()
            if side == "caller":
                self.count, self.missing = max(1, count), missing
                # send a changed divisor at once: if this process dies, no more than its present share is held back
                if self.count != self._sent_divisor:
                    self.send_heartbeat({})
            if is_forgotten:
                self._on_forgotten()

        return on_reply
