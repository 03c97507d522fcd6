"""Counts the calls that another target than the first one of their route answered."""

from __future__ import annotations

from gateway.call import Call
from gateway.metrics import Metrics
from gateway.targets.candidate import Candidate


def count_fallback(metrics: Metrics, call: Call, first: Candidate) -> None:
    """Count the call if its answer, or the part of it that was sent, did not come from the first target of the route.

    A hedge that answered first is not a fallback.
    """
    name = first.backend.target.name
    if call.answered_by is None or (call.answered_by.target.name == name and not call.is_diverted):
        return
    if any(each.outcome == "lost" and each.target.name == name for each in call.attempts):
        return
    metrics.count("lockgate_fallback_answers", (metrics.model_label(call.model),))
