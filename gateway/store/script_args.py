"""Keys and arguments of the Lua scripts, and their replies. One script run handles limits of one side only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from gateway.store.limit import NO_SLOT, US_PER_S, Costs, Limit, Refusal, Reservation, seconds_until
from gateway.store.limit_set import LimitSet, limit_set
from gateway.store.limit_set import reservation_key as reservation_key
from gateway.store.limit_set import reserved_key as reserved_key
from gateway.store.memory import is_longer, steady_now
from gateway.store.settled_spend import SettledSpend, SpendEntry

BUDGET_SLOTS = -1
"""Passed in place of a number of slots to mark a budget."""
NO_WAIT = -4
"""The wait in a reply for a limit that does not refuse the call."""
MAX_ENTRIES_PER_COMMAND = 100
"""Maximum number of entries in one command, so that it completes within the timeout."""
Entry = TypeVar("Entry")


class PendingDecision(msgspec.Struct, eq=False):
    """A requested decision.

    `future` receives the result; if it is None or if `force` is true, the call is charged even if limits are exceeded. `held` is the
    reservation that is made again, if any.
    """

    limits: Sequence[Limit]
    costs: Costs
    id: str
    future: Any = None
    held: Reservation | None = None
    force: bool = False


class Run(NamedTuple):
    """One run of a script that charges windows: the key with the latest run, the number of this run, and the run that it requires.

    The store contains the required run unless it has lost data: the run has a reply, or it was sent before on the same connection.
    """

    key: str
    number: int = 0
    acked: int = 0


Settlement = tuple[Reservation, Costs]


def members_key(side: str) -> str:
    """Return the key of the sorted set of members."""
    return f"lockgate:{{{side}}}:members"


def member_info_key(side: str) -> str:
    """Return the key of the hash with the divisor, hold-back time and seat of each member."""
    return f"lockgate:{{{side}}}:told"


def run_key(side: str, instance: str) -> str:
    """Return the key of the latest run of a process."""
    return f"lockgate:{{{side}}}:run:{instance}"


class _Definitions(dict[int, int]):
    """The definitions of limits in the arguments of one script run: their numbers, from 1 on, by the identity of the limits."""

    def __init__(self, define: Callable[[LimitSet], list[Any]]) -> None:
        self._define = define
        self._limits: list[LimitSet] = []
        """Keeps the limits, so that their identities stay theirs."""
        self.limit_keys: list[str] = []
        self.arguments: list[Any] = []

    def add(self, limits: LimitSet) -> int:
        """Define limits, and return their number."""
        self._limits.append(limits)
        self.limit_keys += limits.keys
        self.arguments += self._define(limits)
        self[id(limits)] = len(self._limits)
        return len(self._limits)


def admit_args(decisions: Sequence[PendingDecision], spent: SettledSpend, lease: int, run: Run) -> tuple[list[str], list[Any]]:
    """Return the keys and arguments of ADMIT."""
    side = decisions[0].limits[0].side
    definitions = _Definitions(partial(_admission, spent, lease))
    reservations: list[str] = []
    calls: list[Any] = []
    for decision in decisions:
        limits = limit_set(decision.limits)
        reservations.append(limits.reservations + decision.id)
        calls.append(definitions.get(id(limits)) or definitions.add(limits))
        calls.append(1 if decision.future is None or decision.force else 0)
        calls += limits.amounts(decision.costs)
    arguments = [len(decisions), spent.incarnation, run.number, run.acked, len(definitions), *definitions.arguments, *calls]
    return [members_key(side), member_info_key(side), run.key, *definitions.limit_keys, *reservations], arguments


def _admission(spent: SettledSpend, lease: int, limits: LimitSet) -> list[Any]:
    """Return the definition of limits for ADMIT."""
    arguments: list[Any] = [len(limits)]
    for limit in limits:
        if limit.kind == "spend":
            arguments += (limit.slot, BUDGET_SLOTS, limit.amount, limit.ttl, *known_spend(limit, spent))
        else:
            arguments += (limit.slot, limit.slots, limit.amount, lease if limit.slot == NO_SLOT else limit.ttl)
    return arguments


def known_spend(limit: Limit, spent: SettledSpend) -> tuple[int, ...]:
    """Return an instance's data on a budget: the latest period, the amount settled in that period, and the time zone's offsets."""
    latest = spent.latest.get(limit.key, 0)
    return latest, spent.own_amount(limit.key, latest), *limit.clock.offsets(steady_now())


def settle_args(settlements: Sequence[Settlement], spent: SettledSpend, run: Run) -> tuple[list[str], list[Any]]:
    """Return the keys and arguments of SETTLE. A reservation whose admission got no reply has no slots."""
    definitions = _Definitions(_settlement)
    reservations: list[str] = []
    calls: list[Any] = []
    for reservation, actual in settlements:
        limits = limit_set(reservation.limits)
        reservations.append(limits.reservations + reservation.id)
        calls.append(definitions.get(id(limits)) or definitions.add(limits))
        calls.append(0 if reservation.slots else 1)
        calls += _with_spend(reservation, limits, actual, spent) if limits.has_budgets else limits.amounts(actual)
    arguments = [len(settlements), spent.incarnation, run.number, run.acked, len(definitions), *definitions.arguments, *calls]
    return [run.key, *definitions.limit_keys, *reservations], arguments


def _settlement(limits: LimitSet) -> list[Any]:
    """Return the definition of limits for SETTLE."""
    arguments: list[Any] = [len(limits)]
    for limit in limits:
        arguments += (limit.slot, BUDGET_SLOTS if limit.kind == "spend" else limit.slots, limit.ttl)
    return arguments


def _with_spend(reservation: Reservation, limits: LimitSet, actual: Costs, spent: SettledSpend) -> list[int]:
    """Return the used amounts, and for budgets the period of the admission and the amount that was settled in it in total."""
    amounts: list[int] = []
    for index, (limit, amount) in enumerate(zip(limits, limits.amounts(actual), strict=True)):
        if limit.kind == "spend":
            period = reservation.slots[index] if reservation.slots else 0
            amounts += (period, spent.own_amount(limit.key, period))
        else:
            amounts.append(amount)
    return amounts


def publish_args(entries: Sequence[tuple[SpendEntry, int]]) -> tuple[list[str], list[Any]]:
    """Return the keys and arguments of PUBLISH. A reserved amount of -1 leaves the stored one unchanged."""
    keys: list[str] = []
    arguments: list[Any] = []
    for entry, reserved in entries:
        keys += (entry.key, reserved_key(entry.key))
        arguments += (entry.incarnation, entry.period, entry.amount, reserved)
    return keys, arguments


def retry_after_s(limit: Limit, wait: int, slot: int, now: int, busy_s: float) -> float | None:
    """Convert the wait in a reply to seconds: None if waiting does not help, `busy_s` if a call in flight must end first."""
    if wait == -2:
        return None
    if wait == -3:
        return busy_s
    return seconds_until(limit.slot_expiry(slot), now) if wait == -1 else wait / US_PER_S


def read_refusal(limits: Sequence[Limit], slots: Sequence[int], waits: Sequence[int], now: int, busy_s: float) -> Refusal:
    """Return the refusal by the limit with the longest wait, without the states of the limits."""
    longest: Refusal | None = None
    refusing: list[tuple[Limit, float | None]] = []
    for limit, slot, wait in zip(limits, slots, waits, strict=True):
        if wait != NO_WAIT:
            retry_after = retry_after_s(limit, wait, slot, now, busy_s)
            refusing.append((limit, retry_after))
            if longest is None or is_longer(retry_after, longest.retry_after):
                longest = Refusal(limit, retry_after, (), now, busy=wait == -3 and limit.kind == "spend", waits=refusing)
    assert longest is not None
    return longest


def side_of(key: str) -> str:
    """Return the hash tag of a key, which names its side."""
    return key.partition("{")[2].partition("}")[0]


def group_by_side(entries: Iterable[PendingDecision | Settlement]) -> list[list[Any]]:
    """Group decisions or settlements by side, because one command can handle only one side."""
    sides: dict[str, list[Any]] = {}
    for entry in entries:
        limits = entry.limits if isinstance(entry, PendingDecision) else entry[0].limits
        side = limits[0].side
        known = sides.get(side)
        if known is None:
            sides[side] = [entry]
        else:
            known.append(entry)
    return list(sides.values())


def batches(entries: list[Entry]) -> list[list[Entry]]:
    """Split entries into batches, each small enough for one command."""
    size = MAX_ENTRIES_PER_COMMAND
    return [entries[start : start + size] for start in range(0, len(entries), size)]
