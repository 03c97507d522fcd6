"""Whatever callers, upstreams and configurations name: a scrape stays within its bound, and nothing goes uncounted."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from gateway.call import Attempt, Call
from gateway.errors import GatewayError
from gateway.keys.authenticate import VirtualKey
from gateway.metrics import Metrics
from gateway.metrics.table import COUNTERS, GAUGES, HISTOGRAMS, MAX_KEYS, MAX_SERIES
from providers.base import Adjustment, Usage
from tests.metrics.test_recording import call, samples, target


def lines(one: Metrics) -> int:
    """How many series a scrape has."""
    return sum(not line.startswith("#") for line in one.expose().decode().splitlines())


def count(one: Metrics, ended: Call) -> None:
    """A call that took a second."""
    one.record(ended, ended.started + 1)


def hostile(number: int) -> Call:
    """A call all of whose names are new."""
    found = call(f"model-{number}", at=f"p{number}/m{number}", stream=number % 2 == 0)
    found.key = VirtualKey(f"key-{number}")
    found.attempts = [Attempt(f"p{number}/m{number}", str(400 + number % 200), 1.0)]
    found.adjustments = [Adjustment(f"param-{number}", "drop")]
    found.usage = Usage(number, number, 1, 1, estimated=number % 3 == 0)
    if number % 2:
        found.error, found.status = GatewayError("no", code=f"code_{number}", status=400 + number % 200), 400 + number % 200
    return found


def test_s10_100_000_names_make_at_most_2000_series_and_little_memory() -> None:
    one = Metrics(["smart"], ["a/x"], {"a": "mistral"}, params=["temperature"])
    for number in range(2000):
        count(one, hostile(number))
    tracemalloc.start()
    for number in range(2000, 100_000, 7):
        count(one, hostile(number))
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert lines(one) <= MAX_SERIES
    assert grown < 5 << 20
    assert sum(one.counts["lockgate_requests"].values()) == 2000 + len(range(2000, 100_000, 7))
    assert len(one.counts["lockgate_key_requests"]) == MAX_KEYS + 1
    samples(one)


@pytest.mark.parametrize("max_series", [500, 2000, 5000])
def test_a_configuration_of_many_names_stays_within_the_bound_and_counts_everything(max_series: int) -> None:
    models, targets = [f"m{number}" for number in range(60)], [f"a/t{number}" for number in range(200)]
    one = Metrics(models, targets, {"a": "mistral"}, max_series=max_series)
    draw = random.Random(1)
    for number in range(4000):
        ended = call(draw.choice(models), at=draw.choice(targets), stream=number % 2 == 0)
        ended.key = VirtualKey(f"key-{number % 300}")
        one.record(ended, ended.started + 1)
    one.gauge("lockgate_target_state", lambda: {(name, "live"): 1.0 for name in targets})
    for name in models:
        one.count("lockgate_fallbacks", (name,))
    assert lines(one) <= max_series
    assert sum(one.counts["lockgate_requests"].values()) == 4000
    assert sum(one.counts["lockgate_fallbacks"].values()) == 60
    found = samples(one)
    assert sum(n for (name, _), n in found.items() if name == "lockgate_request_duration_seconds_count") == 4000
    assert sum(n for (name, _), n in found.items() if name == "lockgate_target_state") == 200


def test_numbers_that_no_answer_can_have_are_not_believed() -> None:
    one = Metrics(["smart"], ["a/x"], {"a": "mistral"})
    for tokens in (10**30, -(10**30), 10**9):
        ended = call()
        ended.usage, ended.cost = Usage(tokens, 1, tokens, tokens), 10**22
        count(one, ended)
    assert one.counts["lockgate_tokens"]["smart", "a/x", "prompt", "reported"] == 10**9
    assert samples(one)["lockgate_cost_usd_total", frozenset({("model", "smart"), ("target", "a/x")})] > 10**9


def test_error_codes_of_upstreams_cannot_be_anything() -> None:
    one = Metrics(["smart"], ["a/x"], {"a": "mistral"})
    for code in ("a b", "x" * 100, "", 'q"', "\n", "fine_code-1.2"):
        ended = call()
        ended.status, ended.error = 400, GatewayError("no", code=code, status=400)
        one.record(ended, ended.started)
    assert {labels[-1] for labels in one.counts["lockgate_requests"]} == {"other", "upstream", "fine_code-1.2"}


def test_every_metric_has_our_prefix_a_sentence_and_labels_within_its_rights() -> None:
    texts = {name: text for name, (text, *_) in {**COUNTERS, **GAUGES}.items()}
    for name, text in {**texts, **{name: view.text for name, view in HISTOGRAMS.items()}}.items():
        assert name.startswith(("lockgate_", "gen_ai_"))
        assert text.endswith(".")
    assert not set(COUNTERS) & set(GAUGES)
    labels = {label for _, names in COUNTERS.values() for label in names} | {label for _, names, _ in GAUGES.values() for label in names}
    assert not labels & {"user", "request_id", "id", "prompt", "path"}


def test_an_other_target_keeps_its_provider() -> None:
    one = Metrics([], ["a/x"], {"a": "mistral"})
    assert one.target_label(target("a/made-up")) == "a/other"
