"""Records the failures of attempts, and counts the calls that were answered by a target other than the first of their route."""

from __future__ import annotations

from gateway.attempts.admission import NotAdmittedError
from gateway.attempts.overflow import note_overflow
from gateway.attempts.progress import Progress
from gateway.call import Call
from gateway.metrics import Metrics
from gateway.targets.candidate import Candidate
from providers.base import Failure


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


def record_failure(metrics: Metrics, progress: Progress, candidate: Candidate, failure: Failure) -> None:
    """Record a failed attempt on the call and in the counters."""
    call, attempt, target = progress.call, progress.attempt, candidate.backend.target
    assert attempt is not None
    attempt.context = None
    attempt.outcome = str(failure.status) if failure.status >= 400 else failure.kind
    if failure.kind == "context_overflow":
        note_overflow(progress, candidate)
    label = metrics.target_label(target)
    metrics.count("lockgate_attempts", (label, attempt.outcome))
    metrics.count("lockgate_upstream_errors", (label, failure.kind))
    if failure.redacted:
        metrics.count("lockgate_secrets_redacted", (), failure.redacted)
    if call.stream and progress.caller.head_sent:
        call.stream_end = failure.kind
    progress.record_failure(failure, target.name)


def record_not_admitted(metrics: Metrics, progress: Progress, candidate: Candidate, error: NotAdmittedError) -> None:
    """Record that a target did not admit the call. A limit of the gateway or a cooldown does not count as an upstream error."""
    if error.is_shed:
        metrics.count("lockgate_shed", (metrics.target_label(candidate.backend.target),))
    if error.is_limit:
        assert progress.attempt is not None
        progress.attempt.outcome = "limit"
        name = candidate.backend.target.name
        progress.record_failure(error.failure, name)
        progress.limit_waits[name] = error.failure.retry_after or 0.0
    elif error.is_cooling:
        assert progress.attempt is not None
        progress.attempt.outcome = "cooldown"
        progress.record_failure(error.failure, candidate.backend.target.name)
    else:
        record_failure(metrics, progress, candidate, error.failure)
