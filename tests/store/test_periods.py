"""Periods of budgets: days, weeks and months in any time zone, across changes of the clock, and the whole time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from gateway.store.limit import Limit
from gateway.store.periods import DAY_US, NEVER_US, US_PER_S, PeriodClock, month_number, period_at, period_clock
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
