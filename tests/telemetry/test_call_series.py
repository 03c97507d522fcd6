"""The cells of one kind of call."""

from __future__ import annotations

from gateway.telemetry.call_metrics import CallMetrics
from gateway.telemetry.call_series import MAX_PLAUSIBLE_TOKENS, plausible_tokens
from tests.support.each import each
from tests.support.metrics import finished_call, new_metrics, value


@each(
    ("reported", "counted"),
    [(-1, 0), (0, 0), (MAX_PLAUSIBLE_TOKENS, MAX_PLAUSIBLE_TOKENS), (MAX_PLAUSIBLE_TOKENS + 1, 0)],
)
def test_only_plausible_token_counts_are_counted(reported: int, counted: int) -> None:
    assert plausible_tokens(reported) == counted


def test_calls_of_one_kind_add_to_the_same_series_and_other_kinds_to_their_own() -> None:
    metrics = new_metrics()
    recorder = CallMetrics(metrics)
    for model, stream in (("smart", False), ("smart", False), ("fast", False), ("smart", True)):
        call = finished_call(model, stream=stream)
        recorder.record(call, call.started + 1)
    labels = {"target": "a/x", "provider": "a", "operation": "chat", "status": "2xx", "code": "ok"}
    assert value(metrics, "lockgate_requests_total", model="smart", **labels) == 3
    assert value(metrics, "lockgate_requests_total", model="fast", **labels) == 1
    assert value(metrics, "lockgate_time_to_first_token_seconds_count", model="smart", target="a/x") == 1
