"""Limits that apply to the same calls, with what follows from the limits alone: it is computed once for each set, not for each call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

from gateway.store.limit import NO_SLOT, TOKEN_KINDS, Costs, Kind, Limit, needs_of

MAX_SETS = 4096


class LimitSet(tuple[Limit, ...]):
    """An immutable sequence of limits. `limit_set` returns the same object for the same limits."""

    def __init__(self, limits: Iterable[Limit]) -> None:
        self.needs = needs_of(tuple(self))
        self.side = self[0].side if self else ""
        self.amounts = _amounts([limit.kind for limit in self])
        """Returns the amounts that costs have of the kinds of the limits, in order."""
        self.tokens = tuple(limit for limit in self if limit.kind in TOKEN_KINDS)
        """The limits on tokens."""
        self.has_budgets = self.needs.cost
        """Whether a limit on spend is among the limits. It may be one of an end user."""
        self.has_leases = any(limit.slot == NO_SLOT for limit in self)
        """Whether a limit on concurrent calls is among the limits."""
        self.reservations = reservation_key(self[0], "") if self else ""
        """The beginning of the keys of reservations."""
        self.keys = tuple(key for limit in self for key in _keys_of(limit))
        """The keys of the limits and of their reserved amounts, as the scripts ADMIT and SETTLE take them."""


def reserved_key(key: str) -> str:
    """Return the key of the hash with the amounts that processes have reserved from a budget or a window of tokens."""
    return f"{key}:held"


def reservation_key(limit: Limit, id: str) -> str:
    """Return the key of a reservation, in the same hash slot as its limits."""
    return f"lockgate:{{{limit.side}}}:r:{id}"


def limit_set(limits: Sequence[Limit]) -> LimitSet:
    """Return the set of these limits."""
    return limits if type(limits) is LimitSet else _set_of(tuple(limits))


@lru_cache(MAX_SETS)
def _set_of(limits: tuple[Limit, ...]) -> LimitSet:
    return LimitSet(limits)


def _amounts(kinds: Sequence[Kind]) -> Callable[[Costs], tuple[Any, ...]]:
    """Return the function that reads the amounts of these kinds. `attrgetter` reads several in one step, but returns no tuple for one."""
    if len(kinds) > 1:
        return attrgetter(*kinds)
    return lambda costs: tuple([getattr(costs, kind) for kind in kinds])


def _keys_of(limit: Limit) -> tuple[str, ...]:
    has_reserved = limit.kind == "spend" or limit.kind in TOKEN_KINDS
    return (limit.key, reserved_key(limit.key)) if has_reserved else (limit.key,)
