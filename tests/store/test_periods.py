"""Periods of budgets: days, weeks and months in any time zone, across changes of the clock, and the whole time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store import periods
from gateway.store.limit import Limit
from gateway.store.periods import DAY_US, NEVER_US, US_PER_S, PeriodClock, month_number, month_start, period_at, period_clock
from tests.support.each import each

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Havana", "America/Sao_Paulo", "Asia/Beirut", "Asia/Kolkata",
    "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham", "Africa/Casablanca", "Etc/GMT+12", "Pacific/Kiritimati",
)  # fmt: skip


def us(text: str) -> int:
    """Return a UTC moment in microseconds."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * US_PER_S


@each(
    ("period", "zone", "moment", "start", "end"),
    [
        ("day", "UTC", "2026-03-29T12:00", "2026-03-29T00:00", "2026-03-30T00:00"),
        ("day", "Europe/Berlin", "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"),  # 23 hours
        ("day", "Europe/Berlin", "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"),  # 25 hours
        ("day", "Europe/Berlin", "2026-07-01T21:59:59", "2026-06-30T22:00", "2026-07-01T22:00"),
        ("day", "Europe/Berlin", "2026-07-01T22:00", "2026-07-01T22:00", "2026-07-02T22:00"),
        ("day", "America/New_York", "2026-11-29T03:00", "2026-11-28T05:00", "2026-11-29T05:00"),
        ("day", "America/Havana", "2026-11-01T04:30", "2026-11-01T04:00", "2026-11-02T05:00"),  # midnight comes twice
        ("day", "America/Havana", "2026-11-01T05:30", "2026-11-01T04:00", "2026-11-02T05:00"),
        ("day", "America/Sao_Paulo", "2018-11-04T12:00", "2018-11-04T03:00", "2018-11-05T02:00"),  # midnight does not exist
        ("day", "Asia/Kolkata", "2026-01-01T18:29", "2025-12-31T18:30", "2026-01-01T18:30"),
        ("week", "UTC", "2026-11-29T23:59", "2026-11-23T00:00", "2026-11-30T00:00"),  # a Sunday
        ("week", "UTC", "2026-11-30T00:00", "2026-11-30T00:00", "2026-12-07T00:00"),
        ("week", "Europe/Berlin", "2026-03-29T21:59", "2026-03-22T23:00", "2026-03-29T22:00"),
        ("month", "UTC", "2026-02-28T23:59", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("month", "Europe/Berlin", "2026-10-31T22:59", "2026-09-30T22:00", "2026-10-31T23:00"),
        ("month", "America/New_York", "2027-01-01T04:59", "2026-12-01T05:00", "2027-01-01T05:00"),
    ],
)
def test_a_period_begins_and_ends_at_local_midnight(period: str, zone: str, moment: str, start: str, end: str) -> None:
    clock = PeriodClock(period, zone)
    number = clock.number_at(us(moment))
    assert (clock.start(number), clock.start(number + 1)) == (us(start), us(end))


@given(st.sampled_from(ZONES), st.sampled_from(["day", "week", "month"]), st.integers(us("2010-01-01"), us("2040-01-01")))
def test_every_moment_is_in_the_period_of_its_local_date(zone: str, period: str, moment: int) -> None:
    clock = PeriodClock(period, zone)
    local = datetime.fromtimestamp(moment // US_PER_S, ZoneInfo(zone)).date()
    days = (local - datetime(1970, 1, 1).date()).days
    expected = {"day": days, "week": (days + 3) // 7, "month": local.year * 12 + local.month - 1}[period]
    assert clock.number_at(moment) == expected
    assert clock.number_at(moment) == clock.number_at(moment)
    assert clock.start(expected) <= moment < clock.start(expected + 1)


@given(st.sampled_from(ZONES), st.integers(us("2015-01-01"), us("2035-01-01")), st.integers(-DAY_US + US_PER_S, DAY_US))
def test_offsets_hold_for_a_clock_that_differs_by_up_to_a_day(zone: str, moment: int, skew: int) -> None:
    before, switch, after = PeriodClock("day", zone).offsets(moment)
    other = moment + skew
    expected = datetime.fromtimestamp(other // US_PER_S, ZoneInfo(zone)).utcoffset()
    if switch == NEVER_US or other < switch + DAY_US:  # a second change may follow
        assert timedelta(microseconds=before if other < switch else after) == expected


def test_the_whole_time_is_one_period_without_an_end() -> None:
    clock = PeriodClock("total", "Europe/Berlin")
    assert [clock.number_at(us(year)) for year in ("1970-01-02", "2026-01-01", "2200-01-01")] == [0, 0, 0]
    assert (clock.start(0), clock.start(1)) == (0, NEVER_US)


def test_a_foreign_period_number_has_no_end() -> None:
    for period, zone in (("day", "Europe/Berlin"), ("month", "UTC"), ("week", "Asia/Kolkata")):
        assert PeriodClock(period, zone).start(10**12) == NEVER_US


def test_periods_of_a_key_are_numbered_by_the_end_of_the_key() -> None:
    now = us("2026-11-29T12:00")
    for period in ("day", "week", "month", "total"):
        key = Limit("key:a:month", "spend", 1, period, timezone="Asia/Kolkata").key
        assert period_at(key, now) == period_clock(period).number_at(now)
    assert period_at("x:month", now) == month_number(now) == 2026 * 12 + 10
    assert month_start(month_number(now)) == us("2026-11-01")


def test_a_time_that_is_never_reached_is_the_largest_that_lua_represents() -> None:
    assert int(float(NEVER_US)) == NEVER_US
    assert float(NEVER_US + 1) == float(NEVER_US + 2)


HOUR_US = 3600 * US_PER_S
SPRING, AUTUMN = us("2026-03-29T01:00"), us("2026-10-25T01:00")
"""Changes of the clocks in Berlin."""
MOSCOW = us("2014-10-25T22:00")
"""The first change of the clocks in Moscow since 2011: from UTC+4 to UTC+3."""


@each(
    ("period", "zone", "moment", "expected"),
    [
        ("day", "Europe/Berlin", SPRING - DAY_US, (HOUR_US, SPRING, 2 * HOUR_US)),
        ("day", "Europe/Berlin", SPRING - US_PER_S, (HOUR_US, SPRING, 2 * HOUR_US)),
        ("day", "Europe/Berlin", SPRING, (HOUR_US, SPRING, 2 * HOUR_US)),
        ("day", "Europe/Berlin", SPRING + DAY_US - 1, (HOUR_US, SPRING, 2 * HOUR_US)),
        ("day", "Europe/Berlin", SPRING + DAY_US, (2 * HOUR_US, AUTUMN, HOUR_US)),
        ("day", "Europe/Berlin", SPRING + 100 * DAY_US + 12_345, (2 * HOUR_US, AUTUMN, HOUR_US)),
        ("week", "Europe/Berlin", SPRING, (HOUR_US + 3 * DAY_US, SPRING, 2 * HOUR_US + 3 * DAY_US)),
        ("week", "Asia/Kolkata", SPRING, (HOUR_US * 11 // 2 + 3 * DAY_US, NEVER_US, HOUR_US * 11 // 2 + 3 * DAY_US)),
        ("month", "America/Sao_Paulo", us("2018-02-18T02:00"), (-2 * HOUR_US, us("2018-02-18T02:00"), -3 * HOUR_US)),
        ("day", "Europe/Moscow", MOSCOW - 365 * DAY_US, (4 * HOUR_US, MOSCOW, 3 * HOUR_US)),
        ("day", "Europe/Moscow", MOSCOW - 365 * DAY_US - 1, (4 * HOUR_US, NEVER_US, 4 * HOUR_US)),
        ("day", "Europe/Berlin", 0, (HOUR_US, NEVER_US, HOUR_US)),
        ("week", "UTC", 0, (3 * DAY_US, NEVER_US, 3 * DAY_US)),
        ("total", "Europe/Berlin", SPRING, (0, NEVER_US, 0)),
    ],
)
def test_the_offsets_have_the_next_change_since_the_day_before(period: str, zone: str, moment: int, expected: tuple[int, int, int]) -> None:
    assert PeriodClock(period, zone).offsets(moment) == expected


def test_the_hour_before_midnight_comes_twice() -> None:
    clock, change = PeriodClock("day", "America/Sao_Paulo"), us("2018-02-18T02:00")
    seventeenth = clock.number_at(us("2018-02-17T12:00"))
    assert [clock.number_at(change + at) - seventeenth for at in (-1, 0, HOUR_US - 1, HOUR_US)] == [0, 0, 0, 1]


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The moments from which the search for a change began."""
    found, search = [], periods._next_change
    monkeypatch.setattr(periods, "_next_change", lambda zone, moment: found.append(moment) or search(zone, moment))
    return found


@each(
    ("zone", "moments", "since"),
    [
        # until a day after the change
        ("Europe/Berlin", [SPRING - 9 * DAY_US, SPRING - 10 * DAY_US, SPRING, SPRING + DAY_US - 1], [SPRING - 10 * DAY_US]),
        ("Europe/Berlin", [SPRING, SPRING + DAY_US, AUTUMN], [SPRING - DAY_US, SPRING]),
        # a clock that is set back by more than a day
        ("Europe/Berlin", [AUTUMN, AUTUMN - DAY_US - 1], [AUTUMN - DAY_US, AUTUMN - 2 * DAY_US - 1]),
        # without a change, for the time that was searched
        ("Asia/Kolkata", [SPRING, SPRING + 365 * DAY_US - 1, SPRING + 365 * DAY_US], [SPRING - DAY_US, SPRING + 364 * DAY_US]),
        ("Asia/Kolkata", [0, DAY_US], [0]),
        ("UTC", [0, SPRING, NEVER_US - 1], []),
    ],
)
def test_a_change_is_searched_for_once_while_it_is_the_next(searches: list[int], zone: str, moments: list[int], since: list[int]) -> None:
    clock = PeriodClock("day", zone)
    searches.clear()
    for moment in moments:
        offsets = clock.offsets(moment)
    assert searches == since
    assert offsets == PeriodClock("day", zone).offsets(moments[-1])
