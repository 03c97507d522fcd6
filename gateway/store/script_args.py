"""Limits and what is asked of them as the scripts take them: keys and arguments, all of one side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from gateway.store.limit import NO_SLOT, US_PER_S, Costs, Limit, Refusal, Reservation, seconds_until
from gateway.store.settled_spend import SettledSpend, SpendEntry

BUDGET_SLOTS = -1
"""In place of a window's slots."""
MAX_ENTRIES_PER_COMMAND = 100
"""Entries in one command that tells many: each has to be done within the deadline."""
_DAY = 86_400 * US_PER_S
Entry = TypeVar("Entry")


class PendingDecision(msgspec.Struct, eq=False):
    """One decision that somebody waits for; `future` is None for what is charged whatever holds."""

    limits: Sequence[Limit]
    costs: Costs
    id: str
    future: Any = None


Settlement = tuple[Reservation, Costs]


def members_key(side: str) -> str:
    """The set of the instances that live."""
    return f"lockgate:{{{side}}}:members"


def member_info_key(side: str) -> str:
    """What each of them was told."""
    return f"lockgate:{{{side}}}:told"


def reserved_key(key: str) -> str:
    """What instances hold reserved of a budget."""
    return f"{key}:held"


def reservation_key(limit: Limit, id: str) -> str:
    """In the same hash slot as the limits it is about."""
    return f"lockgate:{{{limit.side}}}:r:{id}"


def admit_args(asked: Sequence[PendingDecision], spent: SettledSpend, lease: int) -> tuple[list[str], list[Any]]:
    """The keys and arguments of ADMIT."""
    side = asked[0].limits[0].side
    keys = [members_key(side), member_info_key(side)]
    arguments: list[Any] = [len(asked), spent.incarnation]
    for one in asked:
        keys.append(reservation_key(one.limits[0], one.id))
        arguments += (one.id, len(one.limits), 0 if one.future is not None else 1)
        for limit in one.limits:
            keys.append(limit.key)
            cost = getattr(one.costs, limit.kind)
            if limit.kind == "spend":
                keys.append(reserved_key(limit.key))
                latest = spent.latest.get(limit.key, 0)
                arguments += (limit.slot, BUDGET_SLOTS, limit.amount, cost, limit.ttl, latest, spent.own_amount(limit.key, latest))
            else:
                arguments += (limit.slot, limit.slots, limit.amount, cost, lease if limit.slot == NO_SLOT else limit.ttl)
    return keys, arguments


def settle_args(settled: Sequence[Settlement], spent: SettledSpend) -> tuple[list[str], list[Any]]:
    """The keys and arguments of SETTLE. A reservation of which nobody knows whether it was made has no slots."""
    keys: list[str] = []
    arguments: list[Any] = [len(settled), spent.incarnation]
    for reservation, actual in settled:
        keys.append(reservation_key(reservation.limits[0], reservation.id))
        arguments += (reservation.id, len(reservation.limits))
        for at, limit in enumerate(reservation.limits):
            keys.append(limit.key)
            if limit.kind == "spend":
                keys.append(reserved_key(limit.key))
                period = reservation.slots[at] if reservation.slots else 0
                arguments += (limit.slot, BUDGET_SLOTS, period, spent.own_amount(limit.key, period))
            else:
                arguments += (limit.slot, limit.slots, getattr(actual, limit.kind), limit.ttl)
    return keys, arguments


def publish_args(told: Sequence[tuple[SpendEntry, int]]) -> tuple[list[str], list[Any]]:
    """The keys and arguments of PUBLISH: what was settled, and what is held reserved, -1 to leave that as it is."""
    keys: list[str] = []
    arguments: list[Any] = []
    for share, held in told:
        keys += (share.key, reserved_key(share.key))
        width = 0 if share.key.endswith(":month") else _DAY
        arguments += (share.incarnation, width, share.period, share.amount, held)
    return keys, arguments


def retry_after_s(limit: Limit, wait: int, slot: int, now: int, busy: float) -> float | None:
    """A script's wait: None when waiting does not help, `busy` when it is for the end of a call."""
    if wait == -2:
        return None
    if wait == -3:
        return busy
    return seconds_until(limit.slot_expiry(slot), now) if wait == -1 else wait / US_PER_S


def read_refusal(limit: Limit, wait: int, slot: int, now: int, busy: float) -> Refusal:
    """A refusal as a script decided it, without standings."""
    return Refusal(limit, retry_after_s(limit, wait, slot, now, busy), (), now, busy=wait == -3 and limit.kind == "spend")


def side_of(key: str) -> str:
    """The hash tag of a key."""
    return key.partition("{")[2].partition("}")[0]


def group_by_side(some: Iterable[PendingDecision | Settlement]) -> list[list[Any]]:
    """Asked or settled, those of one side together: they can be one command."""
    sides: dict[str, list[Any]] = {}
    for one in some:
        limits = one.limits if isinstance(one, PendingDecision) else one[0].limits
        sides.setdefault(limits[0].side, []).append(one)
    return list(sides.values())


def batches(some: list[Entry]) -> list[list[Entry]]:
    """Parts that are each a command of decent size."""
    return [some[at : at + MAX_ENTRIES_PER_COMMAND] for at in range(0, len(some), MAX_ENTRIES_PER_COMMAND)]
