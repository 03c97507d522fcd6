"""Limits that several processes share. Their usage is counted in Redis.

The decisions requested in one iteration of the event loop take at most one atomic script run for limits of callers and one for limits
of targets. Each caller waits for a future of its own, so that a caller that disconnects never consumes the reply of another. Settlements
that fail are kept and sent again when Redis is available; settling twice changes nothing. When Redis becomes available again or has lost
data, each process first sends its settlements, settled spend, open reservations and lost charges to windows again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any

from gateway.config.redis_address import RedisAddress
from gateway.store import script_args
from gateway.store.amount_leases import MAX_TOGETHER, AmountLeases, LeaseRequest
from gateway.store.budget_sync import BudgetSync
from gateway.store.connections import DECISION_TIMEOUT_S, RedisConnections
from gateway.store.decision_reply import read_decision, status_of
from gateway.store.decision_waiter import DecisionWaiter, wait_for_decision
from gateway.store.gathering import Gathering
from gateway.store.limit import NO_COSTS, NO_SLOT, US_PER_S, Costs, Limit, LimitUsage, Refusal, Reservation
from gateway.store.limit_set import limit_set
from gateway.store.limit_usage import usage_over
from gateway.store.members import HOLD_BACK_S, Members
from gateway.store.memory import steady_now
from gateway.store.outage import OutageLimiter
from gateway.store.recent_refusals import RecentRefusals
from gateway.store.restore import admitted_again, note_readmission, send_lost
from gateway.store.runs import Runs
from gateway.store.script_args import PendingDecision, batches, group_by_side
from gateway.store.scripts import ADMIT
from gateway.store.settled_spend import SettledSpend
from gateway.store.settlements import SETTLE_DELAY_S, Settlements
from gateway.store.upkeep import Upkeep
from gateway.store.usage_replay import UsageReplay
from gateway.store.window_usage import WindowUsage

LEASE_S = 30.0
"""Time after which the concurrent calls of a dead process no longer count."""


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
        window_usage: WindowUsage | None = None,
        hold_back_s: float = HOLD_BACK_S,
        seat: str = "",
    ) -> None:
        """Create a limiter; `start` connects.

        `report` receives one line at the start of an outage and one at its end. `hold_back_s` is how long other
        processes hold back the share of this process after it stops responding. `seat` is the position of this process
        in the fleet, which a replacement of the process takes over.
        """
        self.settled_spend = settled_spend if settled_spend is not None else SettledSpend(os.urandom(8).hex())
        self.outage = OutageLimiter(self.settled_spend)
        self.instance = self.settled_spend.incarnation
        self._runs = Runs(self.instance, window_usage if window_usage is not None else WindowUsage(self.instance))
        self.connections = RedisConnections(address, self._on_connection_change, report, timeout_s, self._runs.prepare)
        self.corrupt_keys = 0
        self.on_sync: Callable[[bool], None] = lambda may_be_lost: None
        """Called when usage may be published to the store. The argument is True if the store may have lost data."""
        self._lease = int(lease_s * US_PER_S)
        self._members = Members(self.connections.run, self.instance, self._lease, self._resend_state, hold_back_s=hold_back_s, seat=seat)
        self._usage_replay = UsageReplay(self.connections.run, self._runs)
        self._budget_sync = BudgetSync(self.connections.run, self.settled_spend)
        self._queued: dict[str, list[PendingDecision]] = {}
        self._in_flight = 0
        self._settlements = Settlements(self.connections, self._runs, self.settled_spend)
        self._open: dict[str, Reservation] = {}
        self._unanswered_forced: list[tuple[PendingDecision, int]] = []
        """Decisions to charge calls that have ended, and the numbers of their runs, which got no reply."""
        self._refusals = RecentRefusals()
        self.amount_leases = AmountLeases(self, self.outage.last_remaining)
        self._leases: dict[str, str] = {}
        self.decides = False
        """Whether Redis decides on calls. If Redis is unavailable or has just lost data, outage modes apply instead."""
        self._noticed_losses = 0
        self._gathering = Gathering(self.connections.run, self._report_usage, self._share_decisions)
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
        upkeep = Upkeep(self.connections, self._runs, self._members, self._budget_sync, self._settlements)
        running = upkeep.run(self._leases, self._lease, lambda: self._in_flight > 0, lambda: self.on_sync(False))
        self._heartbeat_task = asyncio.create_task(running)

    async def stop(self) -> None:
        """Report all usage, return what is reserved for further calls, leave the group and disconnect.

        If Redis is unavailable, it counts as used what this process has reserved.
        """
        if self._heartbeat_task is not None:
            self._heartbeat_task.cancel()
        self._gathering.cancel()
        if self._settlements.timer is not None:
            self._settlements.timer.cancel()
        self.amount_leases.stop()
        self._flush()
        await self.connections.replies()  # some callers have left, so what they get is given back
        if self.connections.up:
            if not self.decides:
                self._report_usage()
            self.amount_leases.settle_closed()
            self._settlements.send()
            await self.connections.replies()
        while self.connections.up and self._usage_replay.is_sending:
            await self.connections.replies()
        if self.connections.up:
            has_left = asyncio.Event()
            self._members.leave(has_left.set)
            await has_left.wait()
        self._runs.fold(everything=True)
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
        limits = limit_set(limits)
        if self._refusals.by_limit and not force and (refused := self._refusals.find(limits, costs)) is not None:
            return refused
        if not self.decides:
            return self.outage.decide(limits, costs, id)
        if not force and id not in self._open and (admitted := self.amount_leases.admit(limits, costs, id)) is not None:
            return admitted
        if not self._queued:
            asyncio.get_running_loop().call_soon(self.connections.run_together, self._flush)
        queue = self._queued.setdefault(limits.side, [])
        queue.append(PendingDecision(limits, costs, id, waiter, force=force))
        if not force and len(queue) <= MAX_TOGETHER:
            self.amount_leases.watch(limits, costs)
        return None

    def reserve_open(self, calls: Sequence[Reservation]) -> None:
        """Reserve the amounts of calls in flight, even if limits are exceeded."""
        for call in calls:
            self._track(call)
        self._charge_again(admitted_again(calls))

    def give_back(self, decision: Reservation | Refusal) -> None:
        """Undo a reservation whose caller has disconnected."""
        if isinstance(decision, Reservation):
            self.settle(decision, NO_COSTS)

    async def usage(self, limits: Sequence[Limit]) -> list[LimitUsage]:
        """Return the usage of limits without charging them. Raise StoreUnavailableError if the store fails."""
        self.amount_leases.end_under(limits)
        self._settlements.send()
        return await usage_over(self.connections.run, limits, self.settled_spend)

    def settle(self, reservation: Reservation, actual: Costs) -> None:
        """Replace the reserved amounts with the used amounts, once."""
        if self.amount_leases.settle(reservation, actual):
            return
        known = self._open.pop(reservation.id, None)
        if reservation.degraded and self.outage.settle(reservation, actual):
            self.settled_spend.add_usage(reservation, actual)
            return
        if known is None:
            return
        limits = limit_set(known.limits)
        if limits.has_budgets:
            self.settled_spend.add_usage(known, actual)
            self._budget_sync.track(known, -1)
        if limits.has_leases:
            for limit in limits:
                self._leases.pop(f"{limit.key} {known.id}", None)
        if self._refusals.by_limit:
            self._refusals.forget(limits)
        if not self.decides:
            self.outage.call_ended(known)
        if not self.connections.up:
            if not known.run:  # the store has not confirmed that it has charged this call again
                self._unanswered_forced.append((PendingDecision(known.limits, known.costs, known.id, held=known), 0))
            self._settlements.defer(known, actual)
            return
        settlements = self._settlements
        settlements.new.append((known, actual))
        if settlements.timer is None:
            settlements.timer = asyncio.get_running_loop().call_later(SETTLE_DELAY_S, settlements.send)

    def _flush(self) -> None:
        """Send all queued decisions, with one script run per side."""
        queued, self._queued = self._queued, {}
        if self._settlements.new:
            self._settlements.send()
        self.amount_leases.add_asked(queued)
        for side, decisions in queued.items():
            self._members.join_side(side)
            self._send_decisions(decisions)

    def _send_decisions(self, batch: list[PendingDecision]) -> None:
        self._in_flight += 1
        side = batch[0].limits[0].side
        run = self._runs.begin(side)
        keys, arguments = script_args.admit_args(batch, self.settled_spend, self._lease, run)
        self.connections.run(ADMIT, keys, arguments, lambda reply: self._on_decisions(batch, side, run.number, reply))

    def _on_decisions(self, batch: list[PendingDecision], side: str, run: int, reply: Any) -> None:
        self._in_flight -= 1
        if isinstance(reply, Exception):
            for pending in batch:
                self._on_unanswered(pending, run)
            return
        self._runs.on_reply(side, run)
        if self.decides:
            self.outage.record_statuses(batch, reply)
        for pending, entry in zip(batch, reply, strict=True):
            if entry[0] < 0:
                self.corrupt_keys += 1
                self._on_unanswered(pending)
                continue
            decision = self._read_decision(pending, entry, run)
            if pending.future is not None:
                (self.give_back if pending.future.done() else pending.future.set_result)(decision)
        self.outage.clock_offset_us = reply[0][1] - steady_now()

    def _on_unanswered(self, pending: PendingDecision, run: int = 0) -> None:
        """Handle a decision without a reply: undo it in case Redis made it, and decide by outage modes."""
        if pending.future is None:
            if pending.id not in self._open:  # open reservations are sent again anyway
                self._unanswered_forced.append((pending, run))
            return
        self._settlements.defer(Reservation(pending.id, pending.limits, pending.costs, (), (), 0), NO_COSTS)
        if isinstance(pending.future, LeaseRequest):
            pending.future.set_result(None)
        elif not pending.future.done():
            pending.future.set_result(self.outage.decide(pending.limits, pending.costs, pending.id + "~"))

    def _read_decision(self, pending: PendingDecision, entry: list[int], run: int) -> Reservation | Refusal:
        """Convert one entry of the reply of ADMIT to a decision, and remember the decision."""
        decision = read_decision(pending, entry, run)
        if isinstance(decision, Reservation):
            if pending.held is not None:
                note_readmission(pending.held, decision.slots, run)
            if pending.future is not None and pending.id not in self._open:
                self._track(decision)
        elif decision.retry_after is not None and not isinstance(pending.future, LeaseRequest):
            self.outage.record_refusal(decision.limit, status_of(decision.statuses, decision.limit).remaining)
            self._refusals.add(pending.limits, pending.costs, decision)
        return decision

    def _track(self, reservation: Reservation) -> None:
        """Keep a reservation open, and its leases renewed, until it is settled."""
        self._open[reservation.id] = reservation
        limits = limit_set(reservation.limits)
        if limits.has_budgets:
            self._budget_sync.track(reservation)
        if limits.has_leases:
            self._leases |= {f"{limit.key} {reservation.id}": reservation.id for limit in limits if limit.slot == NO_SLOT}

    def _on_connection_change(self, up: bool) -> None:
        """Begin or end an outage. At its end, send the usage that Redis lacks before any decision is requested."""
        self._refusals.clear()
        self._gathering.cancel()
        if not up:
            if self.decides:
                lost = self.connections.errors.get("lost", 0)
                own = None
                if lost > self._noticed_losses:
                    unconfirmed = self._settlements.unconfirmed(), self._usage_replay.unconfirmed()
                    own, self._noticed_losses = self._runs.own_usage(self._open.values(), *unconfirmed), lost
                self.outage.begin(self._members.divisor, self._open.values(), own)
            self.decides = False
            self.amount_leases.end_all()
            self._settlements.defer_new()
            return
        is_gathering = self._runs.has_lost or self._gathering.is_pending
        self._members.on_reconnect(self.outage.members)
        send_lost(self._runs, self._usage_replay, self._open.values(), self._settlements.pending)
        if not is_gathering or self.outage.members == 1:
            self._share_decisions()
            return
        self._resend_state()
        self._members.send_heartbeat(self._leases)
        self._gathering.begin(self._runs.gather_until)

    def _report_usage(self) -> None:
        """Send the usage of an outage, and charge again the calls in flight."""
        usages, still_open = self.outage.recover()
        for reservation in still_open:
            self._track(reservation)
        self._usage_replay.replay(usages)
        self._resend_state()

    def _share_decisions(self) -> None:
        """Send the usage of an outage, and let Redis decide from now on."""
        self._report_usage()
        self._members.send_heartbeat(self._leases)  # last, because a heartbeat releases the share held back for this process
        self.decides = True
        self.amount_leases.settle_closed()

    def _charge_again(self, decisions: Sequence[PendingDecision]) -> None:
        """Charge calls, even if limits are exceeded. Those that are charged already do not change."""
        for side in group_by_side(decisions):
            self._members.join_side(side[0].limits[0].side)
            for batch in batches(side):
                self._send_decisions(batch)

    def _resend_state(self) -> None:
        """Send settlements, open reservations and settled spend again, because the store may have lost data."""
        self._refusals.clear()
        unanswered, self._unanswered_forced = self._unanswered_forced, []
        # a call whose run Redis has made may be settled already: if charged again, it would count twice
        self._charge_again([each for each, run in unanswered if not self._runs.was_made(each.limits[0].side, run)])
        self._charge_again(admitted_again(self._open.values()))
        self._settlements.send()  # last: some are of these calls, or of leases that these calls were part of
        self._budget_sync.publish_all()
        self.on_sync(True)
