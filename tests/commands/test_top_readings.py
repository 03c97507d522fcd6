"""Rates and quantiles between two scrapes."""

from __future__ import annotations

import pytest

from gateway.commands.top_readings import Frame, Scrape, parse
from gateway.metrics import Metrics
from tests.support.metrics import finished_call, new_metrics, record


def scrape(metrics: Metrics, time: float) -> Scrape:
    """Return a scrape as the command gets it."""
    return parse(metrics.expose().decode(), time)


def test_rates_and_quantiles_are_of_the_interval_and_totals_since_the_start() -> None:
    metrics = new_metrics()
    for _ in range(10):
        call = finished_call(stream=True)
        call.first_byte_at = call.started + 0.9
        record(metrics, call, 5)
    before = scrape(metrics, 100.0)
    for number in range(20):
        call = finished_call(stream=True)
        if number == 19:
            call.status = 503
        record(metrics, call, 0.03)
    frame = Frame(before, scrape(metrics, 110.0))
    (smart,) = frame.model_rows()
    assert (smart.name, smart.requests, smart.rate) == ("smart", 30, 2.0)
    assert smart.errors == pytest.approx(0.05)
    assert smart.time_to_first_token[1] is not None
    assert smart.time_to_first_token[1] <= 0.02
    assert smart.duration[0] is not None
    assert 0.02 <= smart.duration[0] <= 0.04
    assert smart.cost == pytest.approx(30 * 0.0015)
    (team,) = frame.key_rows()
    assert (team.requests, team.tokens) == (30, 30 * 31)
    (quiet,) = Frame(scrape(metrics, 110.0), scrape(metrics, 120.0)).model_rows()
    assert (quiet.rate, quiet.requests) == (0, 30)
    assert quiet.duration[0] is not None


def test_reset_counter_has_no_negative_rate() -> None:
    before, after = new_metrics(), new_metrics()
    for _ in range(5):
        record(before, finished_call())
    record(after, finished_call())
    assert Frame(scrape(before, 0), scrape(after, 1)).rate("lockgate_requests_total") == 1
