"""The state of one call between its attempts, and the error with which it ends."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from msgspec import structs

from gateway.attempts.retry_budget import RetryBudget
from gateway.call import Attempt, Call, SkippedTarget
from gateway.dialects.dialect import in_callers_terms
from gateway.errors import FAILURES, GatewayError, Unavailable, from_failure, from_refusal
from gateway.http.caller import Caller
from gateway.targets.candidate import Candidate
from gateway.targets.health import TargetHealth
from gateway.upstream.transport import UpstreamError, in_seconds
from providers.base import Failure, FailureKind, Refusal

MIN_RETRY_AFTER_S = 1.0
_COOLDOWN_FAILURES: dict[str, FailureKind] = {
    "rate_limit": "rate_limit", "quota": "quota", "auth": "auth", "model": "model_not_found",
}  # fmt: skip
_OF_THE_REQUEST = frozenset(kind for kind, one in FAILURES.items() if one.blame == "caller")
_FINAL = frozenset(kind for kind, one in FAILURES.items() if one.then == "stop")
_OF_THE_CONFIGURATION = frozenset({"model_not_found", "path_not_found"})


class Progress:
    """The state of one call between its attempts."""

    __slots__ = (
        "attempt", "budget", "call", "caller", "candidates", "cooling", "failure", "has_token", "has_tried", "is_last_resort",
        "is_paid", "is_retry", "limit_waits", "overflowed", "refusal", "sent", "target", "total_s", "tried",
    )  # fmt: skip

    def __init__(self, call: Call, caller: Caller, total_s: float) -> None:
        """`total_s` is the time that the whole call may take."""
        self.call = call
        self.caller = caller
        self.total_s = total_s
        self.candidates: Callable[[], Sequence[Candidate]] = tuple
        """Returns every candidate of the call."""
        self.budget: RetryBudget | None = None
        """The retry budget to which requests after a failure are charged; None if the call is sent only once."""
        self.cooling: list[Candidate] = []
        """Candidates that were in cooldown when they were to be sent the call."""
        self.is_last_resort = False
        """Whether the call is sent to its target although that is in cooldown, because no other target of its route is live."""
        self.attempt: Attempt | None = None
        """The latest attempt."""
        self.sent = 0
        """Requests sent to upstreams."""
        self.has_tried = False
        """Whether any candidate was tried."""
        self.is_paid = False
        """Whether the latest request was charged to the retry budget, and its token has not been returned."""
        self.is_retry = False
        """Whether the next request goes to the same target as the one before."""
        self.has_token = False
        """Whether the call has a token of the retry budget for a request that has not been sent."""
        self.tried: set[str] = set()
        """Targets that were tried before their turn, by a hedge."""
        self.failure: Failure | None = None
        """The failure that is most useful to the caller, or the latest of several equally useful ones. It occurred at `target`."""
        self.target = ""
        self.limit_waits: dict[str, float] = {}
        """For each target whose own limits refused the call, the seconds until they may admit it."""
        self.overflowed: int | None = None
        """The largest known context window that the prompt exceeded, as an upstream reported."""
        self.refusal: Refusal | None = None
        """The first refusal raised by a provider's rules."""

    @property
    def is_only_candidate(self) -> bool:
        """Whether no other target may answer the call."""
        return len(self.candidates()) < 2

    def time_left(self) -> float:
        """Return the seconds until the call must end."""
        return self.total_s - (time.monotonic() - self.call.started)

    def note_cooling(self, candidate: Candidate) -> None:
        """Record that a candidate was in cooldown when it was to be sent the call."""
        if candidate not in self.cooling:
            self.cooling.append(candidate)

    def take_token(self, *, overdraw: bool) -> bool:
        """Take a token for the next request, unless it is the first or the call has a token. Return False if there is none."""
        if self.sent and not self.has_token:
            self.has_token = self.budget is not None and self.budget.take(overdraw=overdraw)
            return self.has_token
        return True

    def return_token(self) -> None:
        """Return the token of the latest request if that went to another target than the failed one, because the target answers."""
        if self.is_paid and not self.is_retry and self.budget is not None:
            self.is_paid = False
            self.budget.give_back()

    def return_unused_token(self) -> None:
        """Return the token for a request that is no longer sent."""
        if self.has_token and self.budget is not None:
            self.has_token = False
            self.budget.give_back()

    def note_sent(self) -> None:
        """Count a request, which uses the token of the call if there is one."""
        self.sent += 1
        self.is_paid, self.has_token = self.has_token, False

    def note_not_sent(self, attempt: Attempt) -> None:
        """Undo `note_sent` if no request of the attempt was sent."""
        if not attempt.is_written:
            self.sent -= 1
            self.has_token, self.is_paid = self.is_paid, False

    def record_failure(self, failure: Failure, target: str) -> None:
        """Store a failure and the target where it happened, unless the earlier one is more useful to the caller."""
        if self.failure is None or not _says_more(self.failure, failure):
            self.failure, self.target = failure, target

    def record_refusal(self, refusal: Refusal, target: str) -> None:
        """Record that the rules of a target refused the call. The first refusal is the error if no target gets the call."""
        self.refusal = self.refusal or refusal
        told = in_callers_terms(refusal, self.call.translator)
        self.call.skipped.append(SkippedTarget(target, told.param, told.message))

    def error(self) -> GatewayError:
        """Return the error for the caller if the call ends now."""
        failure, refusal = self.failure, self.refusal
        if failure is not None and (refusal is None or failure.kind not in _OF_THE_CONFIGURATION):
            return from_failure(failure, self.target)
        if refusal is not None:
            return from_refusal(refusal)
        return from_failure(Failure("timeout", f"no answer within {in_seconds(self.total_s)}", is_own=True), self.call.model)


def _says_more(earlier: Failure, later: Failure) -> bool:
    """Return whether an earlier failure is more useful to the caller than a later one.

    Failures after which a retry may succeed come first, then errors in the request, then faults of the configuration.
    The later failure counts if it ends the call, if both are equally useful, or if neither concerns the request or the
    configuration.
    """
    if later.kind in _FINAL or not {earlier.kind, later.kind} & (_OF_THE_REQUEST | _OF_THE_CONFIGURATION):
        return False
    return _rank(earlier) > _rank(later)


def _rank(failure: Failure) -> int:
    if failure.kind in _OF_THE_REQUEST:
        return 1
    return 2 if FAILURES[failure.kind].again else 0


def final_error(progress: Progress, healths: Sequence[TargetHealth], *, all_cooling: bool) -> GatewayError:
    """Return the error of a call that no candidate answered.

    If there are several targets, a 429 or 503 states the time until the first of them is available.

    `all_cooling` is true if every target was in cooldown when its turn came.
    """
    failure = progress.failure
    if failure is None:
        return progress.error()
    soonest = min(_wait_for(progress, health) for health in healths)
    # for a single target, the message of its failure is more specific
    if all_cooling and len(healths) > 1 and FAILURES[failure.kind].blame == "failure":
        own = f"All targets of model '{progress.call.model}' are unavailable."
        last = f"{own} Last error, from {progress.target}: {failure.message}"
        error = Unavailable(last, retry_after=soonest)
        error.logged = last if failure.is_own else own  # the message of an upstream may quote a prompt
        return error
    if len(healths) > 1 and FAILURES[failure.kind].status in (429, 503):
        return from_failure(structs.replace(failure, retry_after=soonest), progress.target)
    return progress.error()


def _wait_for(progress: Progress, health: TargetHealth) -> float:
    """Return the seconds after which a target may accept the call. The wait for a limit already includes a random share."""
    wait = progress.limit_waits.get(health.name)
    return _with_jitter(health.seconds_left) if wait is None else max(wait, health.seconds_left)


def in_cooldown(health: TargetHealth) -> Failure:
    """Return the failure of a call that is not sent, because its target is in cooldown and gets no further probe now."""
    reason, left = health.cooldown.reason or "failures", health.seconds_left
    message = f"in cooldown for {left:.0f} s ({reason}); no further probe is sent now"
    return Failure(_COOLDOWN_FAILURES.get(reason, "overloaded"), message, retry_after=_with_jitter(left), is_own=True)


def _with_jitter(seconds: float) -> float:
    """Return a time of at least MIN_RETRY_AFTER_S, increased by up to 10 % so that callers do not all retry at the same moment."""
    return max(MIN_RETRY_AFTER_S, seconds) * (1.0 + random.random() / 10)


def upstream_failure(error: UpstreamError, call: Call, attempt: Attempt, caller: Caller) -> Failure:
    """Return the failure as the caller sees it. A stream that fails before anything was sent to the
    caller counts as one that did not start."""
    kind = error.kind
    if call.stream and attempt.head_at and not caller.head_sent:
        if kind == "stalled":
            kind = "ttft_timeout"
        elif kind in ("reset", "truncated"):
            kind = "closed_pre"
    return Failure(kind, error.message)


async def pause(call: Call, seconds: float) -> None:
    """Wait, and count the time as a pause of the call."""
    began = time.monotonic()
    try:
        await asyncio.sleep(seconds)
    finally:
        call.pauses += ((began, time.monotonic() - began),)
