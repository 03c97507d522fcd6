"""The counters of calls that another target than the first one of their route answered."""

from __future__ import annotations

import pytest

from gateway.attempts.outcomes import count_fallback
from gateway.call import Attempt, Call
from gateway.metrics import Metrics
from tests.support.attempts import call_with, target_named
from tests.support.scripted import ScriptedTransport, candidate_over


def call_of(*outcomes: tuple[str, str], answered: int | None = None, is_diverted: bool = False) -> Call:
    """Return a call from the target and the outcome of each attempt. `answered` is the index of the attempt that answered."""
    call = call_with()
    call.attempts = [Attempt(target_named(name), outcome=outcome) for name, outcome in outcomes]
    call.answered_by = None if answered is None else call.attempts[answered]
    call.is_diverted = is_diverted
    return call


@pytest.mark.parametrize(
    ("call", "count"),
    [
        (call_of(("a/x", "ok"), answered=0), 0),
        (call_of(("a/x", "ok"), answered=0, is_diverted=True), 1),
        (call_of(("a/x", "500"), ("b/y", "ok"), answered=1), 1),
        (call_of(("b/y", "ok"), answered=0), 1),
        (call_of(("b/y", "reset"), answered=0), 1),
        (call_of(("a/x", "500"), ("b/y", "500")), 0),
        (call_of(("a/x", "lost"), ("b/y", "ok"), answered=1), 0),
    ],
    ids=["first", "diverted", "second", "cooldown", "broken", "none", "hedge"],
)
def test_answer_of_another_target_than_the_first_is_counted(call: Call, count: int) -> None:
    metrics = Metrics(["m"], ["a/x", "b/y"], {"a": "openai", "b": "openai"})
    count_fallback(metrics, call, candidate_over(ScriptedTransport()))
    assert sum(metrics.counts["lockgate_fallback_answers"].values()) == count
