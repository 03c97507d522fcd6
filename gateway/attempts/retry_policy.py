"""Decides what follows a failed attempt: the same target again, the next candidate, or the end of the call.

`decide` has no side effects: it reads the state and draws a random number, but neither waits nor counts. Each kind of
failure has its row in `gateway.errors.FAILURES`. The failover loop checks the number of requests left and the retry
budget, because it also spends them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from gateway.attempts.progress import Progress
from gateway.config.model import FallbackCondition
from gateway.dialects.credential_headers import CREDENTIAL_PREFIX
from gateway.errors import FAILURES, NO_RETRY, GatewayError
from gateway.targets.candidate import Candidate
from gateway.targets.health import TargetHealth
from providers.base import Failure, FailureKind

CREDENTIAL_BLAMES = frozenset({"rate_limit", "quota", "auth", "model"})
"""Failures of one credential: another credential of the same target may work."""
STREAM_ENDING_FAILURES = frozenset({"limit", "timeout", *(kind for kind, one in FAILURES.items() if one.blame == "caller")})
"""Failures of a started stream that no target can continue: the stream is too long or too late, or the request is invalid."""
FALLBACK_CONDITIONS: dict[FailureKind, FallbackCondition] = {
    "content_filter": "content_filter", "client_error": "invalid_request",
}  # fmt: skip
"""The word in `fallback_on` for each kind of failure that otherwise ends a call."""
FIRST_BACKOFF_S = 0.1
"""The first retry waits a random part of this time (full jitter). The time doubles with each further retry."""
MAX_BACKOFF_S = 1.0
MAX_ANNOUNCED_WAIT_S = 1.5
"""A call waits for a target that announced a Retry-After of at most this time."""
ARRIVAL_SPREAD_S = 0.05
"""Calls that waited for the same target are sent at random moments within this time."""


class HealthView(Protocol):
    """The part of a target's health that the policy reads."""

    @property
    def is_available(self) -> bool:
        """Whether calls may be sent to the target."""
        ...

    @property
    def ejected(self) -> bool:
        """Whether the target is in cooldown after failures, or has not recovered from them."""
        ...


class Retry(NamedTuple):
    """Send the call to the same target again after `after` seconds."""

    after: float = 0.0


class Next(NamedTuple):
    """Try the next candidate or, if a stream has started, the next one that can continue the stream."""


class Stop(NamedTuple):
    """End the call with this error."""

    error: GatewayError


Decision = Retry | Next | Stop


def decide(
    failure: Failure, progress: Progress, candidate: Candidate, health: HealthView, retries: int, draw: Callable[[], float]
) -> Decision:
    """Decide what follows a failure that `progress` has recorded, after `retries` retries at the candidate."""
    if progress.caller.head_sent:
        transcript = progress.call.transcript
        can_continue = transcript is not None and transcript.is_plain and failure.kind not in STREAM_ENDING_FAILURES
        return Next() if can_continue else Stop(progress.error())
    consequence = FAILURES[failure.kind]
    if candidate.backend.target.brought and (consequence.blame in ("auth", "quota") or failure.status == 403):
        return Stop(_brought_error(failure, progress, candidate))  # the gateway's own credentials must not be charged instead
    if consequence.then == "stop":
        return Next() if _may_fall_back(failure, candidate) else Stop(progress.error())
    others = len(candidate.backend.targets) - 1 - retries
    if others > 0 and consequence.blame in CREDENTIAL_BLAMES and health.is_available:
        return Retry()  # with another credential
    if retries >= (candidate.settings.retries or 0) or health.ejected:
        return Next()
    wait = failure.retry_after or 0.0
    if failure.kind == "rate_limit":
        # an immediate retry would be refused as well, and another candidate may accept the call at once
        if not progress.is_only_candidate:
            return Next()
        wait = wait or MAX_ANNOUNCED_WAIT_S
    elif consequence.then != "retry":
        return Next()
    wait += draw() * min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2**retries)
    if wait > MAX_ANNOUNCED_WAIT_S + FIRST_BACKOFF_S or wait >= progress.time_left():
        return Next()
    return Retry(wait)


def _brought_error(failure: Failure, progress: Progress, candidate: Candidate) -> GatewayError:
    """Return the error of a call whose own credential the provider refused."""
    if FAILURES[failure.kind].blame != "auth":
        return progress.error()
    target = candidate.backend.target
    header = f"{CREDENTIAL_PREFIX}{target.provider.lower()}"
    text = f"{target.name}: the provider refused the credential in '{header}': {failure.message}"
    return GatewayError(text, param=header, status=401, code="credential_refused", type="invalid_request_error", headers=(NO_RETRY,))


def _may_fall_back(failure: Failure, candidate: Candidate) -> bool:
    """Return whether another target may be tried after a failure that usually ends the call."""
    if failure.status == 403:
        return True  # the account at this vendor lacks a permission, or only this vendor refuses the content
    chosen = candidate.settings.fallback_on or ()
    return FALLBACK_CONDITIONS.get(failure.kind) in chosen


def works(health: TargetHealth) -> bool:
    """Return whether a target has answered, and has not failed since then. The retry budget may be overdrawn for a fallback to it."""
    return health.latency > 0 and not health.failures and health.is_available


def may_send(progress: Progress, candidate: Candidate, default_max_attempts: int) -> bool:
    """Return whether the call has time and requests left for one more attempt."""
    if progress.time_left() <= 0:
        return False
    return not progress.sent or progress.sent < (candidate.settings.attempts or default_max_attempts)
