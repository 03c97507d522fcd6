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
from gateway.store.connections import DECISION_TIMEOUT_S, RedisConnections
from gateway.store.limit import NO_COSTS, NO_SLOT, US_PER_S, Costs, Limit, LimitStatus, Refusal, Reservation, seconds_until
from gateway.store.members import HEARTBEAT_INTERVAL_S, HOLD_BACK_S, Members
from gateway.store.memory import BUSY_RETRY_S, steady_now
from gateway.store.outage import OutageLimiter
from gateway.store.resp import RedisAddress
from gateway.store.script_args import PendingDecision, Settlement, batches, group_by_side
from gateway.store.scripts import ADMIT, SETTLE
from gateway.store.settled_spend import SettledSpend
from gateway.store.usage_replay import UsageReplay

LEASE_S = 30.0
"""Seconds after which a concurrent call of a process that died is counted no more."""
SETTLE_DELAY_S = 0.005
"""Seconds that settlements wait for company; the next decision takes them along, and is made after them."""
MAX_REFUSAL_REUSE_S = 1.0
"""Longest time that a refusal is repeated without asking again."""
BUSY_REFUSAL_REUSE_S = 0.05
MAX_PENDING_SETTLEMENTS = 100_000
MAX_REMEMBERED_REFUSALS = 10_000
RENEWALS_PER_LEASE = 3
"""Times in a lease's length that it is renewed."""


class RedisLimiter:
    """Counts in one Redis."""

    def __init__(
        self,
        address: RedisAddress,
        report: Callable[[str], None],
        *,
        timeout_s: float = DECISION_TIMEOUT_S,
        lease_s: float = LEASE_S,
        settled_spend: SettledSpend | None = None,
        hold_back_s: float = HOLD_BACK_S,
        seat: str = "",
    ) -> None:
        """`report` gets one line for each change between reachable and not. `hold` is for how many seconds others leave this process its
        share when it falls silent, `seat` its place in the fleet, which the process that is started in its stead has too.
        """
        self.connections = RedisConnections(address, self._on_connection_change, report, timeout_s)
        self.settled_spend = settled_spend if settled_spend is not None else SettledSpend(os.urandom(8).hex())
        self.outage = OutageLimiter(self.settled_spend)
        self.instance = self.settled_spend.incarnation
        self.corrupt_keys = 0
        self.on_sync: Callable[[bool], None] | None = None
        """Called when other books may be told to the store; with True when it forgot."""
        self._lease = int(lease_s * US_PER_S)
        self._members = Members(self.connections.run, self.instance, self._lease, self._resend_state, hold_back_s=hold_back_s, seat=seat)
        self._usage_replay = UsageReplay(self.connections.run)
        self._budget_sync = BudgetSync(self.connections.run, self.settled_spend)
        self._queued: dict[str, list[PendingDecision]] = {}
        self._in_flight = 0
        self._settled: list[Settlement] = []
        self._pending_settlements: dict[str, Settlement] = {}
        self._open: dict[str, Reservation] = {}
        self._unanswered_forced: list[PendingDecision] = []
        self._refused: dict[str, tuple[float, int, Refusal]] = {}
        self._leases: dict[str, str] = {}
        self._settle_timer: asyncio.TimerHandle | None = None
        self._heartbeat_task: asyncio.Task[None] | None = None

    @property
    def members(self) -> int:
        """Processes that share the store."""
        return self._members.count

    @property
    def member_counts(self) -> dict[str, int]:
        """How many of them live, as far as was heard last, and how many fell silent without a goodbye."""
        missing = self._members.missing
        return {"live": self._members.count - missing, "missing": missing}

    async def start(self) -> None:
        """Reach Redis; when it is away, limits follow their outage mode until it comes."""
        await self.connections.start()
        self._heartbeat_task = asyncio.create_task(self._run_heartbeats())

    async def stop(self) -> None:
        """Tell what is settled, then let go."""
        if self._heartbeat_task is not None:
            self._heartbeat_task.cancel()
        if self._settle_timer is not None:
            self._settle_timer.cancel()
        if self.connections.up and (self._settled or self._pending_settlements):
            told = asyncio.Event()
            self._send_settlements(told.set)
            await told.wait()
        if self.connections.up:
            left = asyncio.Event()
            self._members.leave(left.set)
            await left.wait()
        await self.connections.stop()

    async def admit(self, limits: Sequence[Limit], costs: Costs, id: str) -> Reservation | Refusal:
        """Reserve `costs` in all limits, or in none."""
        if self._refused:
            refused = self._recent_refusal(limits, costs)
            if refused is not None:
                return refused
        if not self.connections.up:
            return self.outage.decide(limits, costs, id)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reservation | Refusal] = loop.create_future()
        if not self._queued:
            loop.call_soon(self._flush)
        self._queued.setdefault(limits[0].side, []).append(PendingDecision(limits, costs, id, future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and isinstance(found := future.result(), Reservation):
                self.settle(found, NO_COSTS)  # decided in the very moment that its caller left
            raise

    def settle(self, reservation: Reservation, actual: Costs) -> None:
        """Replace what was reserved by what was used, once."""
        known = self._open.pop(reservation.id, None)
        if reservation.degraded and self.outage.settle(reservation, actual):
            self._count_spend(reservation, actual)
            return
        if known is None:
            return
        self._count_spend(known, actual)
        for limit in known.limits:
            if limit.slot == NO_SLOT:
                self._leases.pop(f"{limit.key} {known.id}", None)
            self._refused.pop(limit.key, None)
        self._budget_sync.track(known, -1)
        if not self.connections.up:
            self.outage.call_ended(known)
            self._defer_settlement(known, actual)
            return
        self._settled.append((known, actual))
        if self._settle_timer is None:
            self._settle_timer = asyncio.get_running_loop().call_later(SETTLE_DELAY_S, self._send_settlements)

    def _count_spend(self, reservation: Reservation, actual: Costs) -> None:
        """Money is counted here, once; every way in which the store is told of it only repeats the sum."""
        for at, limit in enumerate(reservation.limits):
            if limit.kind == "spend":
                self.settled_spend.add(limit.key, reservation.slots[at], actual.spend)

    def _recent_refusal(self, limits: Sequence[Limit], costs: Costs) -> Refusal | None:
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
                left = known[0] - now + refusal.retry_after - min(refusal.retry_after, MAX_REFUSAL_REUSE_S)
                return msgspec.structs.replace(refusal, retry_after=max(left, 0.001))
        return None

    def _flush(self) -> None:
        """Everything asked in this tick, as one script call for each side."""
        asked, self._queued = self._queued, {}
        if self._settled:
            self._send_settlements()
        for side, some in asked.items():
            self._members.join_side(side)
            self._send_decisions(some)

    def _send_decisions(self, asked: list[PendingDecision]) -> None:
        self._in_flight += 1
        keys, arguments = encode.admit_args(asked, self.settled_spend, self._lease)
        self.connections.run(ADMIT, keys, arguments, lambda reply: self._on_decisions(asked, reply))

    def _on_decisions(self, asked: list[PendingDecision], reply: Any) -> None:
        self._in_flight -= 1
        if isinstance(reply, Exception):
            for one in asked:
                self._on_unanswered(one)
            return
        for one, found in zip(asked, reply, strict=True):
            if found[0] < 0:
                self.corrupt_keys += 1
                self._on_unanswered(one)
                continue
            decision = self._read_decision(one, found)
            if one.future is None:
                continue
            if not one.future.done():
                one.future.set_result(decision)
            elif isinstance(decision, Reservation):  # its caller left meanwhile
                self.settle(decision, NO_COSTS)
        self.outage.clock_offset_us = reply[0][1] - steady_now()

    def _on_unanswered(self, one: PendingDecision) -> None:
        """Nobody knows whether Redis charged it: should it have, that is taken back; and the outage mode decides."""
        if one.future is None:  # what is open is told again anyway when the store is back
            if one.id not in self._open:
                self._unanswered_forced.append(one)
            return
        self._defer_settlement(Reservation(one.id, one.limits, one.costs, (), (), 0), NO_COSTS)
        if not one.future.done():
            one.future.set_result(self.outage.decide(one.limits, one.costs, one.id + "~"))

    def _defer_settlement(self, reservation: Reservation, actual: Costs) -> None:
        if len(self._pending_settlements) < MAX_PENDING_SETTLEMENTS:
            self._pending_settlements.setdefault(reservation.id, (reservation, actual))
        else:
            self.connections.count_error("forgotten")

    def _read_decision(self, one: PendingDecision, found: list[int]) -> Reservation | Refusal:
        """A decision as the script wrote it."""
        status, now, index, wait, *pairs = found
        standings: list[LimitStatus] = []
        slots: list[int] = []
        for at, limit in enumerate(one.limits):
            left, slot = pairs[2 * at], pairs[2 * at + 1]
            reset = seconds_until(limit.slot_expiry(slot), now) if slot != NO_SLOT and left < limit.amount else 0.0
            standings.append(LimitStatus(limit, max(0, left), reset))
            slots.append(slot)
            self.outage.record_status(limit, left, slot)
        if status == 1:
            reservation = Reservation(one.id, one.limits, one.costs, slots, standings, now)
            if one.future is not None and one.id not in self._open:
                self._track(reservation)
            return reservation
        limit = one.limits[index - 1]
        refusal = encode.read_refusal(limit, wait, slots[index - 1], now, BUSY_RETRY_S)
        refusal = msgspec.structs.replace(refusal, standings=standings)
        if refusal.retry_after is not None and len(self._refused) < MAX_REMEMBERED_REFUSALS:
            self.outage.record_refusal(limit, standings[index - 1].remaining)
            until = time.monotonic() + min(refusal.retry_after, BUSY_REFUSAL_REUSE_S if limit.slot == NO_SLOT or refusal.busy else MAX_REFUSAL_REUSE_S)
            self._refused[limit.key] = (until, getattr(one.costs, limit.kind), refusal)
        return refusal

    def _track(self, reservation: Reservation) -> None:
        """Keep what a call reserved alive until it is settled."""
        self._open[reservation.id] = reservation
        self._budget_sync.track(reservation)
        for limit in reservation.limits:
            if limit.slot == NO_SLOT:
                self._leases[f"{limit.key} {reservation.id}"] = reservation.id

    def _send_settlements(self, then: Callable[[], Any] | None = None) -> None:
        """Everything settled since the last time, as one script call for each side."""
        if self._settle_timer is not None:
            self._settle_timer.cancel()
            self._settle_timer = None
        settled, self._settled = self._settled, []
        if self._pending_settlements and self.connections.up:
            settled += self._pending_settlements.values()
            self._pending_settlements.clear()
        parts = [part for side in group_by_side(settled) for part in batches(side)]
        left = len(parts)

        def told(part: list[Settlement], reply: Any) -> None:
            nonlocal left
            left -= 1
            if isinstance(reply, Exception):
                for reservation, actual in part:
                    self._defer_settlement(reservation, actual)
            if then is not None and not left:
                then()

        for part in parts:
            self.connections.run(SETTLE, *encode.settle_args(part, self.settled_spend), lambda reply, part=part: told(part, reply))  # type: ignore[misc]
        if then is not None and not parts:
            then()

    def _on_connection_change(self, up: bool) -> None:
        """An outage begins, or is over: then what was used meanwhile is told before anything else is asked."""
        self._refused.clear()
        if not up:
            self.outage.begin(self._members.divisor, self._open.values())
            return
        self._members.on_reconnect()
        used, held = self.outage.recover()
        for one in held:
            self._track(one)
        again, self._unanswered_forced = self._unanswered_forced, []
        self._usage_replay.replay(used)
        self._resend_state(again)
        self._members.send_heartbeat(self._leases)  # last: from here on others may use this process's share

    def _resend_state(self, more: Sequence[PendingDecision] = ()) -> None:
        """The store may have forgotten anything: tell it what was settled, what was spent, and which calls are in flight."""
        self._refused.clear()
        self._send_settlements()
        open_ = [PendingDecision(one.limits, one.costs, one.id) for one in self._open.values()]
        for side in group_by_side([*more, *open_]):
            self._members.join_side(side[0].limits[0].side)
            for part in batches(side):
                self._send_decisions(part)
        self._budget_sync.publish_all()
        if self.on_sync is not None:
            self.on_sync(True)

    async def _run_heartbeats(self) -> None:
        beats = 0
        renew_every = max(1, round(self._lease / US_PER_S / RENEWALS_PER_LEASE / HEARTBEAT_INTERVAL_S))
        publishing = self._budget_sync
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)
            beats += 1
            if not self.connections.up:
                continue
            renew = beats % renew_every == 0
            self._members.send_heartbeat(self._leases if renew else {})
            if (publishing.reserved_uncertain or (renew and publishing.has_reserved)) and not self._in_flight:
                self._send_settlements()
                publishing.publish_reserved()
            publishing.publish_settled()
            if self.on_sync is not None:
                self.on_sync(False)
