"""Charges the usage of a long call while the call is running, so that a used-up limit ends it.

Each charge settles a small reservation and makes the next one. If a limit is used up and refuses the next reservation, the
call ends. If calls in flight only reserve the rest of the limit, the reservation is made nevertheless. At the end of the call, its first
reservation is settled with the rest of the usage, so that the sum is exact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway import accounting
from gateway.call import Attempt, Call
from gateway.errors import GatewayError
from gateway.store.limit import NO_COSTS, TOKEN_KINDS, Costs, Refusal, Reservation

if TYPE_CHECKING:
    from gateway.limits.enforce import Limits

NEXT_COSTS = Costs(0, 1, 1, 1)
"""The amounts that are reserved until the next charge: enough for a used-up limit to refuse them."""


class _Side:
    """The limits of the caller, or those of the target."""

    def __init__(self, limits: Limits, first: Reservation, *, counts_spend: bool) -> None:
        self.first = first
        self.limits = [limit for limit in first.limits if limit.kind in TOKEN_KINDS or limit.kind == "spend"]
        self._limiter = limits.limiter
        self._in_flight = limits.in_flight
        self._counts_spend = counts_spend
        self._count = 0
        self._next: Reservation | None = None

    async def charge(self, bill: accounting.Bill) -> Refusal | None:
        """Charge the part of a bill that has not been charged. Return the refusal if a limit is used up, else None."""
        if self._next is None and (refusal := await self._reserve()) is not None:
            return refusal
        if self._next is None:
            return None  # the store is unavailable: the next charge or the settlement of the call includes this one
        total = Costs(0, bill.prompt, bill.output, bill.cost if self._counts_spend else 0, bill.cached)
        done, held, self._next = self.first.charged, self._next, None
        self._settle(held, _difference(total, done))
        self.first.charged = total
        return await self._reserve()

    async def _reserve(self) -> Refusal | None:
        """Make the reservation for the next charge. Return the refusal if a limit is used up, else None."""
        self._count += 1
        id = f"{self.first.id}.c{self._count}"  # `{id}.{number}` is a reservation of the call at a target
        decision = await self._limiter.admit(self.limits, NEXT_COSTS, id)
        if isinstance(decision, Refusal) and not decision.degraded and not decision.unavailable:
            if (refusal := self._in_flight.used_up(decision)) is not None:
                return refusal
            decision = await self._limiter.admit(self.limits, NEXT_COSTS, id, force=True)
        if isinstance(decision, Reservation):
            self._next = decision
            self._in_flight.add(decision)
        return None

    def stop(self) -> None:
        """Release the reservation for the next charge."""
        if self._next is not None:
            self._settle(self._next, NO_COSTS)
            self._next = None

    def _settle(self, reservation: Reservation, used: Costs) -> None:
        self._in_flight.remove(reservation)
        self._limiter.settle(reservation, used)


class RunningCharges:
    """The charges of one running call."""

    def __init__(self, limits: Limits | None, call: Call, attempt: Attempt, of_target: Reservation | None) -> None:
        """`of_target` is the reservation under the limits of the target."""
        self.on_used_up: Callable[[GatewayError], None] = lambda error: None
        """Called at most once, with the error that describes the used-up limit."""
        self._limits = limits
        self._attempt = attempt
        self._task: asyncio.Task[None] | None = None
        self._sides: list[_Side] = []
        self._charged: accounting.Bill | None = None
        self._is_over = False
        if limits is not None:
            own = limits.budgets_count(call, attempt.target)
            pairs = ((call.reservation, own), (of_target, True))
            sides = [_Side(limits, first, counts_spend=spend) for first, spend in pairs if first is not None]
            self._sides = [side for side in sides if side.limits]

    def update(self) -> None:
        """Charge the current usage of the attempt. Updates that arrive while a charge is being made are combined into the next charge."""
        if self._sides and not self._is_over and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._charge(), name="charge")

    async def _charge(self) -> None:
        assert self._limits is not None
        while (bill := accounting.bill((self._attempt,))) is not None and bill != self._charged:
            self._charged = bill
            for side in self._sides:
                if (refusal := await side.charge(bill)) is not None:
                    self._is_over = True
                    self.on_used_up(self._limits.used_up(refusal))
                    return

    def stop(self) -> None:
        """End the charges. The settlement of the first reservation charges the remaining usage."""
        self._is_over = True
        if self._task is not None:
            self._task.cancel()
        for side in self._sides:
            side.stop()


def _difference(total: Costs, done: Costs) -> Costs:
    return Costs(
        0,
        total.prompt_tokens - done.prompt_tokens,
        total.output_tokens - done.output_tokens,
        total.spend - done.spend,
        total.cached_tokens - done.cached_tokens,
    )
