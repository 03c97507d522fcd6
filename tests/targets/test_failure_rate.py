"""The failure rate needs enough calls and ignores those before its window."""

from __future__ import annotations

import pytest

from gateway.targets.failure_rate import MIN_CALLS, WINDOW_S, FailureRate


def filled(calls: int, failures: int, now: float = 100.0) -> FailureRate:
    """Return a rate with these calls, all at one moment."""
    rate = FailureRate()
    for number in range(calls):
        rate.count(now, int(number < failures))
    return rate


@pytest.mark.parametrize(("failures", "reached"), [(9, False), (10, True), (20, True)])
def test_a_rate_is_reached_by_its_share_of_failures(failures: int, reached: bool) -> None:
    assert filled(MIN_CALLS, failures).reaches(0.5) is reached


def test_few_calls_reach_no_rate() -> None:
    assert not filled(MIN_CALLS - 1, MIN_CALLS - 1).reaches(0.1)


def test_a_rate_of_one_is_never_reached() -> None:
    assert not filled(100, 100).reaches(1.0)


@pytest.mark.parametrize(("later", "reached"), [(WINDOW_S / 2 + 1, True), (WINDOW_S + 1, False)])
def test_calls_of_the_previous_half_count_and_older_ones_do_not(later: float, reached: bool) -> None:
    rate = filled(MIN_CALLS, MIN_CALLS)
    rate.count(100.0 + later, 0)
    assert rate.reaches(0.5) is reached


def test_a_reset_discards_all_calls() -> None:
    rate = filled(MIN_CALLS, MIN_CALLS)
    rate.reset()
    assert not rate.reaches(0.1)
