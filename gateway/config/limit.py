"""Limits and budgets: their notation (600/min, 50 USD/month), and the settings of a `limits` block."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct

WINDOWS = ("s", "min", "h", "day")
PERIODS = ("day", "week", "month", "total")
RATE_FIELDS = ("requests", "tokens", "prompt_tokens", "uncached_prompt_tokens", "output_tokens", "spend")
"""Kinds of limits with a window or a period."""
MAX_LIMIT = 10**12
MAX_SPEND_USD = 1_000_000
_WINDOW_SYNONYMS = {
    "sec": "s", "second": "s", "seconds": "s", "m": "min", "minute": "min", "minutes": "min", "hr": "h", "hour": "h",
    "hours": "h", "d": "day", "days": "day", "w": "week", "weeks": "week", "mo": "month", "months": "month",
}  # fmt: skip
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
RATE_PATTERN = r"\d+(?:\.\d+)?[kMG]?/(?:s|min|h|day)"
SPEND_PATTERN = r"\d+(?:\.\d+)? ?USD/(?:day|week|month|total)"


class Rate(msgspec.Struct, frozen=True, gc=False):
    """An amount per window. Amounts of money are in nano-dollars."""

    amount: int
    window: str


class HedgeDelay(msgspec.Struct, frozen=True, gc=False):
    """The delay before a hedge: a fixed time, or a quantile (`share`) of the target's latency."""

    seconds: float | None = None
    share: float | None = None

    def __str__(self) -> str:
        return f"{self.seconds:g} s" if self.share is None else f"p{self.share * 100:g}"


@lru_cache(1024)
def read_rate(text: str) -> Rate:
    """Read a rate such as `600/min`, `200k/min` or `1.5M/day`."""
    expected = "expected a rate such as 600/min, 200k/min or 1M/day"
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*(?:/\s*([A-Za-z]+))?", text, re.ASCII)
    if match is None or len(text) > 40:
        raise ValueError(expected)
    number, factor, window = match.groups()
    if window is None:
        raise ValueError(f"{expected}: the window is missing: use one of {', '.join(WINDOWS)}")
    if factor not in _FACTORS:
        raise ValueError(f"{expected}: unknown factor: use k, M or G")
    _check_window(window, WINDOWS, expected)
    amount = Decimal(number) * _FACTORS[factor]  # in binary floating point, 1.001k would not be a whole number
    if amount <= 0:
        raise ValueError("a limit must be more than 0; to block a key, set disabled: true")
    if amount > MAX_LIMIT or amount != int(amount):
        raise ValueError(f"a limit must be a whole number of at most {MAX_LIMIT:,}")
    return Rate(int(amount), window)


@lru_cache(1024)
def read_spend(text: str) -> Rate:
    """Read a budget such as `50 USD/month` or `200 USD/total`, as nano-dollars."""
    expected = "expected an amount such as 50 USD/month or 2.50 USD/day"
    match = re.fullmatch(r"(-?\d+(?:\.\d{1,9})?)\s*([A-Za-z$€]*)\s*(?:/\s*([A-Za-z]+))?", text, re.ASCII)
    if match is None or len(text) > 40:
        raise ValueError(expected)
    number, unit, period = match.groups()
    if unit != "USD":
        raise ValueError(f"{expected}: the unit must be USD")
    if period is None:
        raise ValueError(f"{expected}: the period is missing: add /day, /week, /month or /total")
    _check_window(period, PERIODS, expected)
    dollars, _, fraction = number.lstrip("-").partition(".")
    amount = int(dollars) * 10**9 + int(fraction.ljust(9, "0") or 0)
    if number.startswith("-") or not amount:
        raise ValueError("a budget must be more than 0; to block a key, set disabled: true")
    if amount > MAX_SPEND_USD * 10**9:
        raise ValueError(f"a budget must be at most {MAX_SPEND_USD:,} USD")
    return Rate(amount, period)


def _check_window(word: str, known: tuple[str, ...], expected: str) -> None:
    if word not in known:
        synonym = _WINDOW_SYNONYMS.get(word.lower())
        hint = f", did you mean '{synonym}'?" if synonym in known else f"; known: {', '.join(known)}"
        raise ValueError(f"{expected}: unknown window '{word[:20]}'{hint}")


def read_timezone(text: str) -> str:
    """Read the name of a time zone such as `Europe/Berlin`."""
    try:
        ZoneInfo(text)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        installed = "" if _has_time_zones() else " (this machine has no time zone data: install the package tzdata)"
        raise ValueError(f"unknown time zone, expected a name such as Europe/Berlin or UTC{installed}") from None
    return text


def _has_time_zones() -> bool:
    try:
        ZoneInfo("Europe/Berlin")
    except (OSError, ZoneInfoNotFoundError):
        return False
    return True


_Rates = Annotated[tuple[Rate, ...], Meta(extra={"form": "rate"})]
_Spends = Annotated[tuple[Rate, ...], Meta(extra={"form": "spend"})]


class LimitsConfig(Struct, frozen=True, gc=False):
    """Upper limits on usage. Rates have sliding windows; a budget is counted per calendar day, week or month, or in total.

    A kind may have several limits with different windows, which all apply: `requests: [10/s, 600/min]`.
    """

    requests: Annotated[
        _Rates,
        Meta(
            description="Calls per window. Windows are `s`, `min`, `h` and `day`.", examples=[["10/s", "600/min"]]
        ),
    ] = ()
    tokens: Annotated[_Rates, Meta(description="Prompt and output tokens per window.", examples=["200k/min"])] = ()
    prompt_tokens: Annotated[_Rates, Meta(description="Prompt tokens per window.", examples=["150k/min"])] = ()
    uncached_prompt_tokens: Annotated[
        _Rates,
        Meta(
            description="Prompt tokens per window that the provider does not read from its cache. A call reserves its "
            "whole prompt; the cached part is returned when the usage is known.",
            examples=["100k/min"],
        ),
    ] = ()
    output_tokens: Annotated[_Rates, Meta(description="Output tokens per window.", examples=["50k/min"])] = ()
    concurrent: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        Meta(description="Calls in flight at the same time.", examples=[20]),
    ] = None
    spend: Annotated[
        _Spends,
        Meta(
            description="Budget per calendar `day`, `week` (from Monday) or `month`, or in `total`. Every target that a "
            "call can reach must have a price.",
            examples=[["5 USD/day", "50 USD/month"]],
        ),
    ] = ()
    timezone: Annotated[
        str,
        Meta(
            description="Time zone in which the periods of budgets begin. A change of the time zone keeps the amounts already spent.",
            extra={"form": "timezone"},
            examples=["Europe/Berlin"],
        ),
    ] = "UTC"
    outage: Annotated[
        Literal["local_share", "open", "closed"],
        Meta(
            description="Behaviour while the store is unavailable. `local_share`: each process enforces its share "
            "of each limit. `open`: no limit. `closed`: calls are rejected.",
            examples=["closed"],
        ),
    ] = "local_share"
    strict: Annotated[
        bool,
        Meta(
            description="Never exceed a token limit or a budget, even if an estimate is wrong. Prompt tokens are counted "
            "as an upper bound derived from the size of the prompt, and a call without `max_tokens` is sent with the "
            "output cap that was reserved for it.",
            examples=[True],
        ),
    ] = False


NO_LIMITS = LimitsConfig()
