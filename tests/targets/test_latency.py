"""What is remembered of a target: an average that follows, sinks in silence, and quantiles that mean what they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.targets.latency import AVERAGE_DECAY_S, IDLE_DECAY_S, MAX_OBSERVATIONS, MIN_OBSERVATIONS, Latency, LatencyHistogram


class Hand:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def test_the_average_follows_what_is_seen_and_forgets_what_was() -> None:
    clock = Hand()
    pace = Latency(clock)
    pace.record(1.0, stream=True)
    assert pace.expected(stream=True) == 1.0
    clock.now += AVERAGE_DECAY_S * 3
    pace.record(0.1, stream=True)
    assert 0.1 < pace.expected(stream=True) < 0.15
    for _ in range(100):
        clock.now += AVERAGE_DECAY_S / 10
        pace.record(2.0, stream=True)
    assert pace.expected(stream=True) == pytest.approx(2.0, rel=0.01)


def test_without_news_an_average_sinks_so_that_a_slow_target_is_tried_again() -> None:
    clock = Hand()
    pace = Latency(clock)
    pace.record(5.0, stream=True)
    clock.now += IDLE_DECAY_S
    assert 1.5 < pace.expected(stream=True) < 2.0
    clock.now += IDLE_DECAY_S * 9
    assert pace.expected(stream=True) < 0.001


def test_streams_and_whole_answers_are_kept_apart_until_one_is_all_there_is() -> None:
    pace = Latency(Hand())
    pace.record(5.0, stream=False)
    assert pace.expected(stream=True) == 5.0
    pace.record(0.2, stream=True)
    assert (pace.expected(stream=True), pace.expected(stream=False)) == (0.2, 5.0)


def test_an_attempt_that_was_given_up_never_makes_a_target_look_faster() -> None:
    pace = Latency(Hand())
    pace.record_timeout(0.001, stream=True)
    assert pace.expected(stream=True) == 0.0
    pace.record(0.5, stream=True)
    pace.record_timeout(0.001, stream=True)
    assert pace.expected(stream=True) == 0.5
    pace.record_timeout(60.0, stream=True)
    assert pace.expected(stream=True) > 1.0


@given(st.lists(st.floats(0.001, 100), min_size=int(MIN_OBSERVATIONS), max_size=int(MAX_OBSERVATIONS)), st.floats(0.01, 0.999))
def test_a_quantile_is_at_most_a_bucket_over_the_true_one(times: list[float], share: float) -> None:
    spread = LatencyHistogram()
    for seconds in times:
        spread.record(seconds)
    found = spread.quantile(share)
    assert found is not None
    within = sum(seconds <= found * 1.000001 for seconds in times)
    assert within >= share * len(times) - 1e-6
    shorter = sum(seconds <= found / 2**0.25 * 0.999999 for seconds in times)
    assert shorter < share * len(times) or found == pytest.approx(0.001)


def test_too_few_have_no_quantile_and_old_ones_give_way() -> None:
    spread = LatencyHistogram()
    for _ in range(int(MIN_OBSERVATIONS) - 1):
        spread.record(1.0)
    assert spread.quantile(0.5) is None
    for _ in range(int(MAX_OBSERVATIONS) * 4):
        spread.record(0.01)
    found = spread.quantile(0.99)
    assert found is not None
    assert found < 0.02
    assert spread.total <= MAX_OBSERVATIONS


def test_a_target_of_which_nothing_is_known_is_tried_by_one_call_at_a_time() -> None:
    pace = Latency(Hand())
    assert pace.expected_wait(stream=True) == 0.0
    pace.in_flight = 1
    assert pace.expected_wait(stream=True) == float("inf")
    pace.record(0.5, stream=True)
    assert pace.expected_wait(stream=True) == 1.0
