"""Limits that several processes share, counted in Redis: one atomic script decides everything that one tick of the event loop asks.

A decision is one round trip, and its caller waits for a future of its own: a caller who leaves takes no reply away from another. What a
settlement could not tell a Redis that is away is owed, and told when it is back; telling it twice changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateway.limits.link import DEADLINE, Link
from gateway.limits.memory import BUSY_RETRY
from gateway.limits.outage import Outage
from gateway.limits.resp import RedisAddress
from gateway.limits.scripts import ADMIT, BEAT, SETTLE
from gateway.limits.types import (
    NO_SLOT,
    NOTHING,
    SECOND,
    Costs,
    Limit,
    Refusal,
    Reservation,
    Standing,
    in_seconds,
    only,
)

LEASE = 30.0
"""Seconds after which a concurrent call of a process that died is counted no more."""
BEAT_EVERY = 1.0
LIFE = 5.0
"""Seconds without a beat after which an instance is counted no more."""
SETTLE_WITHIN = 0.005
"""Seconds that settlements wait for company; the next decision takes them along, and is made after them."""
REFUSE_FOR = 1.0
"""Longest time that a refusal is repeated without asking again."""
BUSY_FOR = 0.05
MOST_OWED = 100_000
MOST_REFUSED = 10_000
MEMBERS = "lockgate:{caller}:members"


class _Asked(msgspec.Struct, eq=False):
    """One decision that somebody waits for; `future` is None for what is charged whatever holds."""

    limits: Sequence[Limit]
    costs: Costs
    id: str
    future: asyncio.Future[Reservation | Refusal] | None


class RedisLimiter:
    """Counts in one Redis."""

    def __init__(self, address: RedisAddress, report: Callable[[str], None], *, deadline: float = DEADLINE, lease: float = LEASE) -> None:
        """`report` gets one line for each change between reachable and not."""
        self.link = Link(address, self._changed, report, deadline)
        self.outage = Outage()
        self.instance = os.urandom(8).hex()
        self.members = 1
        self.corrupt_keys = 0
        self._lease = int(lease * SECOND)
        self._asked: list[_Asked] = []
        self._settled: list[tuple[Reservation, Costs]] = []
        self._owed: dict[str, tuple[Reservation, Costs]] = {}
        self._refused: dict[str, tuple[float, int, Refusal]] = {}
        self._leases: dict[str, str] = {}
        self._settling: asyncio.TimerHandle | None = None
        self._beating: asyncio.Task[None] | None = None
        self._beats = 0

    async def start(self) -> None:
        """Reach Redis; when it is away, limits follow their outage mode until it comes."""
        await self.link.start()
        self._beating = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """Tell what is settled, then let go."""
        if self._beating is not None:
            self._beating.cancel()
        if self._settling is not None:
            self._settling.cancel()
        if self.link.up and (self._settled or self._owed):
            told = asyncio.Event()
            self._tell(told.set)
            await told.wait()
        await self.link.stop()

    async def admit(self, limits: Sequence[Limit], costs: Costs, id: str) -> Reservation | Refusal:
        """Reserve `costs` in all limits, or in none."""
        if self._refused:
            refused = self._refused_before(limits, costs)
            if refused is not None:
                return refused
        if not self.link.up:
            return self.outage.decide(limits, costs, id)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reservation | Refusal] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._flush)
        self._asked.append(_Asked(limits, costs, id, future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and isinstance(found := future.result(), Reservation):
                self.settle(found, NOTHING)  # decided in the very moment that its caller left
            raise

    def settle(self, reservation: Reservation, actual: Costs) -> None:
        """Replace what was reserved by what was used, once."""
        if reservation.degraded and self.outage.settle(reservation, actual):
            return
        for limit in reservation.limits:
            if limit.slot == NO_SLOT:
                self._leases.pop(f"{limit.key} {reservation.id}", None)
            self._refused.pop(limit.key, None)
        if not self.link.up:
            self._owe(reservation, actual)
            return
        self._settled.append((reservation, actual))
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(SETTLE_WITHIN, self._tell)

    def _refused_before(self, limits: Sequence[Limit], costs: Costs) -> Refusal | None:
        """A refusal of this process's recent memory: a flood of refused calls asks Redis nothing."""
        now = time.monotonic()
        for limit in limits:
            known = self._refused.get(limit.key)
            if known is None:
                continue
            if now >= known[0]:
                del self._refused[limit.key]
            elif getattr(costs, limit.kind) >= known[1]:
                refusal = known[2]
                if refusal.retry_after is None or limit.slot == NO_SLOT:
                    return refusal
                left = known[0] - now + refusal.retry_after - min(refusal.retry_after, REFUSE_FOR)
                return msgspec.structs.replace(refusal, retry_after=max(left, 0.001))
        return None

    def _flush(self) -> None:
        """Everything asked in this tick, as one script call."""
        asked, self._asked = self._asked, []
        if self._settled:
            self._tell()
        keys: list[str] = []
        arguments: list[Any] = [len(asked)]
        for one in asked:
            keys.append(_reservation_key(one.limits[0], one.id))
            arguments += (one.id, len(one.limits), 0 if one.future is not None else 1)
            for limit in one.limits:
                keys.append(limit.key)
                ttl = self._lease if limit.slot == NO_SLOT else limit.ttl
                arguments += (limit.slot, limit.slots, limit.amount, getattr(one.costs, limit.kind), ttl)
        self.link.run(ADMIT, keys, arguments, lambda reply: self._answer(asked, reply))

    def _answer(self, asked: list[_Asked], reply: Any) -> None:
        if isinstance(reply, Exception):
            for one in asked:
                self._unanswered(one)
            return
        for one, found in zip(asked, reply, strict=True):
            if found[0] < 0:
                self.corrupt_keys += 1
                self._unanswered(one)
                continue
            decision = self._read(one, found)
            if one.future is None:
                continue
            if not one.future.done():
                one.future.set_result(decision)
            elif isinstance(decision, Reservation):  # its caller left meanwhile
                self.settle(decision, NOTHING)

    def _unanswered(self, one: _Asked) -> None:
        """Nobody knows whether Redis charged it: should it have, that is taken back; and the outage mode decides."""
        self._owe(Reservation(one.id, one.limits, one.costs, (), (), 0), NOTHING)
        if one.future is not None and not one.future.done():
            one.future.set_result(self.outage.decide(one.limits, one.costs, one.id + "~"))

    def _owe(self, reservation: Reservation, actual: Costs) -> None:
        if len(self._owed) < MOST_OWED:
            self._owed.setdefault(reservation.id, (reservation, actual))
        else:
            self.link.count("forgotten")

    def _read(self, one: _Asked, found: list[int]) -> Reservation | Refusal:
        """A decision as the script wrote it."""
        status, now, index, wait, *pairs = found
        standings: list[Standing] = []
        slots: list[int] = []
        for at, limit in enumerate(one.limits):
            left, slot = pairs[2 * at], pairs[2 * at + 1]
            reset = in_seconds(limit.empty_at(slot), now) if slot != NO_SLOT and left < limit.amount else 0.0
            standings.append(Standing(limit, max(0, left), reset))
            slots.append(slot)
            self.outage.see(limit, left, slot)
        if status == 1:
            if one.future is not None:
                self._hold(one.limits, one.id)
            return Reservation(one.id, one.limits, one.costs, slots, standings, now)
        limit = one.limits[index - 1]
        refusal = Refusal(limit, _seconds(limit, wait, slots[index - 1], now), standings, now)
        if refusal.retry_after is not None and len(self._refused) < MOST_REFUSED:
            until = time.monotonic() + min(refusal.retry_after, BUSY_FOR if limit.slot == NO_SLOT else REFUSE_FOR)
            self._refused[limit.key] = (until, getattr(one.costs, limit.kind), refusal)
        return refusal

    def _hold(self, limits: Sequence[Limit], id: str) -> None:
        """Keep the leases of a call alive until it is settled."""
        for limit in limits:
            if limit.slot == NO_SLOT:
                self._leases[f"{limit.key} {id}"] = id

    def _tell(self, then: Callable[[], Any] | None = None) -> None:
        """Everything settled since the last time, as one script call."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        settled, self._settled = self._settled, []
        if self._owed and self.link.up:
            settled += self._owed.values()
            self._owed.clear()
        keys: list[str] = []
        arguments: list[Any] = [len(settled)]
        for reservation, actual in settled:
            keys.append(_reservation_key(reservation.limits[0], reservation.id))
            arguments += (reservation.id, len(reservation.limits))
            for limit in reservation.limits:
                keys.append(limit.key)
                arguments += (limit.slot, limit.slots, getattr(actual, limit.kind), limit.ttl)

        def told(reply: Any) -> None:
            if isinstance(reply, Exception):
                for reservation, actual in settled:
                    self._owe(reservation, actual)
            if then is not None:
                then()

        if settled:
            self.link.run(SETTLE, keys, arguments, told)
        elif then is not None:
            then()

    def _changed(self, up: bool) -> None:
        """An outage begins, or is over: then what was used meanwhile is told before anything else is asked."""
        self._refused.clear()
        if not up:
            self.outage.begin(self.members)
            return
        self._tell()
        used, held = self.outage.recover()
        self._asked += [_Asked([limit], only(limit, amount), f"{self.instance}:{os.urandom(6).hex()}", None) for limit, amount in used]
        self._asked += [_Asked(one.limits, one.costs, one.id, None) for one in held]
        for one in held:
            self._hold(one.limits, one.id)
        if self._asked:
            self._flush()
        self._send_beat(renew=True)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_EVERY)
            self._beats += 1
            renew_every = max(1, round(self._lease / SECOND / 3 / BEAT_EVERY))
            if self.link.up:
                self._send_beat(renew=self._beats % renew_every == 0)

    def _send_beat(self, *, renew: bool) -> None:
        """Say that this instance lives, and that its calls do."""
        leases = self._leases if renew else {}
        keys = [MEMBERS, *(key.rpartition(" ")[0] for key in leases)]

        def counted(reply: Any) -> None:
            if isinstance(reply, int):
                self.members = max(1, reply)

        self.link.run(BEAT, keys, [self.instance, int(LIFE * SECOND), self._lease, *leases.values()], counted)


def _reservation_key(limit: Limit, id: str) -> str:
    """In the same hash slot as the limits it is about."""
    return f"{limit.key.partition('}')[0]}}}:r:{id}"


def _seconds(limit: Limit, wait: int, slot: int, now: int) -> float | None:
    """A script's wait as seconds."""
    if wait == -2:
        return None
    if wait == -3:
        return BUSY_RETRY
    return in_seconds(limit.empty_at(slot), now) if wait == -1 else wait / SECOND
