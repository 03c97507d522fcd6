"""Notices that Redis has lost data, and knows which charges of this process are missing there.

The scripts that charge windows are numbered per process and side, and each records its number in a key (`run_key`). All keys
of a side are on one node, and each script is atomic. A node that was emptied, restored from an old copy, or promoted
before it had received everything therefore contains exactly the runs up to some number. This module keeps the charges of
recent runs by their number, and the sum of older ones by slot (gateway.store.window_usage).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import Any, NamedTuple

import hiredis
import msgspec

from gateway.store.limit import US_PER_S, Costs, Limit, Reservation
from gateway.store.memory import steady_now
from gateway.store.resp import RespConnection
from gateway.store.script_args import Run, Settlement, run_key
from gateway.store.window_usage import Charge, SlotAmounts, SlotUsage, WindowUsage

RECENT_S = 2.0
"""Time for which charges are kept by the number of their run: longer than a healthy replica lags behind its master."""
MAX_RECENT = 20_000
"""Number of recent settlements above which the oldest are kept by slot only."""
SWEEP_INTERVAL_S = 60.0
"""Interval at which charges that no longer count are dropped."""
GATHER_S = 1.0
"""Time for which processes apply outage modes after a loss, while all of them notice it: longer than the heartbeat interval."""
LIMIT_TAGS = ("caller", "target")
"""The hash tags whose keys the numbered scripts write."""


class _StoredRun(NamedTuple):
    """The latest run of a process that the store contains, and its time in microseconds; zeros if there is none."""

    number: int = 0
    at: int = 0


class _Recent(NamedTuple):
    """The charges of one run: calls that it settled, and usage that it replayed."""

    number: int
    at: float
    settlements: Sequence[Settlement]
    charges: Sequence[Charge] = ()


class _Side:
    """The runs of one side."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.sent = self.acked = 0
        self.folded = 0
        """The latest run whose charges are kept by slot only."""
        self.recent: deque[_Recent] = deque()
        self.first = 1
        """The number of the first run of the connection."""
        self.stored = 0
        """The latest run that the store contained at the start of the connection."""
        self.lost_after: _StoredRun | None = None
        """The latest run that the store contains, if it has lost data that is not restored."""
        self.missing: set[str] = set()
        """Earlier incarnations whose charges the store does not contain."""


class Lost(msgspec.Struct):
    """What must be sent again: usage of windows, and settlements of calls whose admission the store still contains."""

    usages: list[SlotUsage] = []
    settlements: list[Settlement] = []


class Runs:
    """The numbered runs of one process."""

    def __init__(
        self, instance: str, windows: WindowUsage, now: Callable[[], int] = steady_now, now_s: Callable[[], float] = monotonic
    ) -> None:
        """Create the runs of a process. `now` is a clock of microseconds since 1970, `now_s` one of seconds for the age of runs."""
        self._windows = windows
        self._now = now
        self._now_s = now_s
        self._sides = {side: _Side(run_key(side, instance)) for side in LIMIT_TAGS}
        self.clock_offset_us = 0
        """Clock of the store minus the local clock, at the start of the connection."""
        self._next_sweep = 0.0
        self.gather_until = 0.0
        """Time of the event loop until which all processes apply outage modes after a loss."""

    def begin(self, side: str) -> Run:
        """Return the next run. While no run has a reply, it requires the run before it on the same connection."""
        state = self._sides[side]
        state.sent += 1
        return Run(state.key, state.sent, state.acked or (state.sent - 1 if state.sent > state.first else 0))

    def latest(self, side: str) -> Run:
        """Return the latest run with a reply, to check that the store contains it."""
        return Run(self._sides[side].key, 0, self._sides[side].acked)

    def on_reply(self, side: str, number: int, settlements: Sequence[Settlement] = (), charges: Sequence[Charge] = ()) -> None:
        """Record that the store has made a run, with the calls that it settled and the usage that it replayed."""
        state = self._sides[side]
        if number > state.acked:
            state.acked = number
        if settlements or charges:
            state.recent.append(_Recent(number, self._now_s(), settlements, charges))

    async def prepare(self, tags: Iterable[str], connection: RespConnection) -> None:
        """Find out on a new connection whether the store has lost data of these hash tags."""
        seconds, microseconds = await connection.execute("TIME")
        now = int(seconds) * US_PER_S + int(microseconds)
        self.clock_offset_us = now - self._now()
        for tag in tags:
            state = self._sides.get(tag)
            if state is None:
                continue
            stored = await _stored_run(connection, state.key)
            state.stored, state.first = stored.number, state.sent + 1
            names = [incarnation for incarnation, _ in self._windows.inherited(tag)]
            state.missing = {name for name in names if not (await _stored_run(connection, run_key(tag, name))).number}
            if stored.number < state.acked:
                ends = await _gathering_ends(connection, tag, now)  # first: if this fails, the next connection notices the loss again
                self.gather_until = max(self.gather_until, ends)
                state.lost_after, state.acked = min(stored, state.lost_after or stored), stored.number

    def take_lost(self, side: str, pending: Iterable[Settlement]) -> Lost:
        """Return what must be sent again. These charges then count as charges of the next run, so they are returned once.

        `pending` are settlements that were sent without a reply.
        """
        state, lost = self._sides[side], Lost()
        for incarnation, windows in self._windows.inherited(side):
            if incarnation in state.missing:
                lost.usages += (_usage(limit, dict(slots), incarnation) for limit, slots in windows)
        state.missing = set()
        stored, state.lost_after = state.lost_after, None
        if stored is None:
            return lost
        missing: dict[str, tuple[Limit, SlotAmounts]] = {}
        if stored.number < state.folded:
            for limit, slots in self._windows.windows(side):
                first = limit.slot_at(stored.at)
                _sum(((limit, slot, amount) for slot, amount in slots.items() if slot >= first), missing)
            state.folded = state.sent + 1
        now = self._now() + self.clock_offset_us
        kept: deque[_Recent] = deque()
        for recent in (*state.recent, _Recent(state.sent + 1, self._now_s(), list(pending))):
            if recent.number <= stored.number:
                kept.append(recent)
                continue
            again = [each for each in recent.settlements if 0 < each[0].run <= stored.number]
            settled = [each for each in recent.settlements if not 0 < each[0].run <= stored.number]
            lost.settlements += again
            _sum((charge for each in settled for charge in charges_of(*each, now)), missing)
            _sum(recent.charges, missing)
            kept.append(recent._replace(number=state.sent + 1, settlements=settled))
        state.recent = kept
        lost.usages += (_usage(limit, slots) for limit, slots in missing.values())
        return lost

    def own_usage(
        self, open_calls: Iterable[Reservation], settlements: Iterable[Settlement], charges: Iterable[Charge]
    ) -> dict[str, int]:
        """Return what this process has charged to each window.

        This includes the amounts that calls in flight reserve, and the settlements and charges that the store has not confirmed.
        """
        now, sums = self._now() + self.clock_offset_us, dict[str, tuple[Limit, SlotAmounts]]()
        for side, state in self._sides.items():
            for limit, slots in self._windows.windows(side):
                sums[limit.key] = limit, dict(slots)
            for recent in state.recent:
                _sum((charge for each in recent.settlements for charge in charges_of(*each, now)), sums)
                _sum(recent.charges, sums)
        for each in open_calls:
            _sum(charges_of(each, each.costs, now), sums)
        _sum((charge for each in settlements for charge in charges_of(*each, now)), sums)
        _sum(charges, sums)
        return {
            key: sum(amount for slot, amount in slots.items() if slot >= limit.slot_at(now) - limit.slots)
            for key, (limit, slots) in sums.items()
        }

    @property
    def has_lost(self) -> bool:
        """Whether the store has lost data of this process that is not restored."""
        return any(state.lost_after is not None for state in self._sides.values())

    def was_made(self, side: str, number: int) -> bool:
        """Return whether the store has made a run, according to what it contained at the start of the connection."""
        return 0 < number <= self._sides[side].stored

    def lost_after(self, side: str) -> int | None:
        """Return the latest run that the store contains, or None if it has lost nothing."""
        stored = self._sides[side].lost_after
        return None if stored is None else stored.number

    def is_new(self, side: str) -> bool:
        """Return whether the store has made no run of this process."""
        return not self._sides[side].acked

    def fold(self, *, everything: bool = False) -> None:
        """Keep the charges of older runs by slot only. Call this while the store is available."""
        until = self._now_s() - RECENT_S
        now = self._now() + self.clock_offset_us
        for state in self._sides.values():
            count = sum(len(recent.settlements) for recent in state.recent)
            while state.recent and (everything or count > MAX_RECENT or state.recent[0].at < until):
                recent = state.recent.popleft()
                count -= len(recent.settlements)
                state.folded = recent.number
                self._windows.add([charge for each in recent.settlements for charge in charges_of(*each, now)])
                self._windows.add(recent.charges)
        if until > self._next_sweep:
            self._next_sweep = until + SWEEP_INTERVAL_S
            self._windows.drop_past(now)


def charges_of(reservation: Reservation, actual: Costs, now: int) -> Iterator[Charge]:
    """Yield what a settled call charged to windows. If the slot of its admission has expired, this is the excess over its reservation."""
    for index, limit in enumerate(reservation.limits):
        if limit.slots and reservation.slots:
            amount, slot, current = getattr(actual, limit.kind), reservation.slots[index], now // limit.slot
            if slot < 0:
                slot = current
            elif slot < current - limit.slots:
                amount, slot = max(0, amount - getattr(reservation.costs, limit.kind)), current
            if amount:
                yield limit, slot, amount


def _sum(charges: Iterable[Charge], sums: dict[str, tuple[Limit, SlotAmounts]]) -> None:
    for limit, slot, amount in charges:
        slots = sums.setdefault(limit.key, (limit, {}))[1]
        slots[slot] = slots.get(slot, 0) + amount


def _usage(limit: Limit, slots: SlotAmounts, instance: str = "") -> SlotUsage:
    """Return usage to replay. Usage of an earlier incarnation has a fixed id, because it is the same at each attempt."""
    if instance:
        return SlotUsage(limit, slots, f"used:{instance}:{limit.key}", instance=instance, is_known=True)
    return SlotUsage(limit, slots, is_known=True)


async def _stored_run(connection: RespConnection, key: str) -> _StoredRun:
    try:
        number, at = await connection.execute("HMGET", key, "n", "at")
        return _StoredRun(int(number), int(float(at)))
    except (TypeError, ValueError):
        return _StoredRun()
    except hiredis.ReplyError as error:
        if str(error).startswith("WRONGTYPE"):
            return _StoredRun()
        raise


def lost_key(tag: str) -> str:
    """Return the key with the time at which a process first noticed the latest loss."""
    return f"lockgate:{{{tag}}}:lost"


async def _gathering_ends(connection: RespConnection, tag: str, now: int) -> float:
    """Return the time of the event loop at which Redis decides again for all processes that have noticed a loss."""
    key = lost_key(tag)
    await connection.execute("SET", key, now, "NX", "PX", int(GATHER_S * 1000))
    try:
        known: Any = await connection.execute("GET", key)
    except hiredis.ReplyError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        known = await connection.execute("DEL", key) and None  # a value of another program
    began = int(known) if known is not None and known.isdigit() else now
    return asyncio.get_running_loop().time() + GATHER_S - max(0, now - began) / US_PER_S
