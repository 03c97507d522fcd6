"""Latency of a target: the average follows observations and decays without them; quantiles are correct within a bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.targets.latency import AVERAGE_DECAY_S, IDLE_DECAY_S, MAX_OBSERVATIONS, MIN_OBSERVATIONS, Latency, LatencyHistogram


class ManualClock:
    """A clock that tests move."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_average_follows_observations_and_older_ones_fade() -> None:
    clock = ManualClock()
    latency = Latency(clock)
    latency.record(1.0, stream=True)
    assert latency.expected(stream=True) == 1.0
    clock.now += AVERAGE_DECAY_S * 3
    latency.record(0.1, stream=True)
    assert 0.1 < latency.expected(stream=True) < 0.15
    for _ in range(100):
        clock.now += AVERAGE_DECAY_S / 10
        latency.record(2.0, stream=True)
    assert latency.expected(stream=True) == pytest.approx(2.0, rel=0.01)


def test_the_average_decays_without_observations_so_that_a_slow_target_is_tried_again() -> None:
    clock = ManualClock()
    latency = Latency(clock)
    latency.record(5.0, stream=True)
    clock.now += IDLE_DECAY_S
    assert 1.5 < latency.expected(stream=True) < 2.0
    clock.now += IDLE_DECAY_S * 9
    assert latency.expected(stream=True) < 0.001


def test_streams_and_whole_answers_are_averaged_apart_and_stand_in_for_each_other() -> None:
    latency = Latency(ManualClock())
    latency.record(5.0, stream=False)
    assert latency.expected(stream=True) == 5.0
    latency.record(0.2, stream=True)
    assert (latency.expected(stream=True), latency.expected(stream=False)) == (0.2, 5.0)


def test_a_timeout_never_lowers_the_average() -> None:
    latency = Latency(ManualClock())
    latency.record_timeout(0.001, stream=True)
    assert latency.expected(stream=True) == 0.0
    latency.record(0.5, stream=True)
    latency.record_timeout(0.001, stream=True)
    assert latency.expected(stream=True) == 0.5
    latency.record_timeout(60.0, stream=True)
    assert latency.expected(stream=True) > 1.0


@given(st.lists(st.floats(0.001, 100), min_size=int(MIN_OBSERVATIONS), max_size=int(MAX_OBSERVATIONS)), st.floats(0.01, 0.999))
def test_a_quantile_exceeds_the_true_one_by_at_most_a_bucket(times: list[float], share: float) -> None:
    histogram = LatencyHistogram()
    for seconds in times:
        histogram.record(seconds)
    found = histogram.quantile(share)
    assert found is not None
    within = sum(seconds <= found * 1.000001 for seconds in times)
    assert within >= share * len(times) - 1e-6
    shorter = sum(seconds <= found / 2**0.25 * 0.999999 for seconds in times)
    assert shorter < share * len(times) or found == pytest.approx(0.001)


def test_few_observations_have_no_quantile_and_old_ones_fade() -> None:
    histogram = LatencyHistogram()
    for _ in range(int(MIN_OBSERVATIONS) - 1):
        histogram.record(1.0)
    assert histogram.quantile(0.5) is None
    for _ in range(int(MAX_OBSERVATIONS) * 4):
        histogram.record(0.01)
    found = histogram.quantile(0.99)
    assert found is not None
    assert found < 0.02
    assert histogram.total <= MAX_OBSERVATIONS


def test_an_unknown_target_is_tried_by_one_call_at_a_time() -> None:
    latency = Latency(ManualClock())
    assert latency.expected_wait(stream=True) == 0.0
    latency.in_flight = 1
    assert latency.expected_wait(stream=True) == float("inf")
    latency.record(0.5, stream=True)
    assert latency.expected_wait(stream=True) == 1.0
