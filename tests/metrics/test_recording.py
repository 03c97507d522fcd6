"""Counters as plain integers: what one call adds, bounded labels, and a text that a scraper reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import providers
from gateway.call import Aside, Attempt, Call
from gateway.errors import NotFound
from gateway.keys.authenticate import VirtualKey
from gateway.metrics import Metrics
from gateway.metrics.table import OPERATION
from providers.base import Adjustment, Target, Usage


def metrics() -> Metrics:
    """Counters that know two models, one target and two parameters."""
    return Metrics(["smart", "fast"], ["a/x"], {"a": "mistral"}, params=["temperature", "messages"])


def target(name: str = "a/x") -> Target:
    """A target."""
    return Target(name, "a", providers.get("mistral"), name.partition("/")[2], "http://x/v1")


def call(model: str = "smart", *, at: str = "a/x", stream: bool = False) -> Call:
    """A call that was answered after 40 ms."""
    found = Call("chat", "/v1/chat/completions")
    found.model, found.status, found.target, found.stream = model, 200, target(at), stream
    found.attempts = [Attempt(at, ms=30.0)]
    found.read_at = found.started
    found.sent_at = found.started + 0.0002
    found.first_byte_at = found.started + (0.0304 if not stream else 0.01)
    found.upstream_end = found.started + 0.03
    found.usage = Usage(10, 21, 3, 4)
    found.cost = 1_500_000
    found.key = VirtualKey("team")
    found.adjustments = [Adjustment("temperature", "clamp"), Adjustment("made-up", "drop"), Adjustment("messages[3].role", "role_map")]
    return found


def samples(one: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a scrape."""
    families = text_string_to_metric_families(one.expose().decode())
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples}


def value(one: Metrics, name: str, **labels: str) -> float:
    """One sample."""
    return samples(one)[name, frozenset(labels.items())]


def test_a_call_is_counted_in_every_way() -> None:
    one, ended = metrics(), call()
    one.record(ended, ended.started + 0.0304)
    both = {"model": "smart", "target": "a/x"}
    assert value(one, "lockgate_requests_total", **both, provider="a", operation="chat", status="2xx", code="ok") == 1
    for kind, tokens in {"prompt": 10, "output": 21, "cached": 3, "reasoning": 4}.items():
        assert value(one, "lockgate_tokens_total", **both, kind=kind, source="reported") == tokens
    assert value(one, "lockgate_cost_usd_total", **both) == 0.0015
    assert value(one, "lockgate_key_requests_total", key="team") == 1
    assert value(one, "lockgate_key_tokens_total", key="team", kind="output") == 21
    assert value(one, "lockgate_key_cost_usd_total", key="team") == 0.0015
    assert value(one, "lockgate_adjustments_total", provider="a", param="other", action="drop") == 1
    assert value(one, "lockgate_adjustments_total", provider="a", param="messages", action="role_map") == 1
    assert value(one, "lockgate_request_duration_seconds_count", **both) == 1
    assert value(one, "lockgate_request_duration_seconds_bucket", **both, le="0.02") == 0
    assert value(one, "lockgate_request_duration_seconds_bucket", **both, le="0.04") == 1
    assert abs(value(one, "lockgate_request_duration_seconds_sum", **both) - 0.0304) < 1e-6


def test_what_a_failed_attempt_used_is_counted_at_its_own_target() -> None:
    one, ended = Metrics(["smart"], ["a/x", "b/y"], {"a": "mistral", "b": "openai"}), call()
    ended.asides = [Aside("b/y", Usage(7, 2), 500_000)]
    one.record(ended, ended.started + 0.1)
    both = {"model": "smart", "target": "b/y"}
    assert value(one, "lockgate_tokens_total", **both, kind="prompt", source="reported") == 7
    assert value(one, "lockgate_cost_usd_total", **both) == 0.0005
    assert value(one, "lockgate_key_tokens_total", key="team", kind="output") == 23
    assert value(one, "lockgate_key_cost_usd_total", key="team") == 0.002


def test_the_overhead_is_what_neither_the_caller_nor_the_upstream_took() -> None:
    one, ended = metrics(), call()
    one.record(ended, ended.started + 0.0304)
    assert abs(value(one, "lockgate_overhead_seconds_sum", model="smart", target="a/x") - 0.0006) < 1e-6
    retried = call("fast")
    retried.attempts = [Attempt("a/x", "503", 5.0), Attempt("a/x")]
    one.record(retried, retried.started + 1)
    assert ("lockgate_overhead_seconds_sum", frozenset({("model", "fast"), ("target", "a/x")})) not in samples(one)


def test_a_stream_has_a_first_token_and_a_time_for_each_of_the_others() -> None:
    one, ended = metrics(), call(stream=True)
    one.record(ended, ended.started + 0.04)
    both = {"model": "smart", "target": "a/x"}
    assert value(one, "lockgate_time_to_first_token_seconds_bucket", **both, le="0.005") == 0
    assert value(one, "lockgate_time_to_first_token_seconds_bucket", **both, le="0.02") == 1
    assert abs(value(one, "lockgate_time_per_output_token_seconds_sum", **both) - 0.001) < 1e-6
    assert abs(value(one, "lockgate_overhead_seconds_sum", **both) - 0.0002) < 1e-6


def test_the_genai_names_show_the_same_calls_in_their_own_words() -> None:
    one, ended = metrics(), call(stream=True)
    one.record(ended, ended.started + 0.04)
    failed = call()
    failed.usage, failed.status, failed.error = None, 404, NotFound("no")
    one.record(failed, failed.started + 0.04)
    server = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "mistral_ai", "gen_ai_request_model": "smart"}
    client = {**server, "gen_ai_request_model": "x"}
    assert value(one, "gen_ai_server_request_duration_seconds_count", **server, error_type="") == 1
    assert value(one, "gen_ai_server_request_duration_seconds_count", **server, error_type="4xx") == 1
    assert value(one, "gen_ai_server_time_to_first_token_seconds_count", **server) == 1
    assert value(one, "gen_ai_server_time_per_output_token_seconds_count", **server) == 1
    assert value(one, "gen_ai_client_operation_duration_seconds_count", **client, error_type="") == 2
    assert value(one, "gen_ai_client_token_usage_sum", **client, gen_ai_token_type="output") == 21
    assert value(one, "gen_ai_client_token_usage_bucket", **client, gen_ai_token_type="input", le="16.0") == 1
    assert value(one, "gen_ai_client_token_usage_bucket", **client, gen_ai_token_type="input", le="4.0") == 0


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=40))
def test_what_callers_make_up_makes_no_series(made_up: list[tuple[str, str]]) -> None:
    one = metrics()
    for model, name in made_up:
        ended = call(model, at=f"a/{name}")
        one.record(ended, ended.started)
        refused = Call("chat", "/v1/chat/completions")
        refused.model, refused.status, refused.error = model, 404, NotFound("no")
        one.record(refused, refused.started)
    models, targets = {"smart", "fast", "other"}, {"a/x", "a/other", "none"}
    for model, at, *_ in one.counts["lockgate_requests"]:
        assert model in models
        assert at in targets
    samples(one)


def test_a_caller_who_left_is_counted_as_such() -> None:
    one, ended = metrics(), call()
    ended.abort_phase = "mid"
    one.record(ended, ended.started)
    labels = {"model": "smart", "target": "a/x", "provider": "a", "operation": "chat"}
    assert value(one, "lockgate_requests_total", **labels, status="499", code="client_closed") == 1
    assert value(one, "lockgate_client_aborts_total", phase="mid") == 1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_buckets_are_cumulative_and_hold_every_value(durations: list[float]) -> None:
    one = metrics()
    for seconds in durations:
        ended = call()
        ended.started = 0.0
        one.record(ended, seconds)
    found, both = samples(one), {("model", "smart"), ("target", "a/x")}
    for bound in (*OPERATION, float("inf")):
        within = sum(seconds <= bound for seconds in durations)
        le = "+Inf" if bound == float("inf") else str(bound)
        assert found["lockgate_request_duration_seconds_bucket", frozenset({*both, ("le", le)})] == within
    assert found["lockgate_request_duration_seconds_count", frozenset(both)] == len(durations)


def test_gauges_are_read_at_scrape_and_go_when_they_are_no_more() -> None:
    one = metrics()
    values = {("a/x", "cooling"): 1.0}
    one.gauge("lockgate_target_state", lambda: values)
    one.gauge("lockgate_store_errors", lambda: {("deadline",): 7.0})
    one.in_flight = 3
    assert value(one, "lockgate_target_state", target="a/x", state="cooling") == 1
    assert value(one, "lockgate_store_errors_total", kind="deadline") == 7
    assert value(one, "lockgate_requests_in_flight") == 3
    values.clear()
    assert ("lockgate_target_state", frozenset({("target", "a/x"), ("state", "cooling")})) not in samples(one)
