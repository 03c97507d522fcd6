"""providers.times: the times that vendors report, under one set of names."""

from __future__ import annotations

from typing import Any

from providers.times import TIME_NAMES, reported_times
from tests.support.each import each

METRICS = {"server-time-to-first-token": "0.5", "server-processing-time": 2, "prefill-queue-duration": 0.125}


@each(
    ("answer", "times"),
    [
        ({"time_info": {"queue_time": 1, "created": 2}}, {"queue_time": 1}),
        ({"usage": {"total_time": 1.5, "total_tokens": 3}}, {"total_time": 1.5}),
        ({"usage": {"total_tokens": 3}}, None),
        ({"perf_metrics": METRICS}, {"queue_time": 0.125, "prompt_time": 0.375, "total_time": 2.0, "completion_time": 1.5}),
        ({"perf_metrics": {f"fireworks-{name}": value for name, value in METRICS.items()}}, {"queue_time": 0.125}),
        ({"perf_metrics": {"prefill-duration": 0.25, "server-processing-time": "n/a"}}, {"prompt_time": 0.25}),
        ({"perf_metrics": {"prompt-tokens": 3, "server-processing-time": True}}, None),
        ({"perf_metrics": "x", "time_info": None}, None),
        ({}, None),
    ],
)
def test_times_have_one_set_of_names(answer: dict[str, Any], times: dict[str, float] | None) -> None:
    reported = reported_times(answer)
    assert (reported is None) == (times is None)
    assert set(reported or ()) <= set(TIME_NAMES)
    assert all((reported or {})[name] == value for name, value in (times or {}).items())
