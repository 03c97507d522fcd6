"""Limits and the decisions on calls: Limit, Costs, Reservation, Refusal, and the Limiter interface that all stores implement.

A window is divided into slots. An admission at time t counts every slot that overlaps [t - window, t] in full, so no
window that ends at an admission exceeds the limit. This rule counts up to one slot too many: at least 120/121 of the
limit (100/101 for a window of one second) is usable. A call that outlives a lease (gateway.store.amount_leases) may be
charged to the slot after its admission, so with leases at least 119/121 (99/101) is usable. If the lease ends in an
outage, the slot is the one in which the outage ends.

Spend is limited per period: a calendar day, week or month, or the whole time (gateway.store.periods). The spend of a
period is the amount settled in it (gateway.store.settled_spend) plus the amount reserved by calls in flight. A call
belongs to the period of its admission. Times are in microseconds since 1970 and amounts of money in nano-dollars, so that
all arithmetic is on integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

import msgspec

from gateway.store.decision_waiter import DecisionWaiter
from gateway.store.periods import NEVER_US, PeriodClock, period_clock
from gateway.store.periods import US_PER_S as US_PER_S

Kind = Literal["requests", "tokens", "prompt_tokens", "uncached_prompt_tokens", "output_tokens", "concurrent", "spend"]
RATE_KINDS: tuple[Kind, ...] = ("requests", "tokens", "prompt_tokens", "uncached_prompt_tokens", "output_tokens")
KINDS: tuple[Kind, ...] = (*RATE_KINDS, "concurrent", "spend")
TOKEN_KINDS = frozenset(RATE_KINDS) - {"requests"}
OWNERS = ("key", "team", "model", "provider", "target")
"""The kinds of owners in the configuration. End users may have limits as well."""
OutageMode = Literal["local_share", "open", "closed"]
"""Behaviour while the shared store is unavailable: apply a share of the limit, apply no limit, or refuse all calls."""

NANO_PER_USD = 1_000_000_000
"""Nano-dollars in a dollar."""
WINDOW_S = {"s": 1, "min": 60, "h": 3600, "day": 86_400}
_WINDOWS = {"s": (10_000, 100), "min": (US_PER_S // 2, 120), "h": (30 * US_PER_S, 120), "day": (720 * US_PER_S, 120)}
"""For each window, the length of a slot in microseconds and the number of full slots."""
NO_SLOT = -1
BUDGET_TTL_MS = 40 * 86_400_000
"""Time to live of an unused budget in the store: longer than a month."""


class Costs(msgspec.Struct, frozen=True, gc=False):
    """The amounts that one call uses, by kind of limit. `spend` is in nano-dollars."""

    requests: int = 1
    prompt_tokens: int = 0
    output_tokens: int = 0
    spend: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the provider read from its cache."""

    @property
    def uncached_prompt_tokens(self) -> int:
        """Prompt tokens that the provider did not read from its cache."""
        return max(0, self.prompt_tokens - self.cached_tokens)

    @property
    def tokens(self) -> int:
        """Prompt and output tokens."""
        return self.prompt_tokens + self.output_tokens

    @property
    def concurrent(self) -> int:
        """Always 1: a call counts once towards a limit on concurrent calls."""
        return 1


NO_COSTS = Costs(requests=0)


class Limit:
    """At most `amount` of `kind` per `window` for one owner such as `key:search-team`.

    For spend, `amount` is in nano-dollars and `window` is a period.
    """

    __slots__ = (
        "_clock", "_words", "amount", "key", "kind", "model", "outage", "owner", "scope", "side", "slot", "slots", "strict", "timezone",
        "ttl", "window",
    )  # fmt: skip

    def __init__(
        self,
        owner: str,
        kind: Kind,
        amount: int,
        window: str = "",
        *,
        outage: OutageMode = "local_share",
        side: str = "caller",
        strict: bool = False,
        model: str = "",
        timezone: str = "UTC",
    ) -> None:
        """Create a limit.

        Limits of one `side` share a Redis hash tag, so that one script can decide them together. With `strict`, the
        amount reserved before a call is an upper bound instead of an estimate. `model` is the name or pattern
        of the models whose calls count, "" for all. `timezone` is the time zone of a budget's periods.
        """
        self.owner = owner
        self.scope = owner.partition(":")[0]
        self.kind: Kind = kind
        self.amount = amount
        self.window = window
        self.outage: OutageMode = outage
        self.side = side
        self.strict = strict
        self.model = model
        self.timezone = timezone
        # the length of the owner keeps the parts apart, because names may contain colons
        whose = f"model:{len(owner)}:{owner}:{model}" if model else owner
        self.key = f"lockgate:{{{side}}}:{whose}:{kind}:{window or 'now'}"
        self._words = ""
        self._clock: PeriodClock | None = None
        if kind == "concurrent":
            self.slot, self.slots, self.ttl = NO_SLOT, 0, 3_600_000
        elif kind == "spend":
            self._clock = period_clock(window, timezone)
            self.slot, self.slots, self.ttl = self._clock.width, 0, BUDGET_TTL_MS
        else:
            self.slot, self.slots = _WINDOWS[window]
            self.ttl = 2 * self.slot * (self.slots + 1) // 1000

    @property
    def clock(self) -> PeriodClock:
        """The clock of a budget's periods."""
        assert self._clock is not None
        return self._clock

    def slot_at(self, now: int) -> int:
        """Return the number of the slot that contains `now`. For a budget, this is the number of the period."""
        return now // self.slot if self._clock is None else self._clock.number_at(now)

    def slot_expiry(self, slot: int) -> int:
        """Return the time at which the charges of `slot` no longer count."""
        return (slot + self.slots + 1) * self.slot if self._clock is None else self._clock.start(slot + 1)

    def reset_s(self, slot: int, now: int) -> float:
        """Return the seconds until the charges of `slot` and of earlier slots no longer count, at most the length of a window.

        The charges of a slot count for up to one slot longer than the window.
        """
        if self._clock is not None:
            return seconds_until(self._clock.start(slot + 1), now)
        left, longest = (slot + self.slots + 1) * self.slot - now, self.slot * self.slots
        if left > longest:
            left = longest
        return left / US_PER_S if left > 0 else 0.0

    def with_amount(self, amount: int) -> Limit:
        """Return a copy of this limit with another amount and the same key. The copy is not strict."""
        named = {"outage": self.outage, "side": self.side, "model": self.model, "timezone": self.timezone}
        return Limit(self.owner, self.kind, amount, self.window, **named)  # type: ignore[arg-type]

    def __str__(self) -> str:
        if not self._words:  # the record of each call contains the words
            self._words = self._in_words()
        return self._words

    def _in_words(self) -> str:
        amount = f"{self.amount / NANO_PER_USD:.9f}".rstrip("0").rstrip(".") + " USD" if self.kind == "spend" else f"{self.amount:,}"
        what = "concurrent calls" if self.kind == "concurrent" else "" if self.kind == "spend" else self.kind.replace("_", " ")
        words = f"{amount} {what.removesuffix('s') if self.amount == 1 else what}".strip()
        if self.window == "total":
            return f"{words} in total"
        zone = "" if self.timezone == "UTC" else f" ({self.timezone})"
        return f"{words} per {self.window}{zone}" if self.window else words


class LimitStatus(msgspec.Struct, frozen=True, gc=False):
    """State of a limit after a decision: the remaining amount, and the seconds until the full amount is available again.

    The full amount of a window is available once the last of its charges no longer counts. The seconds never exceed the length
    of the window. They are infinite for a `total` budget, whose full amount is never available again.
    """

    limit: Limit
    remaining: int
    reset_s: float
    reserved: int | None = None
    """The part of the used amount that calls in flight of all processes reserve; None if it is unknown."""
    excess: int = 0
    """The amount by which the used amount, including reservations, exceeds the limit."""


class LimitUsage(msgspec.Struct, frozen=True):
    """The used amount of a limit now, including `reserved`, the amount set aside for calls in flight.

    The reserved amount is None for windows and concurrent calls, for which it is not read separately.
    `reset_s` is as in LimitStatus.
    """

    limit: Limit
    used: int
    reserved: int | None
    reset_s: float

    @property
    def remaining(self) -> int:
        """The amount that is left."""
        return max(0, self.limit.amount - self.used)


class Reservation(msgspec.Struct, eq=False, gc=False):
    """The amounts that an admitted call reserves until it is settled.

    Thousands of reservations of calls that have ended are kept for a while (gateway.store.runs), and none is part of a cycle
    of references, so the garbage collector leaves them out.

    `slots` holds for each limit the slot that was charged.
    """

    id: str
    limits: Sequence[Limit]
    costs: Costs
    slots: Sequence[int]
    statuses: Sequence[LimitStatus]
    decided_at: int
    degraded: bool = False
    """Whether the outage modes of the limits decided, because the shared store was unavailable."""
    charged: Costs = NO_COSTS
    """The part of the call's usage that was charged while the call was running."""
    run: int = 0
    """The number of the script run that admitted the call (gateway.store.runs), 0 if the shared store has not admitted it."""


class Refusal(msgspec.Struct, frozen=True):
    """The refusal of a call, and the limit that refuses it.

    `retry_after` is in seconds: None if waiting does not help because the call alone exceeds the limit, infinite if a
    `total` budget is used up.
    """

    limit: Limit
    retry_after: float | None
    statuses: Sequence[LimitStatus] = ()
    decided_at: int = 0
    degraded: bool = False
    unavailable: bool = False
    """Whether the refusal is due to an unavailable store: mode `closed`, a share of 0, or a budget whose share is used up."""
    busy: bool = False
    """Whether the unspent part of the budget is reserved by calls in flight."""
    reset_s: float | None = None
    """The seconds until the limit is reset, if `statuses` does not contain them."""
    waits: Sequence[tuple[Limit, float | None]] = ()
    """All limits that refuse the call, each with its wait as in `retry_after`. `limit` is one with the longest wait."""


class Limiter(Protocol):
    """Enforces limits."""

    def request(self, limits: Sequence[Limit], costs: Costs, id: str, waiter: DecisionWaiter) -> Reservation | Refusal | None:
        """Do what `admit` does. Return the decision, or None if `waiter` receives it later."""
        ...

    async def admit(self, limits: Sequence[Limit], costs: Costs, id: str, *, force: bool = False) -> Reservation | Refusal:
        """Reserve `costs` under all limits or under none.

        An id names one reservation, whatever its limits. While the reservation is open, a repeated id returns it again. An id
        must not be repeated before the decision on it is known. With `force`, reserve even if a limit is exceeded; only an
        unavailable store refuses then.
        """
        ...

    def settle(self, reservation: Reservation, actual: Costs) -> None:
        """Replace the reserved amounts with the used amounts. Later calls for the same reservation do nothing."""
        ...

    async def usage(self, limits: Sequence[Limit]) -> list[LimitUsage]:
        """Return the usage of limits without charging them. Raise StoreUnavailableError if the store fails."""
        ...

    async def start(self) -> None:
        """Connect to the store."""
        ...

    async def stop(self) -> None:
        """Send pending settlements and disconnect from the store."""
        ...


def costs_of_kind(limit: Limit, amount: int) -> Costs:
    """Return costs that use `amount` of this limit."""
    fields = {"tokens": "prompt_tokens", "uncached_prompt_tokens": "prompt_tokens"}
    return Costs(**{"requests": 0, fields.get(limit.kind, limit.kind): amount})


def seconds_until(until: int, now: int) -> float:
    """Return the seconds from `now` until `until`: 0 if that time has passed, infinity if it is never reached."""
    return math.inf if until >= NEVER_US else max(0, until - now) / US_PER_S


class Needs(NamedTuple):
    """Properties of a set of limits, computed once for each set: the estimates that it needs, and the kinds of limits in it."""

    tokens: bool
    """Whether an estimate of a call's tokens is needed."""
    cost: bool
    """Whether an estimate of a call's cost is needed."""
    is_strict: bool
    """Whether a strict limit on tokens or spend is among the limits."""
    has_strict_tokens: bool
    """Whether a strict limit on tokens is among the limits."""
    has_budgets: bool
    """Whether the limits include a budget of an owner other than an end user."""


@lru_cache(4096)
def needs_of(limits: tuple[Limit, ...]) -> Needs:
    """Return the properties of these limits."""
    cost = any(limit.kind == "spend" for limit in limits)
    counted = [limit for limit in limits if limit.kind in TOKEN_KINDS]
    strict_tokens = any(limit.strict for limit in counted)
    strict = strict_tokens or any(limit.strict and limit.kind == "spend" for limit in limits)
    budgets = any(limit.kind == "spend" and not limit.owner.startswith("user:") for limit in limits)
    return Needs(cost or bool(counted), cost, strict, strict_tokens, budgets)


def needed_estimates(limits: Sequence[Limit]) -> tuple[bool, bool]:
    """Return whether these limits need an estimate of a call's tokens, and whether they need one of its cost."""
    needs = needs_of(tuple(limits))
    return needs.tokens, needs.cost


def has_strict_limit(limits: Sequence[Limit]) -> bool:
    """Return whether a strict limit on tokens or spend is among these limits."""
    return needs_of(tuple(limits)).is_strict
