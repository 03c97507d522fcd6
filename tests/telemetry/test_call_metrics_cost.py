"""Counting is cheap: compared with prometheus-client's labels() in the same run, and for calls during a scrape."""

from __future__ import annotations

import pytest

from benchmarks.metrics import Theirs, a_call, measure
from gateway.metrics import Metrics
from gateway.metrics.declarations import MAX_SERIES
from gateway.telemetry.call_metrics import CallMetrics
from tests.running import Figure
from tests.support.calls import calls_of


def test_recording_a_call_takes_an_eighth_of_the_function_calls_of_prometheus_client() -> None:
    call, ours, theirs = a_call(), CallMetrics(Metrics(["smart"], ["openai/gpt-4o"], {"openai": "openai"})), Theirs()
    ended = call.started + 1
    ours.record(call, ended)
    theirs.record(call, ended)
    assert calls_of(lambda: ours.record(call, ended)) <= calls_of(lambda: theirs.record(call, ended)) / 8


@pytest.mark.prove
def test_p19_calls_are_served_during_a_scrape(figure: Figure) -> None:
    found = measure()
    figure("one call", found.ours, "us of CPU")
    figure("the same by prometheus-client's labels()", found.theirs, "us of CPU")
    figure("that is", 100 * found.ours / found.theirs, "%")
    figure(f"a scrape of {found.series} series", found.scrape, "ms")
    figure("longest block of the event loop", found.stall, "ms")
    assert MAX_SERIES * 0.9 < found.series <= MAX_SERIES
    assert found.turns > 10, "the event loop runs while the text is made"
