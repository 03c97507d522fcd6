"""Periods of budgets: UTC days, weeks and months, or those of a time zone, or the whole time (`total`).

Each period has a number: days since 1970-01-01, weeks since the Monday before that day, months since the year 0, and 0 for
the whole time. The numbers of a time zone count its local days, so that a budget whose time zone changes keeps its spend.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from zoneinfo import ZoneInfo

US_PER_S = 1_000_000
"""Microseconds in a second."""
DAY_US = 86_400 * US_PER_S
NEVER_US = 2**53 - 1
"""A time that is never reached, about the year 2255. Lua does not represent every larger integer."""
MONTH_WIDTH = 0
"""Stands for the length of a month, which varies."""
PERIOD_WIDTHS = {"day": DAY_US, "week": 7 * DAY_US, "month": MONTH_WIDTH, "total": NEVER_US}
"""The length of each period in microseconds."""
KEPT_PERIODS = 2
"""Number of past periods that are kept, because clocks and time zones differ."""
_WEEK_SHIFT_US = 3 * DAY_US
"""1970-01-01 was a Thursday, and weeks begin on Monday."""
_SEARCHED_DAYS = 366
"""The time span that is searched for the next change of a time zone's offset."""

Offsets = tuple[int, int, int]
"""The offset of local time from UTC before a moment, that moment, and the offset after it."""


class PeriodClock:
    """Numbers the periods of one length in one time zone."""

    def __init__(self, period: str, timezone: str = "UTC") -> None:
        self.width = PERIOD_WIDTHS[period]
        self._zone: tzinfo = UTC if timezone == "UTC" or period == "total" else ZoneInfo(timezone)
        self._shift = _WEEK_SHIFT_US if period == "week" else 0
        self._offsets: Offsets = (self._shift, NEVER_US, self._shift)
        self._valid_from, self._valid_until = (0, NEVER_US) if self._zone is UTC else (0, 0)

    def offsets(self, now: int) -> Offsets:
        """Return the offsets around `now` and the moment between them. The offsets include the shift of weeks.

        The moment is the first change that is later than a day before `now`, because clocks may differ by a day.
        """
        if not self._valid_from <= now < self._valid_until:
            first = max(0, now - DAY_US)
            switch = _next_change(self._zone, first)
            before = _offset(self._zone, first) + self._shift
            after = before if switch == NEVER_US else _offset(self._zone, switch) + self._shift
            self._offsets = before, switch, after
            self._valid_from = first
            self._valid_until = first + _SEARCHED_DAYS * DAY_US if switch == NEVER_US else switch + DAY_US
        return self._offsets

    def number_at(self, now: int) -> int:
        """Return the number of the period that contains `now`."""
        before, switch, after = self.offsets(now)
        local = now + (before if now < switch else after)
        return local // self.width if self.width else month_number(local)

    def start(self, number: int) -> int:
        """Return the time at which a period begins, or NEVER_US for the period after the whole time."""
        if self.width == NEVER_US:
            return NEVER_US if number else 0
        if self.width and self._zone is UTC:
            return number * self.width - self._shift
        try:
            if self.width:
                days = (number * self.width - self._shift) // DAY_US
                local = datetime(1970, 1, 1, tzinfo=self._zone) + timedelta(days=days)  # arithmetic in local time
            else:
                local = datetime(number // 12, number % 12 + 1, 1, tzinfo=self._zone)
            return round(local.timestamp()) * US_PER_S
        except (ValueError, OverflowError):  # a foreign value in the store
            return NEVER_US


@cache
def period_clock(period: str, timezone: str = "UTC") -> PeriodClock:
    """Return the clock that numbers the periods of this length in this time zone."""
    return PeriodClock(period, timezone)


def period_at(key: str, now: int) -> int:
    """Return the number of the UTC period that contains `now`. The last part of the budget's `key` names the kind of period."""
    return period_clock(key.rpartition(":")[2]).number_at(now)


def month_number(now: int) -> int:
    """Return the number of months since the year 0."""
    moment = datetime.fromtimestamp(now // US_PER_S, UTC)
    return moment.year * 12 + moment.month - 1


def month_start(month: int) -> int:
    """Return the time at which a UTC month begins."""
    return period_clock("month").start(month)


def _offset(zone: tzinfo, moment: int) -> int:
    offset = datetime.fromtimestamp(moment // US_PER_S, zone).utcoffset()
    assert offset is not None
    return round(offset.total_seconds()) * US_PER_S


def _next_change(zone: tzinfo, moment: int) -> int:
    """Return the first second after `moment` with another offset, or NEVER_US if there is none in about a year."""
    offset, second = _offset(zone, moment), moment // US_PER_S
    for day in range(_SEARCHED_DAYS):
        start = second + day * 86_400
        if _offset(zone, (start + 86_400) * US_PER_S) != offset:
            later = bisect_right(range(86_400), False, key=lambda at: _offset(zone, (start + at) * US_PER_S) != offset)
            return (start + later) * US_PER_S
    return NEVER_US
