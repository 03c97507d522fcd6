"""Counters as plain integers: bounded labels, sums over processes, and a text that a scraper reads."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import providers
from gateway.call import Attempt, Call
from gateway.errors import NotFound
from gateway.metrics import COUNTERS, DURATION, HISTOGRAMS, Metrics, Snapshot, add
from providers.base import Adjustment, Target, Usage


def metrics() -> Metrics:
    """Counters that know two models, one target and two parameters."""
    return Metrics(["smart", "fast"], ["temperature", "messages"], ["a/x"])


def target(name: str = "a/x") -> Target:
    """A target."""
    return Target(name, "a", providers.get("openai-compatible"), name.partition("/")[2], "http://x/v1")


def call(model: str = "smart", *, at: str = "a/x") -> Call:
    """A call that was answered."""
    found = Call("chat", "/v1/chat/completions")
    found.model, found.status, found.target = model, 200, target(at)
    found.attempts = [Attempt(at)]
    found.sent_at = found.started + 0.0002
    found.first_byte_at = found.started + 0.03
    found.usage = Usage(10, 20, 3, 4)
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
    one.record(ended, ended.started + 0.04)
    assert value(one, "lockgate_requests_total", model="smart", target="a/x", status="200", code="ok") == 1
    assert value(one, "lockgate_tokens_total", model="smart", target="a/x", kind="prompt", source="reported") == 10
    assert value(one, "lockgate_tokens_total", model="smart", target="a/x", kind="cached", source="reported") == 3
    assert value(one, "lockgate_adjustments_total", provider="a", param="other", action="drop") == 1
    assert value(one, "lockgate_adjustments_total", provider="a", param="messages", action="role_map") == 1
    assert value(one, "lockgate_request_duration_seconds_count", model="smart", target="a/x") == 1
    assert value(one, "lockgate_request_duration_seconds_bucket", model="smart", target="a/x", le="0.025") == 0
    assert value(one, "lockgate_request_duration_seconds_bucket", model="smart", target="a/x", le="0.05") == 1
    assert value(one, "lockgate_overhead_seconds_bucket", model="smart", target="a/x", le="0.0001") == 0


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
    assert value(one, "lockgate_requests_total", model="smart", target="a/x", status="499", code="client_closed") == 1
    assert value(one, "lockgate_client_aborts_total", phase="mid") == 1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_buckets_are_cumulative_and_hold_every_value(durations: list[float]) -> None:
    one = metrics()
    for seconds in durations:
        one.observe("lockgate_request_duration_seconds", ("smart", "a/x"), seconds)
    for bound in DURATION:
        within = sum(seconds <= bound for seconds in durations)
        assert value(one, "lockgate_request_duration_seconds_bucket", model="smart", target="a/x", le=str(bound)) == within
    assert value(one, "lockgate_request_duration_seconds_bucket", model="smart", target="a/x", le="+Inf") == len(durations)
    assert value(one, "lockgate_request_duration_seconds_count", model="smart", target="a/x") == len(durations)


def test_counters_of_several_processes_add_up_to_what_one_would_count() -> None:
    together, parts = metrics(), [metrics(), metrics(), metrics()]
    for number in range(30):
        ended = call("fast" if number % 2 else "smart")
        for one in (together, parts[number % 3]):
            one.record(ended, ended.started + number / 10)
            one.count("lockgate_internal_errors")
    total = Snapshot()
    for one in parts:
        wire = msgspec.json.encode(one.snapshot())
        total = add(total, msgspec.json.decode(wire, type=Snapshot))
    shown = metrics()
    shown.collect_from(lambda: total)
    found, expected = samples(shown), samples(together)
    assert set(found) == set(expected)
    assert all(abs(found[key] - expected[key]) < 1e-6 for key in expected)


def test_adding_changes_neither_of_the_two() -> None:
    one = metrics()
    one.record(call(), 1e9)
    first, second = one.snapshot(), one.snapshot()
    before = msgspec.json.encode(first)
    add(first, second)
    add(second, first)
    assert msgspec.json.encode(first) == before


def test_gauges_are_read_at_scrape_and_in_flight_is_one() -> None:
    one = metrics()
    values = {(): 1.0}
    one.gauge("lockgate_test", "A test.", lambda: values)
    one.gauge("lockgate_seen_total", "A count.", lambda: {("a",): 7.0}, ("provider",))
    one.in_flight = 3
    assert value(one, "lockgate_test") == 1
    values[()] = 2.0
    assert value(one, "lockgate_test") == 2
    assert value(one, "lockgate_seen_total", provider="a") == 7
    assert value(one, "lockgate_requests_in_flight") == 3


def test_every_metric_has_our_prefix_and_a_sentence() -> None:
    for name, (text, _) in [*COUNTERS.items(), *HISTOGRAMS.items()]:
        assert name.startswith("lockgate_")
        assert text.endswith(".")
