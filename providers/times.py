"""Times of an answer's parts, as vendors report them: Cerebras' `time_info`, Groq's `usage`, Fireworks' `perf_metrics`.

As of 2026-11. Source for Fireworks: docs.fireworks.ai on performance metrics. Fireworks reports seconds, as JSON
numbers or as text. The metrics are in the body if the request has `perf_metrics_in_response`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TIME_NAMES = ("queue_time", "prompt_time", "completion_time", "total_time")
"""Cerebras' names, which the gateway uses for every vendor."""
TIME_MARKS = (b'"time_info"', b'"total_time"', b'"perf_metrics"')
"""An answer that contains times contains one of these byte strings."""
_QUEUES = ("tokenizer-queue-duration", "prefill-queue-duration", "generation-queue-duration")
_PREFIX = "fireworks-"


def reported_times(answer: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the times in an answer or chunk, in seconds, or None if there are none."""
    for field in ("time_info", "usage"):
        reported = answer.get(field)
        if type(reported) is dict:
            times = {name: reported[name] for name in TIME_NAMES if type(reported.get(name)) in (int, float)}
            if times:
                return times
    metrics = answer.get("perf_metrics")
    return _from_metrics(metrics) or None if type(metrics) is dict else None


def _from_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return Fireworks' metrics under Cerebras' names.

    Without `prefill-duration`, the prompt time is the time to the first token minus the time in queues.
    """
    numbers = {
        name.removeprefix(_PREFIX).replace("_", "-"): number
        for name, value in metrics.items()
        if (number := _number(value)) is not None
    }
    times: dict[str, float] = {}
    queues = [numbers[name] for name in _QUEUES if name in numbers]
    if queues:
        times["queue_time"] = round(sum(queues), 6)
    first, total = numbers.get("server-time-to-first-token"), numbers.get("server-processing-time")
    if "prefill-duration" in numbers:
        times["prompt_time"] = numbers["prefill-duration"]
    elif first is not None:
        times["prompt_time"] = round(max(0.0, first - sum(queues)), 6)
    if total is not None:
        times["total_time"] = total
        if first is not None:
            times["completion_time"] = round(max(0.0, total - first), 6)
    return times


def _number(value: Any) -> float | None:
    if type(value) is str:
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if type(value) in (int, float) and 0 <= value < 1e9 else None
