"""One call on its way from place to place: how often it was sent, what went wrong last, and what its caller is told in the end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from msgspec import structs

from gateway.call import Attempt, Call
from gateway.errors import FAILURES, GatewayError, Unavailable, from_failure, from_refusal
from gateway.http.caller import Caller
from gateway.targets.candidate import Candidate
from gateway.targets.health import TargetHealth
from providers.base import Failure, FailureKind, Refusal

SHORTEST_WAIT = 1.0
"""Seconds that a caller is told to stay away at least."""
_KINDS: dict[str, FailureKind] = {"rate_limit": "rate_limit", "quota": "quota", "auth": "auth"}


class Journey:
    """What is known of one call between its attempts."""

    __slots__ = ("alone", "asked", "attempt", "call", "caller", "failure", "moved", "paid", "places", "refusal", "sent", "target", "total")

    def __init__(self, call: Call, caller: Caller, total: float, *, alone: bool) -> None:
        """`total`: seconds that the call as a whole may take; `alone`: there is one place only."""
        self.call = call
        self.caller = caller
        self.total = total
        self.alone = alone
        self.attempt: Attempt | None = None
        """The latest attempt."""
        self.sent = 0
        """Requests that went upstream."""
        self.places: Callable[[], Sequence[Candidate]] = tuple
        """Every place that the call may go to."""
        self.moved = False
        """A place was asked before."""
        self.paid = False
        """The latest send was paid for by the retry budget."""
        self.asked: set[str] = set()
        """Targets that were asked out of their turn."""
        self.failure: Failure | None = None
        self.target = ""
        self.refusal: Refusal | None = None

    def left(self) -> float:
        """Seconds until the call has to be over."""
        return self.total - (time.monotonic() - self.call.started)

    def fail(self, failure: Failure, target: str) -> None:
        """The latest thing that went wrong, and where."""
        self.failure, self.target = failure, target

    def error(self) -> GatewayError:
        """What the caller is told when this is the end."""
        if self.failure is not None:
            return from_failure(self.failure, self.target)
        if self.refusal is not None:
            return from_refusal(self.refusal)
        return from_failure(Failure("timeout", f"no answer within {self.total:g} s"), self.call.model)


def last_word(journey: Journey, healths: Sequence[TargetHealth], *, down: bool) -> GatewayError:
    """The error when every place was tried; it says when the first of them is back. `down`: all were cooling as the call came."""
    failure = journey.failure
    if failure is None:
        return journey.error()
    soonest = _apart(min(health.seconds_left for health in healths))
    if down and len(healths) > 1 and FAILURES[failure.kind].blame == "failure":  # of a lone target its own words say more
        message = f"No target of the model '{journey.call.model}' answers. The last was {journey.target}: {failure.message}"
        return Unavailable(message, retry_after=soonest)
    if len(healths) > 1 and FAILURES[failure.kind].status in (429, 503):
        return from_failure(structs.replace(failure, retry_after=soonest), journey.target)
    return journey.error()


def resting(health: TargetHealth) -> Failure:
    """Why a call is not sent to a target that cools, while another one is finding out about it already."""
    reason, left = health.cooldown.reason or "failures", health.seconds_left
    message = f"left alone for {left:.0f} s more ({reason}), but for one call that finds out whether it is back"
    return Failure(_KINDS.get(reason, "overloaded"), message, retry_after=_apart(left))


def _apart(seconds: float) -> float:
    """A time to come back, up to a tenth later: not all callers at the same moment."""
    return max(SHORTEST_WAIT, seconds) * (1.0 + random.random() / 10)
