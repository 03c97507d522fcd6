"""The words of limiting: Limit, Costs, Reservation, Refusal, and the interface that both stores keep.

A window is cut into slots. An admission at time t counts the slots that cover [t - window, t] whole, so no window that ends at an
admission can hold more than the limit; the price is one slot, hence at least 120/121 of the limit (100/101 for a second) is usable.
Spend is per UTC calendar day or month, a period: what was settled in it (gateway.limits.spent) and what is reserved by calls in
flight, and a call belongs to the period of its admission. Times are microseconds since 1970, money is nano-dollars: integers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, Protocol

import msgspec

Kind = Literal["requests", "tokens", "prompt_tokens", "output_tokens", "concurrent", "spend"]
KINDS: tuple[Kind, ...] = ("requests", "tokens", "prompt_tokens", "output_tokens", "concurrent", "spend")
TOKEN_KINDS = frozenset({"tokens", "prompt_tokens", "output_tokens"})
OutageMode = Literal["local_share", "open", "closed"]
"""What holds while the shared store cannot be asked: this process's share of the limit, no limit, or nothing is let in."""

NANO_PER_USD = 1_000_000_000
"""Nano-dollars in a dollar."""
US_PER_S = 1_000_000
"""Microseconds in a second."""
_WINDOWS = {"s": (10_000, 100), "min": (US_PER_S // 2, 120), "h": (30 * US_PER_S, 120), "day": (720 * US_PER_S, 120)}
"""A window's slot in microseconds, and how many full slots it has."""
_PERIODS = {"day": 86_400 * US_PER_S, "month": 0}
NO_SLOT = -1
BUDGET_TTL_MS = 40 * 86_400_000
"""Milliseconds that a store keeps a budget nobody asks about: longer than a month."""


class Costs(msgspec.Struct, frozen=True):
    """What one call takes from each kind of limit. `spend` in nano-dollars."""

    requests: int = 1
    prompt_tokens: int = 0
    output_tokens: int = 0
    spend: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and output together."""
        return self.prompt_tokens + self.output_tokens

    @property
    def concurrent(self) -> int:
        """A call is one call."""
        return 1


NO_COSTS = Costs(requests=0)


class Limit:
    """At most `amount` of `kind` in a `window`, for one owner (`key:search-team`). `amount` is nano-dollars for spend."""

    __slots__ = ("amount", "key", "kind", "outage", "owner", "side", "slot", "slots", "strict", "ttl", "window")

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
    ) -> None:
        """`side` is what is decided together: limits of one side share a hash tag, so that one script may touch them all.

        `strict` is for those who reserve: tokens are bounded before the call, not estimated.
        """
        self.owner = owner
        self.kind: Kind = kind
        self.amount = amount
        self.window = window
        self.outage: OutageMode = outage
        self.side = side
        self.strict = strict
        self.key = f"lockgate:{{{side}}}:{owner}:{kind}:{window or 'now'}"
        if kind == "concurrent":
            self.slot, self.slots, self.ttl = NO_SLOT, 0, 3_600_000
        elif kind == "spend":
            self.slot, self.slots, self.ttl = _PERIODS[window], 0, BUDGET_TTL_MS
        else:
            self.slot, self.slots = _WINDOWS[window]
            self.ttl = 2 * self.slot * (self.slots + 1) // 1000

    def slot_at(self, now: int) -> int:
        """The number of the slot that `now` is in; for a month the number of months since the year 0."""
        return now // self.slot if self.slot else month_number(now)

    def slot_expiry(self, slot: int) -> int:
        """When what was charged to `slot` counts no more."""
        return (slot + self.slots + 1) * self.slot if self.slot else month_start(slot + 1)

    def __str__(self) -> str:
        amount = f"{self.amount / NANO_PER_USD:.9f}".rstrip("0").rstrip(".") + " USD" if self.kind == "spend" else f"{self.amount:,}"
        what = "concurrent calls" if self.kind == "concurrent" else "" if self.kind == "spend" else self.kind.replace("_", " ")
        words = f"{amount} {what}".strip()
        return f"{words} per {self.window}" if self.window else words


class LimitStatus(msgspec.Struct, frozen=True):
    """How a limit stands after a decision: what remains, and the seconds until all of it is back."""

    limit: Limit
    remaining: int
    reset_s: float


class Reservation(msgspec.Struct, eq=False):
    """What an admitted call holds until it is settled. `slots` are where each limit was charged, `decided` when."""

    id: str
    limits: Sequence[Limit]
    costs: Costs
    slots: Sequence[int]
    statuses: Sequence[LimitStatus]
    decided_at: int
    degraded: bool = False
    """The shared store was out of reach: each limit's declared outage mode decided."""


class Refusal(msgspec.Struct, frozen=True):
    """The limit that binds. `retry_after` in seconds: None when waiting does not help, as the call alone is over the limit."""

    limit: Limit
    retry_after: float | None
    statuses: Sequence[LimitStatus] = ()
    decided_at: int = 0
    degraded: bool = False
    unavailable: bool = False
    """Refused because the store is out of reach and the limit's mode is `closed`."""
    busy: bool = False
    """A budget that is not used up, but reserved by calls in flight."""


class Limiter(Protocol):
    """Where limits are counted."""

    async def admit(self, limits: Sequence[Limit], costs: Costs, id: str) -> Reservation | Refusal:
        """Reserve `costs` in all limits, or in none. The same id twice is one reservation."""
        ...

    def settle(self, reservation: Reservation, actual: Costs) -> None:
        """Replace what was reserved by what was used, once; later calls for the same reservation do nothing."""
        ...

    async def start(self) -> None:
        """Begin to reach the store."""
        ...

    async def stop(self) -> None:
        """Send what is still owed and let go of the store."""
        ...


def costs_of_kind(limit: Limit, amount: int) -> Costs:
    """Costs that take `amount` from a limit of this kind."""
    taken = {"requests": 0, "tokens": 0, limit.kind: amount}
    return Costs(taken["requests"], taken.get("prompt_tokens", taken["tokens"]), taken.get("output_tokens", 0), taken.get("spend", 0))


def month_number(now: int) -> int:
    """Months since the year 0."""
    moment = datetime.fromtimestamp(now // US_PER_S, UTC)
    return moment.year * 12 + moment.month - 1


def month_start(month: int) -> int:
    """When a month begins."""
    return int(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()) * US_PER_S


def seconds_until(until: int, now: int) -> float:
    """Seconds from `now`, never negative."""
    return max(0, until - now) / US_PER_S


def needed_estimates(limits: Sequence[Limit]) -> tuple[bool, bool]:
    """Whether these limits ask for a call's tokens, and for its cost."""
    money = any(limit.kind == "spend" for limit in limits)
    return money or any(limit.kind in TOKEN_KINDS for limit in limits), money


def has_strict_limit(limits: Sequence[Limit]) -> bool:
    """Whether one of these limits counts in tokens or money, and has to hold exactly."""
    return any(limit.strict and (limit.kind in TOKEN_KINDS or limit.kind == "spend") for limit in limits)
