"""The counters and histograms that a finished call changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.call import Attempt, Call
from gateway.catalog.prices import TokenPrice
from gateway.errors import GatewayError, NotFound
from gateway.keys.virtual_key import VirtualKey
from gateway.metrics import Metrics
from gateway.metrics.declarations import OPERATION
from gateway.telemetry.call_metrics import CallMetrics
from providers.base import Usage
from tests.support.metrics import finished_call, new_metrics, record, samples, target_named, value


def test_finished_call_adds_to_all_counters() -> None:
    metrics, call = new_metrics(), finished_call()
    record(metrics, call, 0.0304)
    both = {"model": "smart", "target": "a/x"}
    assert (
        value(metrics, "lockgate_requests_total", **both, provider="a", operation="chat", status="2xx", code="ok") == 1
    )
    for kind, tokens in {"prompt": 10, "output": 21, "cached": 3, "reasoning": 4}.items():
        assert value(metrics, "lockgate_tokens_total", **both, kind=kind, source="reported") == tokens
    assert value(metrics, "lockgate_cost_usd_total", **both) == 0.0015
    assert value(metrics, "lockgate_key_requests_total", key="team", team="none", status="2xx") == 1
    assert value(metrics, "lockgate_key_tokens_total", key="team", team="none", kind="output") == 21
    assert value(metrics, "lockgate_key_cost_usd_total", key="team", team="none") == 0.0015
    assert value(metrics, "lockgate_adjustments_total", provider="a", param="other", action="drop") == 1
    assert value(metrics, "lockgate_adjustments_total", provider="a", param="messages", action="role_map") == 1
    assert value(metrics, "lockgate_request_duration_seconds_count", **both) == 1
    assert value(metrics, "lockgate_request_duration_seconds_bucket", **both, le="0.02") == 0
    assert value(metrics, "lockgate_request_duration_seconds_bucket", **both, le="0.04") == 1
    assert abs(value(metrics, "lockgate_request_duration_seconds_sum", **both) - 0.0304) < 1e-6


def test_calls_of_a_key_are_counted_by_team_and_status_class() -> None:
    metrics = new_metrics()
    recorder = CallMetrics(metrics)
    for team, status, aborted in (("search", 200, ""), ("search", 429, ""), ("search", 503, ""), ("search", 200, "stream")):
        call = finished_call()
        call.key, call.status, call.abort_phase = VirtualKey("app", team=team), status, aborted
        if status >= 400:
            call.error = GatewayError("no", code="no", status=status)
        recorder.record(call, call.started + 1)
    moved = finished_call()
    moved.key = VirtualKey("app", team="ads")
    recorder.record(moved, moved.started + 1)
    counted = metrics.counts["lockgate_key_requests"]
    assert counted == {("app", "search", status): 1 for status in ("2xx", "4xx", "5xx", "499")} | {("app", "ads", "2xx"): 1}
    assert metrics.counts["lockgate_key_tokens"]["app", "ads", "prompt"] == 10
    assert metrics.counts["lockgate_key_cost_usd"]["app", "ads"] == 1_500_000


def test_usage_of_a_failed_attempt_is_counted_at_its_own_target() -> None:
    metrics, call = Metrics(["smart"], ["a/x", "b/y"], {"a": "mistral", "b": "openai"}), finished_call()
    price = TokenPrice(prompt=0, output=250_000_000_000, cached=0)  # two tokens cost 500,000 nano-dollars
    call.attempts.insert(0, Attempt(target_named("b/y"), price, outcome="503", billed=(Usage(7, 2, 5, 1),)))
    record(metrics, call, 0.1)
    both = {"model": "smart", "target": "b/y"}
    for kind, tokens in {"prompt": 7, "output": 2, "cached": 5, "reasoning": 1}.items():
        assert value(metrics, "lockgate_tokens_total", **both, kind=kind, source="reported") == tokens
    assert value(metrics, "lockgate_cost_usd_total", **both) == 0.0005
    assert value(metrics, "lockgate_key_tokens_total", key="team", team="none", kind="output") == 23
    assert value(metrics, "lockgate_key_cost_usd_total", key="team", team="none") == 0.002


def test_overhead_excludes_the_time_of_caller_and_upstream_and_is_not_observed_for_retries() -> None:
    metrics, call = new_metrics(), finished_call()
    record(metrics, call, 0.0304)
    assert abs(value(metrics, "lockgate_overhead_seconds_sum", model="smart", target="a/x") - 0.0006) < 1e-6
    retried = finished_call("fast")
    retried.attempts.insert(0, Attempt(target_named(), outcome="503", ms=5.0))
    record(metrics, retried, 1)
    assert ("lockgate_overhead_seconds_sum", frozenset({("model", "fast"), ("target", "a/x")})) not in samples(metrics)


def test_stream_adds_time_to_first_token_and_time_per_output_token() -> None:
    metrics, call = new_metrics(), finished_call(stream=True)
    record(metrics, call, 0.04)
    both = {"model": "smart", "target": "a/x"}
    assert value(metrics, "lockgate_time_to_first_token_seconds_bucket", **both, le="0.005") == 0
    assert value(metrics, "lockgate_time_to_first_token_seconds_bucket", **both, le="0.02") == 1
    assert abs(value(metrics, "lockgate_time_per_output_token_seconds_sum", **both) - 0.001) < 1e-6
    assert abs(value(metrics, "lockgate_overhead_seconds_sum", **both) - 0.0002) < 1e-6


def test_genai_metrics_show_the_same_calls_under_conventional_names() -> None:
    metrics, call = new_metrics(), finished_call(stream=True)
    record(metrics, call, 0.04)
    failed = finished_call()
    failed.attempts[0].usage, failed.status, failed.error = None, 404, NotFound("no")
    record(metrics, failed, 0.04)
    server = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "mistral_ai", "gen_ai_request_model": "smart"}
    client = {**server, "gen_ai_request_model": "x"}
    assert value(metrics, "gen_ai_server_request_duration_seconds_count", **server, error_type="") == 1
    assert value(metrics, "gen_ai_server_request_duration_seconds_count", **server, error_type="4xx") == 1
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_count", **server) == 1
    assert value(metrics, "gen_ai_server_time_per_output_token_seconds_count", **server) == 1
    assert value(metrics, "gen_ai_client_operation_duration_seconds_count", **client, error_type="") == 2
    assert value(metrics, "gen_ai_client_token_usage_sum", **client, gen_ai_token_type="output") == 21
    assert value(metrics, "gen_ai_client_token_usage_bucket", **client, gen_ai_token_type="input", le="16.0") == 1
    assert value(metrics, "gen_ai_client_token_usage_bucket", **client, gen_ai_token_type="input", le="4.0") == 0


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=40))
def test_invented_names_do_not_create_series(made_up: list[tuple[str, str]]) -> None:
    metrics = new_metrics()
    for model, name in made_up:
        call = finished_call(model, target=f"a/{name}")
        record(metrics, call, 0)
        refused = Call("chat", "/v1/chat/completions")
        refused.model, refused.status, refused.error = model, 404, NotFound("no")
        record(metrics, refused, 0)
    models, targets = {"smart", "fast", "other"}, {"a/x", "a/other", "none"}
    for model, target, *_ in metrics.counts["lockgate_requests"]:
        assert model in models
        assert target in targets
    samples(metrics)


def test_disconnected_caller_is_counted_with_status_499() -> None:
    metrics, call = new_metrics(), finished_call()
    call.abort_phase = "mid"
    record(metrics, call, 0)
    labels = {"model": "smart", "target": "a/x", "provider": "a", "operation": "chat"}
    assert value(metrics, "lockgate_requests_total", **labels, status="499", code="client_closed") == 1
    assert value(metrics, "lockgate_client_aborts_total", phase="mid") == 1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_histogram_buckets_are_cumulative_and_complete(durations: list[float]) -> None:
    metrics = new_metrics()
    for seconds in durations:
        call = finished_call()
        call.started = 0.0
        CallMetrics(metrics).record(call, seconds)
    scrape, labels = samples(metrics), {("model", "smart"), ("target", "a/x")}
    for bound in (*OPERATION, float("inf")):
        within = sum(seconds <= bound for seconds in durations)
        le = "+Inf" if bound == float("inf") else str(bound)
        assert scrape["lockgate_request_duration_seconds_bucket", frozenset({*labels, ("le", le)})] == within
    assert scrape["lockgate_request_duration_seconds_count", frozenset(labels)] == len(durations)
