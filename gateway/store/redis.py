"""Limits that several processes share, counted in Redis: one atomic script decides everything that one tick of the event loop asks.

A decision is one round trip, and its caller waits for a future of its own: a caller who leaves takes no reply away from another. What a
settlement could not tell a Redis that is away is owed, and told when it is back; telling it twice changes nothing. When the store came
back, or forgot what it was told, every process tells again what it settled and what it holds, before it asks for anything.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateway.store import script_args as encode
from gateway.store.budget_sync import BudgetSync
from gateway.store.connections import DEADLINE, RedisConnections
from gateway.store.limit import NO_SLOT, NOTHING, SECOND, Costs, Limit, Refusal, Reservation, Standing, in_seconds
from gateway.store.members import BEAT_EVERY, HOLD, Members
from gateway.store.memory import BUSY_RETRY, steady_now
from gateway.store.outage import OutageLimiter
from gateway.store.resp import RedisAddress
from gateway.store.script_args import PendingDecision, Settlement, by_side, cut
from gateway.store.scripts import ADMIT, SETTLE
from gateway.store.settled_spend import SettledSpend
from gateway.store.usage_replay import UsageReplay

LEASE = 30.0
"""Seconds after which a concurrent call of a process that died is counted no more."""
SETTLE_WITHIN = 0.005
"""Seconds that settlements wait for company; the next decision takes them along, and is made after them."""
REFUSE_FOR = 1.0
"""Longest time that a refusal is repeated without asking again."""
BUSY_FOR = 0.05
MOST_OWED = 100_000
MOST_REFUSED = 10_000
RENEW_EVERY = 3
"""Times in a lease's length that it is renewed."""


class RedisLimiter:
    """Counts in one Redis."""

    def __init__(
        self,
        address: RedisAddress,
        report: Callable[[str], None],
        *,
        deadline: float = DEADLINE,
        lease: float = LEASE,
        spent: SettledSpend | None = None,
        hold: float = HOLD,
        seat: str = "",
    ) -> None:
        """`report` gets one line for each change between reachable and not. `hold` is for how many seconds others leave this process its
        share when it falls silent, `seat` its place in the fleet, which the process that is started in its stead has too.
        """
        self.link = RedisConnections(address, self._changed, report, deadline)
        self.spent = spent if spent is not None else SettledSpend(os.urandom(8).hex())
        self.outage = OutageLimiter(self.spent)
        self.instance = self.spent.incarnation
        self.corrupt_keys = 0
        self.told: Callable[[bool], None] | None = None
        """Called when other books may be told to the store; with True when it forgot."""
        self._lease = int(lease * SECOND)
        self._members = Members(self.link.run, self.instance, self._lease, self._heal, hold=hold, seat=seat)
        self._catching_up = UsageReplay(self.link.run)
        self._publishing = BudgetSync(self.link.run, self.spent)
        self._asked: dict[str, list[PendingDecision]] = {}
        self._in_flight = 0
        self._settled: list[Settlement] = []
        self._owed: dict[str, Settlement] = {}
        self._open: dict[str, Reservation] = {}
        self._again: list[PendingDecision] = []
        self._refused: dict[str, tuple[float, int, Refusal]] = {}
        self._leases: dict[str, str] = {}
        self._settling: asyncio.TimerHandle | None = None
        self._beating: asyncio.Task[None] | None = None

    @property
    def members(self) -> int:
        """Processes that share the store."""
        return self._members.count

    @property
    def presence(self) -> dict[str, int]:
        """How many of them live, as far as was heard last, and how many fell silent without a goodbye."""
        missing = self._members.missing
        return {"live": self._members.count - missing, "missing": missing}

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
        if self.link.up:
            left = asyncio.Event()
            self._members.leave(left.set)
            await left.wait()
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
        self._asked.setdefault(limits[0].side, []).append(PendingDecision(limits, costs, id, future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and isinstance(found := future.result(), Reservation):
                self.settle(found, NOTHING)  # decided in the very moment that its caller left
            raise

    def settle(self, reservation: Reservation, actual: Costs) -> None:
        """Replace what was reserved by what was used, once."""
        known = self._open.pop(reservation.id, None)
        if reservation.degraded and self.outage.settle(reservation, actual):
            self._spend(reservation, actual)
            return
        if known is None:
            return
        self._spend(known, actual)
        for limit in known.limits:
            if limit.slot == NO_SLOT:
                self._leases.pop(f"{limit.key} {known.id}", None)
            self._refused.pop(limit.key, None)
        self._publishing.hold(known, -1)
        if not self.link.up:
            self.outage.ended(known)
            self._owe(known, actual)
            return
        self._settled.append((known, actual))
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(SETTLE_WITHIN, self._tell)

    def _spend(self, reservation: Reservation, actual: Costs) -> None:
        """Money is counted here, once; every way in which the store is told of it only repeats the sum."""
        for at, limit in enumerate(reservation.limits):
            if limit.kind == "spend":
                self.spent.add(limit.key, reservation.slots[at], actual.spend)

    def _refused_before(self, limits: Sequence[Limit], costs: Costs) -> Refusal | None:
        """A refusal of this process's recent memory: a flood of refused calls asks Redis nothing."""
        now = time.monotonic()
        for limit in limits:
            known = self._refused.get(limit.key)
            if known is None:
                continue
            if now >= known[0]:
                del self._refused[limit.key]
            elif (cost := getattr(costs, limit.kind)) >= known[1]:
                refusal = known[2]
                if limit.slot != NO_SLOT and cost > limit.amount:
                    return msgspec.structs.replace(refusal, retry_after=None)  # alone it is too much, however long it waits
                if refusal.retry_after is None or limit.slot == NO_SLOT:
                    return refusal
                left = known[0] - now + refusal.retry_after - min(refusal.retry_after, REFUSE_FOR)
                return msgspec.structs.replace(refusal, retry_after=max(left, 0.001))
        return None

    def _flush(self) -> None:
        """Everything asked in this tick, as one script call for each side."""
        asked, self._asked = self._asked, {}
        if self._settled:
            self._tell()
        for side, some in asked.items():
            self._members.join(side)
            self._ask(some)

    def _ask(self, asked: list[PendingDecision]) -> None:
        self._in_flight += 1
        keys, arguments = encode.admit(asked, self.spent, self._lease)
        self.link.run(ADMIT, keys, arguments, lambda reply: self._answer(asked, reply))

    def _answer(self, asked: list[PendingDecision], reply: Any) -> None:
        self._in_flight -= 1
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
        self.outage.ahead = reply[0][1] - steady_now()

    def _unanswered(self, one: PendingDecision) -> None:
        """Nobody knows whether Redis charged it: should it have, that is taken back; and the outage mode decides."""
        if one.future is None:  # what is open is told again anyway when the store is back
            if one.id not in self._open:
                self._again.append(one)
            return
        self._owe(Reservation(one.id, one.limits, one.costs, (), (), 0), NOTHING)
        if not one.future.done():
            one.future.set_result(self.outage.decide(one.limits, one.costs, one.id + "~"))

    def _owe(self, reservation: Reservation, actual: Costs) -> None:
        if len(self._owed) < MOST_OWED:
            self._owed.setdefault(reservation.id, (reservation, actual))
        else:
            self.link.count("forgotten")

    def _read(self, one: PendingDecision, found: list[int]) -> Reservation | Refusal:
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
            reservation = Reservation(one.id, one.limits, one.costs, slots, standings, now)
            if one.future is not None and one.id not in self._open:
                self._hold(reservation)
            return reservation
        limit = one.limits[index - 1]
        refusal = encode.refusal(limit, wait, slots[index - 1], now, BUSY_RETRY)
        refusal = msgspec.structs.replace(refusal, standings=standings)
        if refusal.retry_after is not None and len(self._refused) < MOST_REFUSED:
            self.outage.used_up(limit, standings[index - 1].remaining)
            until = time.monotonic() + min(refusal.retry_after, BUSY_FOR if limit.slot == NO_SLOT or refusal.busy else REFUSE_FOR)
            self._refused[limit.key] = (until, getattr(one.costs, limit.kind), refusal)
        return refusal

    def _hold(self, reservation: Reservation) -> None:
        """Keep what a call reserved alive until it is settled."""
        self._open[reservation.id] = reservation
        self._publishing.hold(reservation)
        for limit in reservation.limits:
            if limit.slot == NO_SLOT:
                self._leases[f"{limit.key} {reservation.id}"] = reservation.id

    def _tell(self, then: Callable[[], Any] | None = None) -> None:
        """Everything settled since the last time, as one script call for each side."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        settled, self._settled = self._settled, []
        if self._owed and self.link.up:
            settled += self._owed.values()
            self._owed.clear()
        parts = [part for side in by_side(settled) for part in cut(side)]
        left = len(parts)

        def told(part: list[Settlement], reply: Any) -> None:
            nonlocal left
            left -= 1
            if isinstance(reply, Exception):
                for reservation, actual in part:
                    self._owe(reservation, actual)
            if then is not None and not left:
                then()

        for part in parts:
            self.link.run(SETTLE, *encode.settle(part, self.spent), lambda reply, part=part: told(part, reply))  # type: ignore[misc]
        if then is not None and not parts:
            then()

    def _changed(self, up: bool) -> None:
        """An outage begins, or is over: then what was used meanwhile is told before anything else is asked."""
        self._refused.clear()
        if not up:
            self.outage.begin(self._members.parts, self._open.values())
            return
        self._members.begin()
        used, held = self.outage.recover()
        for one in held:
            self._hold(one)
        again, self._again = self._again, []
        self._catching_up.tell(used)
        self._heal(again)
        self._members.beat(self._leases)  # last: from here on others may use this process's share

    def _heal(self, more: Sequence[PendingDecision] = ()) -> None:
        """The store may have forgotten anything: tell it what was settled, what was spent, and which calls are in flight."""
        self._refused.clear()
        self._tell()
        open_ = [PendingDecision(one.limits, one.costs, one.id) for one in self._open.values()]
        for side in by_side([*more, *open_]):
            self._members.join(side[0].limits[0].side)
            for part in cut(side):
                self._ask(part)
        self._publishing.everything()
        if self.told is not None:
            self.told(True)

    async def _beat(self) -> None:
        beats = 0
        renew_every = max(1, round(self._lease / SECOND / RENEW_EVERY / BEAT_EVERY))
        publishing = self._publishing
        while True:
            await asyncio.sleep(BEAT_EVERY)
            beats += 1
            if not self.link.up:
                continue
            renew = beats % renew_every == 0
            self._members.beat(self._leases if renew else {})
            if (publishing.held_unsure or (renew and publishing.holds)) and not self._in_flight:
                self._tell()
                publishing.held()
            publishing.settled()
            if self.told is not None:
                self.told(False)
