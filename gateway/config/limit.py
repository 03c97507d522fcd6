"""How limits and prices are written: 600/min, 200k/min, 50 USD/month, and what one form holds."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

WINDOWS = ("s", "min", "h", "day")
PERIODS = ("day", "month")
MOST = 10**12
"""Nobody means a limit above this."""
MOST_USD = 1_000_000
_MEANT = {
    "sec": "s", "second": "s", "seconds": "s", "m": "min", "minute": "min", "minutes": "min", "hr": "h", "hour": "h", "hours": "h",
    "d": "day", "days": "day", "mo": "month", "months": "month",
}  # fmt: skip
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
RATE = r"\d+(?:\.\d+)?[kMG]?/(?:s|min|h|day)"
SPEND = r"\d+(?:\.\d+)? ?USD/(?:day|month)"


class Rate(msgspec.Struct, frozen=True):
    """So many in a window."""

    amount: int
    window: str


class After(msgspec.Struct, frozen=True):
    """How long is too long: so many seconds, or as long as this share of a target's answers took to begin."""

    seconds: float | None = None
    share: float | None = None

    def __str__(self) -> str:
        return f"{self.seconds:g} s" if self.share is None else f"p{self.share * 100:g}"


def rate(text: str) -> Rate:
    """`600/min`, `200k/min`, `1.5M/day`."""
    expected = "expected a rate such as 600/min, 200k/min or 1M/day"
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*(?:/\s*([A-Za-z]+))?", text, re.ASCII)
    if match is None or len(text) > 40:
        raise ValueError(expected)
    number, factor, window = match.groups()
    if window is None:
        raise ValueError(f"{expected}: it needs its window, one of {', '.join(WINDOWS)}")
    if factor not in _FACTORS:
        raise ValueError(f"{expected}: the factors are k, M and G")
    _check_window(window, WINDOWS, expected)
    amount = Decimal(number) * _FACTORS[factor]  # in binary 1.001k would be no whole number
    if amount <= 0:
        raise ValueError("a limit is more than 0; 'disabled: true' refuses a key altogether")
    if amount > MOST or amount != int(amount):
        raise ValueError(f"a limit is a whole number of at most {MOST:,}")
    return Rate(int(amount), window)


def spend(text: str) -> Rate:
    """`50 USD/month`, `0.5 USD/day`, as nano-dollars."""
    expected = "expected an amount such as 50 USD/month or 2.50 USD/day"
    match = re.fullmatch(r"(-?\d+(?:\.\d{1,9})?)\s*([A-Za-z$€]*)\s*(?:/\s*([A-Za-z]+))?", text, re.ASCII)
    if match is None or len(text) > 40:
        raise ValueError(expected)
    number, unit, period = match.groups()
    if unit != "USD":
        raise ValueError(f"{expected}: the unit is USD")
    if period is None:
        raise ValueError(f"{expected}: it needs its period, day or month (UTC)")
    _check_window(period, PERIODS, expected)
    whole, _, part = number.lstrip("-").partition(".")
    amount = int(whole) * 10**9 + int(part.ljust(9, "0") or 0)
    if number.startswith("-") or not amount:
        raise ValueError("a budget is more than 0; 'disabled: true' refuses a key altogether")
    if amount > MOST_USD * 10**9:
        raise ValueError(f"a budget is at most {MOST_USD:,} USD")
    return Rate(amount, period)


def _check_window(word: str, known: tuple[str, ...], expected: str) -> None:
    if word not in known:
        meant = _MEANT.get(word.lower())
        hint = f", did you mean '{meant}'?" if meant in known else f"; known: {', '.join(known)}"
        raise ValueError(f"{expected}: unknown window '{word[:20]}'{hint}")


Each = Annotated[Rate, Meta(extra={"form": "rate"})]


class LimitsConfig(Struct, frozen=True):
    """What may be used at most. Windows slide; a budget is per UTC day or month."""

    requests: Annotated[Each | None, Meta(description="Calls in a window: 600/min. Windows are s, min, h and day.")] = None
    tokens: Annotated[Each | None, Meta(description="Prompt and output tokens together: 200k/min.")] = None
    prompt_tokens: Annotated[Each | None, Meta(description="Prompt tokens in a window.")] = None
    output_tokens: Annotated[Each | None, Meta(description="Output tokens in a window.")] = None
    concurrent: Annotated[Annotated[int, Meta(ge=1, le=1_000_000)] | None, Meta(description="Calls at the same time.")] = None
    spend: Annotated[
        Annotated[Rate, Meta(extra={"form": "spend"})] | None, Meta(description="A budget: 50 USD/month, 2.50 USD/day. Needs prices.")
    ] = None
    outage: Annotated[
        Literal["local_share", "open", "closed"],
        Meta(description="While the store is out of reach: this process's share of each limit, no limit, or no calls."),
    ] = "local_share"
    strict: Annotated[
        bool,
        Meta(
            description="Token limits and budgets hold exactly: the prompt is bounded by its bytes, and a call without a cap on its output "
            "gets the one that was reserved."
        ),
    ] = False
