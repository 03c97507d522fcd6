"""Limits that several processes share. Their usage is counted in Redis.

The decisions requested in one iteration of the event loop take at most one atomic script run for limits of callers and one for limits
of targets. Each caller waits for a future of its own, so that a caller that disconnects never consumes the reply of another. Settlements
that fail are kept and sent again when Redis is available; settling twice changes nothing. When Redis becomes available again or has lost
data, each process first sends its settlements, settled spend and open reservations again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from gateway.config.redis_address import RedisAddress
from gateway.store import script_args
from gateway.store.budget_sync import BudgetSync
from gateway.store.connections import DECISION_TIMEOUT_S, RedisConnections
from gateway.store.decision_waiter import DecisionWaiter, wait_for_decision
from gateway.store.limit import NO_COSTS, NO_SLOT, US_PER_S, Costs, Limit, LimitStatus, LimitUsage, Refusal, Reservation
from gateway.store.limit_usage import usage_over
from gateway.store.members import HEARTBEAT_INTERVAL_S, HOLD_BACK_S, Members
from gateway.store.memory import BUSY_RETRY_S, steady_now
from gateway.store.outage import OutageLimiter
from gateway.store.recent_refusals import RecentRefusals
from gateway.store.script_args import PendingDecision, Settlement, batches, group_by_side
from gateway.store.scripts import ADMIT, SETTLE
from gateway.store.settled_spend import SettledSpend
from gateway.store.usage_replay import UsageReplay

LEASE_S = 30.0
"""Time after which the concurrent calls of a dead process no longer count."""
SETTLE_DELAY_S = 0.005
"""Time for which settlements are collected before they are sent. A decision sends collected settlements first."""
MAX_PENDING_SETTLEMENTS = 100_000
RENEWALS_PER_LEASE = 3
"""Number of renewals within the length of a lease."""


class RedisLimiter:
    """Enforces limits on usage that Redis counts, or applies outage modes while Redis is unavailable."""

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
        """Create a limiter; `start` connects.

        `report` receives one line at the start of an outage and one at its end. `hold_back_s` is how long other
        processes hold back the share of this process after it stops responding. `seat` is the position of this process
        in the fleet, which a replacement of the process takes over.
        """
        self.connections = RedisConnections(address, self._on_connection_change, report, timeout_s)
        self.settled_spend = settled_spend if settled_spend is not None else SettledSpend(os.urandom(8).hex())
        self.outage = OutageLimiter(self.settled_spend)
        self.instance = self.settled_spend.incarnation
        self.corrupt_keys = 0
        self.on_sync: Callable[[bool], None] | None = None
        """Called when usage may be published to the store. The argument is True if the store may have lost data."""
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
        self._refusals = RecentRefusals()
        self._leases: dict[str, str] = {}
        self._settle_timer: asyncio.TimerHandle | None = None
        self._heartbeat_task: asyncio.Task[None] | None = None

    @property
    def members(self) -> int:
        """Number of processes that share the store, including missing ones."""
        return self._members.count

    @property
    def member_counts(self) -> dict[str, int]:
        """The numbers of live and of missing members at the last heartbeat."""
        missing = self._members.missing
        return {"live": self._members.count - missing, "missing": missing}

    async def start(self) -> None:
        """Connect to Redis. While Redis is unavailable, outage modes apply."""
        await self.connections.start()
        self._heartbeat_task = asyncio.create_task(self._run_heartbeats())

    async def stop(self) -> None:
        """Send pending settlements, leave the group and disconnect."""
        if self._heartbeat_task is not None:
            self._heartbeat_task.cancel()
        if self._settle_timer is not None:
            self._settle_timer.cancel()
        if self.connections.up and (self._settled or self._pending_settlements):
            is_sent = asyncio.Event()
            self._send_settlements(is_sent.set)
            await is_sent.wait()
        if self.connections.up:
            has_left = asyncio.Event()
            self._members.leave(has_left.set)
            await has_left.wait()
        await self.connections.stop()

    async def admit(self, limits: Sequence[Limit], costs: Costs, id: str, *, force: bool = False) -> Reservation | Refusal:
        """Reserve `costs` under all limits or under none. With `force`, reserve even if a limit is exceeded."""
        future: asyncio.Future[Reservation | Refusal] = asyncio.get_running_loop().create_future()
        decision = self.request(limits, costs, id, future, force=force)
        return decision if decision is not None else await wait_for_decision(future, self.give_back)

    def request(
        self, limits: Sequence[Limit], costs: Costs, id: str, waiter: DecisionWaiter, *, force: bool = False
    ) -> Reservation | Refusal | None:
        """Do what `admit` does. Return None if `waiter` receives the decision."""
        if self._refusals.by_limit and not force and (refused := self._refusals.find(limits, costs)) is not None:
            return refused
        if not self.connections.up:
            return self.outage.decide(limits, costs, id)
        if not self._queued:
            asyncio.get_running_loop().call_soon(self.connections.run_together, self._flush)
        self._queued.setdefault(limits[0].side, []).append(PendingDecision(limits, costs, id, waiter, force))
        return None

    def give_back(self, decision: Reservation | Refusal) -> None:
        """Undo a reservation whose caller has disconnected."""
        if isinstance(decision, Reservation):
            self.settle(decision, NO_COSTS)

    async def usage(self, limits: Sequence[Limit]) -> list[LimitUsage]:
        """Return the usage of limits without charging them. Raise StoreUnavailableError if the store fails."""
        self._send_settlements()
        return await usage_over(self.connections.run, limits, self.settled_spend)

    def settle(self, reservation: Reservation, actual: Costs) -> None:
        """Replace the reserved amounts with the used amounts, once."""
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
            self._refusals.forget(limit)
        self._budget_sync.track(known, -1)
        if not self.connections.up:
            self.outage.call_ended(known)
            self._defer_settlement(known, actual)
            return
        self._settled.append((known, actual))
        if self._settle_timer is None:
            self._settle_timer = asyncio.get_running_loop().call_later(SETTLE_DELAY_S, self._send_settlements)

    def _count_spend(self, reservation: Reservation, actual: Costs) -> None:
        """Add to the settled spend. The store receives only the total, so each amount is counted exactly once, here."""
        for index, limit in enumerate(reservation.limits):
            if limit.kind == "spend":
                self.settled_spend.add(limit.key, reservation.slots[index], actual.spend)

    def _flush(self) -> None:
        """Send all queued decisions, with one script run per side."""
        queued, self._queued = self._queued, {}
        if self._settled:
            self._send_settlements()
        for side, decisions in queued.items():
            self._members.join_side(side)
            self._send_decisions(decisions)

    def _send_decisions(self, batch: list[PendingDecision]) -> None:
        self._in_flight += 1
        keys, arguments = script_args.admit_args(batch, self.settled_spend, self._lease)
        self.connections.run(ADMIT, keys, arguments, lambda reply: self._on_decisions(batch, reply))

    def _on_decisions(self, batch: list[PendingDecision], reply: Any) -> None:
        self._in_flight -= 1
        if isinstance(reply, Exception):
            for pending in batch:
                self._on_unanswered(pending)
            return
        for pending, entry in zip(batch, reply, strict=True):
            if entry[0] < 0:
                self.corrupt_keys += 1
                self._on_unanswered(pending)
                continue
            decision = self._read_decision(pending, entry)
            if pending.future is not None:
                (self.give_back if pending.future.done() else pending.future.set_result)(decision)
        self.outage.clock_offset_us = reply[0][1] - steady_now()

    def _on_unanswered(self, pending: PendingDecision) -> None:
        """Handle a decision without a reply: undo it in case Redis made it, and decide by outage modes."""
        if pending.future is None:
            if pending.id not in self._open:  # open reservations are sent again anyway
                self._unanswered_forced.append(pending)
            return
        self._defer_settlement(Reservation(pending.id, pending.limits, pending.costs, (), (), 0), NO_COSTS)
        if not pending.future.done():
            pending.future.set_result(self.outage.decide(pending.limits, pending.costs, pending.id + "~"))

    def _defer_settlement(self, reservation: Reservation, actual: Costs) -> None:
        if len(self._pending_settlements) < MAX_PENDING_SETTLEMENTS:
            self._pending_settlements.setdefault(reservation.id, (reservation, actual))
        else:
            self.connections.count_error("forgotten")

    def _read_decision(self, pending: PendingDecision, entry: list[int]) -> Reservation | Refusal:
        """Convert one entry of the reply of ADMIT to a decision."""
        status, now, *triples = entry
        reserved = triples[3 * len(pending.limits) :] or [-1] * len(pending.limits)
        statuses: list[LimitStatus] = []
        slots: list[int] = []
        for index, limit in enumerate(pending.limits):
            remaining, slot = triples[3 * index : 3 * index + 2]
            reset = limit.reset_s(slot, now) if slot != NO_SLOT and remaining < limit.amount else 0.0
            held = reserved[index] if reserved[index] >= 0 else None
            statuses.append(LimitStatus(limit, max(0, remaining), reset, held, -remaining if remaining < 0 else 0))
            slots.append(slot)
            self.outage.record_status(limit, remaining, slot)
        if status == 1:
            reservation = Reservation(pending.id, pending.limits, pending.costs, slots, statuses, now)
            if pending.future is not None and pending.id not in self._open:
                self._track(reservation)
            return reservation
        refusal = script_args.read_refusal(pending.limits, slots, triples[2 : 3 * len(slots) : 3], now, BUSY_RETRY_S)
        refusal, limit = msgspec.structs.replace(refusal, statuses=statuses), refusal.limit
        if refusal.retry_after is not None:
            self.outage.record_refusal(limit, statuses[list(pending.limits).index(limit)].remaining)
            self._refusals.add(pending.limits, pending.costs, refusal)
        return refusal

    def _track(self, reservation: Reservation) -> None:
        """Keep a reservation open, and its leases renewed, until it is settled."""
        self._open[reservation.id] = reservation
        self._budget_sync.track(reservation)
        for limit in reservation.limits:
            if limit.slot == NO_SLOT:
                self._leases[f"{limit.key} {reservation.id}"] = reservation.id

    def _send_settlements(self, on_sent: Callable[[], Any] | None = None) -> None:
        """Send new and failed settlements, batched by side. `on_sent` is called after all replies or failures."""
        if self._settle_timer is not None:
            self._settle_timer.cancel()
            self._settle_timer = None
        settled, self._settled = self._settled, []
        if self._pending_settlements and self.connections.up:
            settled += self._pending_settlements.values()
            self._pending_settlements.clear()
        to_send = [batch for side in group_by_side(settled) for batch in batches(side)]
        in_flight = len(to_send)

        def on_reply(batch: list[Settlement], reply: Any) -> None:
            nonlocal in_flight
            in_flight -= 1
            if isinstance(reply, Exception):
                for reservation, actual in batch:
                    self._defer_settlement(reservation, actual)
            if on_sent is not None and not in_flight:
                on_sent()

        for batch in to_send:
            keys, arguments = script_args.settle_args(batch, self.settled_spend)
            self.connections.run(SETTLE, keys, arguments, partial(on_reply, batch))
        if on_sent is not None and not to_send:
            on_sent()

    def _on_connection_change(self, up: bool) -> None:
        """Begin or end an outage. At the end, replay the recorded usage before any decision is requested."""
        self._refusals.clear()
        if not up:
            self.outage.begin(self._members.divisor, self._open.values())
            return
        self._members.on_reconnect()
        usages, still_open = self.outage.recover()
        for reservation in still_open:
            self._track(reservation)
        unanswered, self._unanswered_forced = self._unanswered_forced, []
        self._usage_replay.replay(usages)
        self._resend_state(unanswered)
        self._members.send_heartbeat(self._leases)  # last, because a heartbeat releases the share held back for this process

    def _resend_state(self, unanswered: Sequence[PendingDecision] = ()) -> None:
        """Send settlements, open reservations and settled spend again, because the store may have lost data."""
        self._refusals.clear()
        self._send_settlements()
        forced = [PendingDecision(reservation.limits, reservation.costs, reservation.id) for reservation in self._open.values()]
        for side in group_by_side([*unanswered, *forced]):
            self._members.join_side(side[0].limits[0].side)
            for batch in batches(side):
                self._send_decisions(batch)
        self._budget_sync.publish_all()
        if self.on_sync is not None:
            self.on_sync(True)

    async def _run_heartbeats(self) -> None:
        count = 0
        renew_every = max(1, round(self._lease / US_PER_S / RENEWALS_PER_LEASE / HEARTBEAT_INTERVAL_S))
        budget_sync = self._budget_sync
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)
            count += 1
            if not self.connections.up:
                continue
            renew = count % renew_every == 0
            self._members.send_heartbeat(self._leases if renew else {})
            if (budget_sync.reserved_uncertain or (renew and budget_sync.has_reserved)) and not self._in_flight:
                self._send_settlements()
                budget_sync.publish_reserved()
            budget_sync.publish_settled()
            if self.on_sync is not None:
                self.on_sync(False)
