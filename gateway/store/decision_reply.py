"""Reads the reply of the script ADMIT."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.store.limit import NO_SLOT, Limit, LimitStatus, Refusal, Reservation
from gateway.store.memory import BUSY_RETRY_S
from gateway.store.script_args import PendingDecision, read_refusal


def read_decision(pending: PendingDecision, entry: Sequence[int], run: int) -> Reservation | Refusal:
    """Convert one entry of the reply to a decision. `run` is the number of the script run."""
    limits, now, at = pending.limits, entry[1], 2
    statuses: list[LimitStatus] = []
    for limit in limits:
        remaining, slot = entry[at], entry[at + 1]
        at += 3
        reset_s = limit.reset_s(slot, now) if slot != NO_SLOT and remaining < limit.amount else 0.0
        statuses.append(LimitStatus(limit, remaining, reset_s) if remaining >= 0 else LimitStatus(limit, 0, reset_s, None, -remaining))
    slots = tuple(entry[3:at:3])
    if entry[0] == 1:
        return Reservation(pending.id, limits, pending.costs, slots, tuple(statuses), now, run=run)
    refusal = read_refusal(limits, slots, entry[4:at:3], now, BUSY_RETRY_S)
    return msgspec.structs.replace(refusal, statuses=_with_reserved(statuses, entry[at:]))


def _with_reserved(statuses: Sequence[LimitStatus], reserved: Sequence[int]) -> list[LimitStatus]:
    """Return the states of limits with the amounts that calls in flight reserve of them, -1 for those that are unknown."""
    return [
        msgspec.structs.replace(status, reserved=amount) if amount >= 0 else status
        for status, amount in zip(statuses, reserved, strict=True)
    ]


def status_of(statuses: Sequence[LimitStatus], limit: Limit) -> LimitStatus:
    """Return the state of a limit."""
    return next(status for status in statuses if status.limit is limit)
