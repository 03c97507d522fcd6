"""The samples of the last 15 minutes."""

from __future__ import annotations

from gateway.metrics import Metrics
from gateway.metrics.declarations import SOURCES
from gateway.runtime.live import MOMENT_S, STEP_S, WINDOW_S, LiveSeries


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def live_series() -> tuple[LiveSeries, Metrics, Clock]:
    metrics, clock = Metrics(["m"], ["a/x", "b/y"], {"a": "openai", "b": "openai"}), Clock()
    return LiveSeries(metrics, clock), metrics, clock


def count_call(metrics: Metrics, target: str = "a/x", status: str = "2xx", code: str = "ok") -> None:
    metrics.count("lockgate_requests", ("m", target, target[0], "chat", status, code))


def test_points_are_the_increases_between_samples() -> None:
    live, metrics, clock = live_series()
    count_call(metrics)  # before the first sample, so in no interval
    live.sample()
    for status, code in (("2xx", "ok"), ("2xx", "ok"), ("5xx", "upstream"), ("4xx", "rate_limit_exceeded"), ("499", "client_closed")):
        count_call(metrics, status=status, code=code)
    metrics.count("lockgate_tokens", ("m", "a/x", "prompt", "reported"), 7)
    metrics.count("lockgate_tokens", ("m", "a/x", "output", "reported"), 5)
    metrics.count("lockgate_tokens", ("m", "a/x", "cached", "reported"), 3)
    metrics.count("lockgate_cost_usd", ("m", "a/x"), 2_000_000)
    clock.now += STEP_S
    live.sample()
    clock.now += STEP_S
    live.sample()
    points = live.points()
    assert points["at"] == [1000.0 + STEP_S, 1000.0 + 2 * STEP_S]
    assert points["seconds"] == [STEP_S, STEP_S]
    shown = {name: points[name] for name in ("calls", "errors", "refused", "prompt_tokens", "output_tokens", "cost_usd")}
    assert shown == {
        "calls": [5, 0], "errors": [1, 0], "refused": [1, 0], "prompt_tokens": [7, 0], "output_tokens": [5, 0], "cost_usd": [0.002, 0],
    }  # fmt: skip


def test_time_to_first_token_is_that_of_the_interval() -> None:
    live, metrics, clock = live_series()
    cell = metrics.series.cell("first_token", ("m", "a/x", "a", "openai", "chat", ""))
    buckets = SOURCES["first_token"].buckets
    metrics.series.values[cell + buckets.index(10.0)] += 100  # slow calls before the interval
    live.sample()
    metrics.series.values[cell + buckets.index(0.02)] += 10
    clock.now += STEP_S
    live.sample()
    clock.now += STEP_S
    live.sample()
    assert live.points()["first_token_p50_ms"] == [15.0, None]
    assert live.points()["first_token_p95_ms"] == [19.5, None]


def test_points_since_a_time_are_the_later_ones() -> None:
    live, _, clock = live_series()
    for _ in range(4):
        live.sample()
        clock.now += STEP_S
    assert live.points(1000.0 + 2 * STEP_S)["at"] == [1000.0 + 3 * STEP_S]


def test_samples_older_than_the_window_are_dropped() -> None:
    live, _, clock = live_series()
    for _ in range(int(WINDOW_S / STEP_S) + 50):
        live.sample()
        clock.now += STEP_S
    assert len(live.points()["at"]) == WINDOW_S / STEP_S


def test_shares_are_the_calls_of_the_window_by_target() -> None:
    live, metrics, clock = live_series()
    count_call(metrics)
    live.sample()
    count_call(metrics)
    count_call(metrics, "b/y")
    count_call(metrics, "b/y", "5xx", "upstream")
    assert live.shares() == {"m": {"a/x": 1, "b/y": 2}}
    for _ in range(int(WINDOW_S / MOMENT_S) + 1):
        clock.now += MOMENT_S
        live.sample()
    assert live.shares() == {}


def test_calls_in_flight_are_counted() -> None:
    live, metrics, _ = live_series()
    metrics.begin()
    metrics.begin()
    metrics.begin_stream()
    assert live.in_flight() == {"calls": 2, "streams": 1}


def test_counts_of_other_processes_are_included() -> None:
    live, metrics, clock = live_series()
    other = Metrics(["m"], ["a/x"], {"a": "openai"})
    metrics.collect_from(lambda: [other.snapshot()])
    live.sample()
    count_call(other)
    other.begin()
    clock.now += STEP_S
    live.sample()
    assert live.points()["calls"] == [1]
    assert live.in_flight()["calls"] == 1
