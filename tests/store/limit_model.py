"""A plain model of limits: a list of charges for each limit, added up again for each decision. Slow, and easy to read."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.store.limit import TOKEN_KINDS, US_PER_S, Costs, Limit
from gateway.store.periods import DAY_US, NEVER_US

START = 1_900_000_000 * US_PER_S
STEPS_US = (
    0, 1, 5_000, 10_000, 500_000, US_PER_S, 30 * US_PER_S, 61 * US_PER_S, 720 * US_PER_S, 3630 * US_PER_S, DAY_US, 8 * DAY_US, 32 * DAY_US,
)  # fmt: skip
"""Times between two operations: fractions of slots, slots, windows and periods."""


@dataclass
class Held:
    """One admitted call."""

    costs: Costs
    slots: list[int]


@dataclass
class Verdict:
    """A decision: whether the call is admitted, the state of each limit, and the refusing limit with its wait in microseconds."""

    admitted: bool
    remaining: list[int]
    slots: list[int]
    reserved: list[int | None]
    resets: list[float]
    """Microseconds until the full amount of each limit is available again."""
    refusing: int = -1
    wait: float | None = None
    busy: bool = False


@dataclass
class Model:
    """The charges of all limits by key and slot; for budgets, settled and reserved charges are kept separate.

    The reserved amounts of windows of tokens are part of their charges.
    """

    charges: dict[str, dict[int, int]] = field(default_factory=dict)
    high: dict[str, int] = field(default_factory=dict)
    calls: dict[str, set[str]] = field(default_factory=dict)
    spent: dict[tuple[str, int], int] = field(default_factory=dict)
    reserved: dict[tuple[str, int], int] = field(default_factory=dict)
    open: dict[str, Held] = field(default_factory=dict)

    def decide(self, limits: Sequence[Limit], costs: Costs, id: str, now: int) -> Verdict:
        """Decide on a new call."""
        verdict = Verdict(True, [], [], [], [])
        for index, limit in enumerate(limits):
            cost = getattr(costs, limit.kind)
            slot, remaining = self._remaining(limit, now)
            verdict.slots.append(slot)
            verdict.remaining.append(max(0, remaining))
            verdict.reserved.append(self._reserved(limit, slot))
            if remaining < cost:
                wait, busy = self._wait(limit, cost, slot, now)
                if verdict.admitted or _longer(wait, verdict.wait):
                    verdict.refusing, verdict.wait, verdict.busy = index, wait, busy
                verdict.admitted = False
        if verdict.admitted:
            for index, limit in enumerate(limits):
                self._charge(limit, verdict.slots[index], getattr(costs, limit.kind), id)
                if limit.kind in TOKEN_KINDS:
                    self._reserve(limit.key, verdict.slots[index], getattr(costs, limit.kind))
                verdict.remaining[index] -= getattr(costs, limit.kind)
            self.open[id] = Held(costs, verdict.slots)
        verdict.resets = [self.reset(limit, now) for limit in limits]
        return verdict

    def reset(self, limit: Limit, now: int) -> float:
        """Return the microseconds until the full amount of a limit is available again: when its last charge no longer counts.

        The time for a window is at most the length of the window.
        """
        slot, remaining = self._remaining(limit, now)
        if limit.kind == "concurrent" or remaining == limit.amount:
            return 0
        if limit.kind == "spend":
            end = limit.slot_expiry(slot)
            return math.inf if end >= NEVER_US else max(0, end - now)
        last = max(at for at, amount in self.charges[limit.key].items() if amount and at >= slot - limit.slots)
        return max(0, min(limit.slot_expiry(last) - now, limit.slot * limit.slots))

    def settle(self, limits: Sequence[Limit], id: str, actual: Costs, now: int) -> None:
        """Replace the reserved by the used amounts."""
        held = self.open.pop(id)
        for index, limit in enumerate(limits):
            slot, used = held.slots[index], getattr(actual, limit.kind)
            change = used - getattr(held.costs, limit.kind)
            if limit.kind == "concurrent":
                self.calls[limit.key].discard(id)
            elif limit.kind == "spend":
                self.reserved[limit.key, slot] -= held.costs.spend
                self.spent[limit.key, slot] = self.spent.get((limit.key, slot), 0) + used
                if used:
                    self.high[limit.key] = max(slot, self.high.get(limit.key, 0))
            else:
                if limit.kind in TOKEN_KINDS:
                    self._reserve(limit.key, slot, -getattr(held.costs, limit.kind))
                current = max(limit.slot_at(now), self.high[limit.key])
                if slot >= current - limit.slots:
                    self.charges[limit.key][slot] += change
                elif change > 0:
                    self._charge(limit, current, change, id)

    def _reserve(self, key: str, slot: int, amount: int) -> None:
        self.reserved[key, slot] = self.reserved.get((key, slot), 0) + amount

    def _reserved(self, limit: Limit, slot: int) -> int | None:
        """Return the part of the used amount that open calls reserve. None for limits on requests and concurrent calls."""
        if limit.kind == "spend":
            return self.reserved.get((limit.key, slot), 0)
        if limit.kind not in TOKEN_KINDS:
            return None
        return sum(amount for (key, at), amount in self.reserved.items() if key == limit.key and at >= slot - limit.slots)

    def _remaining(self, limit: Limit, now: int) -> tuple[int, int]:
        if limit.kind == "concurrent":
            return -1, limit.amount - len(self.calls.get(limit.key, ()))
        slot = max(limit.slot_at(now), self.high.get(limit.key, 0))
        if limit.kind == "spend":
            used = self.spent.get((limit.key, slot), 0) + self.reserved.get((limit.key, slot), 0)
            return slot, limit.amount - used
        charges = self.charges.get(limit.key, {})
        return slot, limit.amount - sum(amount for at, amount in charges.items() if at >= slot - limit.slots)

    def _wait(self, limit: Limit, cost: int, slot: int, now: int) -> tuple[float | None, bool]:
        if limit.kind == "concurrent":
            return US_PER_S, False
        if cost > limit.amount:
            return None, False
        end = limit.slot_expiry(slot)
        if limit.kind == "spend":
            if self.spent.get((limit.key, slot), 0) + cost <= limit.amount:
                return US_PER_S, True
            return (math.inf if end >= NEVER_US else end - now), False
        free = self._remaining(limit, now)[1]
        for at in sorted(at for at in self.charges[limit.key] if at >= slot - limit.slots):
            free += self.charges[limit.key][at]
            if free >= cost:
                return max(0, limit.slot_expiry(at) - now), False
        return max(0, end - now), False

    def _charge(self, limit: Limit, slot: int, cost: int, id: str) -> None:
        if limit.kind == "concurrent":
            self.calls.setdefault(limit.key, set()).add(id)
        elif limit.kind == "spend":
            self.reserved[limit.key, slot] = self.reserved.get((limit.key, slot), 0) + cost
        else:
            charges = self.charges.setdefault(limit.key, {})
            charges[slot] = charges.get(slot, 0) + cost
            self.high[limit.key] = max(slot, self.high.get(limit.key, 0))


def _longer(wait: float | None, other: float | None) -> bool:
    return other is not None and (wait is None or wait > other)


class Course:
    """A random course of calls: the limits that apply, and the times at which calls are decided and settled."""

    def __init__(self, seed: int, *, goes_back: bool = False) -> None:
        self.draw = random.Random(seed)
        self.now = START + self.draw.randrange(DAY_US)
        self.goes_back = goes_back
        draw = self.draw
        rates = [Limit("k", kind, draw.randrange(1, 40), window) for kind in ("requests", "tokens") for window in ("s", "min", "h", "day")]
        spends = [
            Limit("k", "spend", draw.randrange(1, 60), period, timezone=draw.choice(["UTC", "Etc/GMT+11", "Etc/GMT-9"]))
            for period in ("day", "week", "month", "total")
        ]
        others = [Limit("k", "concurrent", draw.randrange(1, 5)), Limit("k", "uncached_prompt_tokens", draw.randrange(1, 40), "min")]
        self.limits = draw.sample(rates + spends + others, draw.randrange(1, 6))

    def step(self) -> None:
        """Let time pass."""
        passed = self.draw.choice(STEPS_US) * self.draw.choice((1, 1, 1, 2))
        back = self.goes_back and self.draw.random() < 0.2
        self.now += -passed if back else passed

    def costs(self) -> Costs:
        """Return the costs of a call."""
        draw = self.draw
        return Costs(draw.choice((0, 1, 1, 1)), draw.randrange(12), draw.randrange(6), draw.randrange(15), draw.randrange(9))

    def limits_of_call(self) -> list[Limit]:
        """Return the limits of the next call: all of them, or some."""
        count = self.draw.randrange(1, len(self.limits) + 1) if self.draw.random() < 0.3 else len(self.limits)
        return self.limits[:count]
