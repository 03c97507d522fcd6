"""How each target fared lately: which are left alone for a while and for how long, and who finds out whether they are back.

    live      calls go there
    cooling   until a moment: no call goes there while another target of its route is live
    probing   the time is over after failures in a row: one call finds out, the others go elsewhere; its success makes it live

What makes a target cool is `blame` in gateway.errors' table. Several credentials cool one by one, and the target only with the last
of them. A longer time wins over a shorter one, whoever named it: the configuration, the upstream, another instance of the gateway.
The state belongs to the process and outlives a reload. All decisions, no I/O; the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.config.provider import CooldownConfig, ProviderConfig
from gateway.errors import FAILURES
from gateway.targets.bulkhead import Bulkhead
from gateway.targets.cooldown import Cooldown, Reason, State, fingerprint, is_slow_failure
from gateway.targets.failure_rate import FailureRate
from providers.base import Failure, Target

RATE_LIMITED_FOR = 1.0
"""Seconds after a 429 that names no time: doubled for each further one in a row, up to the configured time."""
QUOTA_FOR = 300.0
"""Seconds without a target whose account has nothing left."""
AUTH_FOR = 600.0
"""Seconds without a credential that the upstream does not know any more; a reload tries it again at once."""
EARLY = 1.0
"""Seconds between two calls that ask a target before its time which lets them wait for nothing."""
_UNSET = CooldownConfig()


CooldownPublisher = Callable[[str, str | None, float, Reason], None]
"""Called with a target's name, the fingerprint of a credential (None: the whole target), seconds (0: it is over) and why."""


class TargetHealth:
    """One target's health, and the calls that are there now."""

    def __init__(self, name: str, provider: ProviderConfig | None, clock: Callable[[], float], tell: CooldownPublisher) -> None:
        self.name = name
        self.provider = name.partition("/")[0]
        self.cooldown = Cooldown()
        self.failures = 0
        """In a row."""
        self.failure_rate = FailureRate()
        self.refusals = 0
        """429s in a row."""
        self.ejections = 0
        self.ejected = False
        """It has to show by a success that it is back."""
        self.failed_slowly = False
        """Its latest failure let a call wait for nothing."""
        self.probe_in_flight = False
        """A call is finding out whether it is back."""
        self.in_flight = 0
        self.latency = 0.0
        """Decaying average of the seconds until an answer began."""
        self.last_failure: str | None = None
        self.shed = 0
        """Calls that its bulkhead turned away."""
        self.settings = _UNSET
        self.bulkhead: Bulkhead | None = None
        self._credentials: dict[str, Cooldown] = {}
        self._targets: Sequence[Target] = ()
        self._turn = 0
        self._closed_at = 0.0
        self._failed_at = 0.0
        self._clock = clock
        self._tell = tell
        if provider is not None:
            self.configure(provider)

    def configure(self, provider: ProviderConfig) -> None:
        """Follow a provider's settings; a credential that was refused is worth a try again, as the file may have another one now."""
        self.settings = provider.cooldown
        most = provider.max_concurrent
        if most is None:
            if self.bulkhead is not None:
                self.bulkhead.remove_limit()
            self.bulkhead = None
        elif self.bulkhead is None:
            self.bulkhead = Bulkhead(most, provider.max_queue, provider.max_wait)
        else:
            self.bulkhead.configure(most, provider.max_queue, provider.max_wait)
        for cooling in (self.cooldown, *self._credentials.values()):
            if cooling.reason == "auth":
                cooling.end()

    @property
    def state(self) -> State:
        """Where it stands now."""
        if self._clock() < self.cooldown.until:
            return "cooling"
        return "probing" if self.ejected else "live"

    @property
    def is_available(self) -> bool:
        """Whether a call may go there as to any other target."""
        if not self.ejected and not self.cooldown.until:  # nearly always
            return True
        return self._clock() >= self.cooldown.until and not (self.ejected and self.probe_in_flight)

    @property
    def must_wait(self) -> bool:
        """Whether one more call is one too many while it is not live: who said when to come back is asked by one at a time, and so is
        who lets calls wait for nothing, and that only now and then; who fails at once does no harm.
        """
        if self.ejected:
            return self.failed_slowly and (self.probe_in_flight or self._clock() < self._failed_at + EARLY)
        return self.probe_in_flight and self._clock() < self.cooldown.until

    @property
    def seconds_left(self) -> float:
        """Seconds until it cools no more."""
        return max(0.0, self.cooldown.until - self._clock())

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn there."""
        return self.bulkhead.waiting if self.bulkhead is not None else 0

    def pick_credential(self, targets: Sequence[Target]) -> Target:
        """The target with the credential whose turn it is; one that cools is passed over while there is another."""
        if len(targets) == 1:
            if self._targets:
                self._targets = ()  # another generation has one credential only
            return targets[0]
        self._targets = targets
        now = self._clock()
        soonest, earliest = targets[0], float("inf")
        for _ in targets:
            self._turn = (self._turn + 1) % len(targets)
            target = targets[self._turn]
            until = self._cooling_of(target).until
            if until <= now:
                return target
            if until < earliest:
                soonest, earliest = target, until
        return soonest

    def start_attempt(self) -> bool:
        """A call goes there: whether it is the one that finds out if the target is back. `end` must follow."""
        self.in_flight += 1
        if self.probe_in_flight or (self.is_available and not self.ejected):
            return False
        self.probe_in_flight = True
        return True

    def end_attempt(self, probe: bool) -> None:
        """The call is over, however it ended."""
        self.in_flight -= 1
        if probe:
            self.probe_in_flight = False

    def record_success(self, target: Target, began: float, seconds: float | None = None) -> None:
        """The upstream did what it was asked (or told the caller off): a call that `began` after the trouble did ends it."""
        self.failures = 0
        self.failure_rate.count(began, 0)
        if seconds is not None:
            self.latency += (seconds - self.latency) * (0.2 if self.latency else 1.0)
        if not self.ejected and not self.cooldown.until and not self._credentials:
            self.refusals = 0
            return
        self.refusals = 0
        if len(self._targets) > 1:
            self._end_credential(target, began)
        if (self.ejected or self.cooldown.until) and self.cooldown.since <= began:
            self._come_back()

    def _end_credential(self, target: Target, began: float) -> None:
        cooling = self._cooling_of(target)
        if cooling.reason is not None and cooling.since <= began:
            self._tell(self.name, fingerprint(target), 0.0, cooling.reason)
            cooling.end()

    def _come_back(self, *, heard: bool = False) -> None:
        now = self._clock()
        if self.cooldown.reason is not None and not heard:
            self._tell(self.name, None, 0.0, self.cooldown.reason)
        self.cooldown.end()
        self.failure_rate.forget()
        if self.ejected:
            self.ejected = False
            self._closed_at = now

    def record_probe(self, failure: Failure | None) -> None:
        """An active probe came back: a good one ends what failures began, a bad one counts as one more."""
        if failure is not None:
            self.last_failure = failure.kind
            self._count_failure(failure, probe=True, took=0.0)
        elif self.ejected:
            self.failures = 0
            if self.cooldown.reason in ("failures", None):
                self._come_back()

    def record_failure(self, target: Target, failure: Failure, *, probe: bool = False, took: float = 0.0) -> Reason | None:
        """Draw the consequences of a failure for which, or for an answer's begin, its caller waited `took` seconds; why it cools, if so."""
        blame = FAILURES[failure.kind].blame
        if blame == "caller":
            return None
        self.last_failure = failure.kind
        if blame == "rate_limit":
            self.refusals += 1
            ours = min(RATE_LIMITED_FOR * 2.0 ** min(self.refusals - 1, 20), self.settings.time)
            return self._cool_credential(target, max(ours, failure.retry_after or 0.0), self.settings.max, "rate_limit")
        if blame == "quota":
            return self._cool_credential(target, max(QUOTA_FOR, failure.retry_after or 0.0), max(QUOTA_FOR, self.settings.max), "quota")
        if blame == "auth" and failure.status != 403:  # a 403 may be about this one request
            return self._cool_credential(target, AUTH_FOR, AUTH_FOR, "auth")
        return self._count_failure(failure, probe, took)

    def _count_failure(self, failure: Failure, probe: bool, took: float) -> Reason | None:
        """One more: an ejection at the configured number in a row or share of all, or when the target was to show that it is back."""
        self.failures += 1
        now = self._failed_at = self._clock()
        self.failure_rate.count(now, 1)
        self.failed_slowly = is_slow_failure(failure, took)
        if now < self.cooldown.until:
            return None
        stated = failure.retry_after
        if stated and failure.kind == "overloaded":
            return self._cool(min(stated, self.settings.max), "overloaded")
        if self.failures < self.settings.failures and not (self.ejected and probe) and not self.failure_rate.reaches(self.settings.rate):
            return None
        self.failure_rate.forget()
        if not self.ejected and now - self._closed_at > self.settings.max:
            self.ejections = 0
        self.ejections += 1
        self.ejected = True
        return self._cool(min(max(self.settings.time * self.ejections, stated or 0.0), self.settings.max), "failures")

    def _cool(self, seconds: float, reason: Reason) -> Reason | None:
        if not self.cooldown.start(self._clock(), seconds, reason):
            return None
        self._tell(self.name, None, seconds, reason)
        return reason

    def _cool_credential(self, target: Target, seconds: float, most: float, reason: Reason) -> Reason | None:
        """One credential of several cools alone; the target with the last of them, until the first is back."""
        seconds = min(seconds, most)
        if len(self._targets) < 2:
            return self._cool(seconds, reason)
        now = self._clock()
        if not self._cooling_of(target).start(now, seconds, reason):
            return None
        self._tell(self.name, fingerprint(target), seconds, reason)
        self._cool_with_all(now)
        return reason

    def _cool_with_all(self, now: float) -> None:
        found = [self._cooling_of(one) for one in self._targets]
        soonest = min(found, key=lambda one: one.until)
        if soonest.until > now and soonest.reason is not None:
            self.cooldown.start(now, soonest.until - now, soonest.reason)

    def apply_remote(self, credential: str | None, seconds: float, reason: Reason) -> None:
        """Another instance of the gateway found it wanting."""
        now = self._clock()
        if credential is None:
            self.cooldown.start(now, seconds, reason)
            self.ejected = self.ejected or reason == "failures"
            return
        self._credentials.setdefault(credential, Cooldown()).start(now, seconds, reason)
        if len(self._targets) > 1:
            self._cool_with_all(now)

    def end_remote(self, credential: str | None, ago: float) -> None:
        """Another instance found, so many seconds ago, that it does what it is asked."""
        then = self._clock() - ago
        if credential is not None:
            cooling = self._credentials.get(credential)
            if cooling is not None and cooling.since <= then:
                cooling.end()
        elif (self.ejected or self.cooldown.until) and self.cooldown.since <= then:
            self.failures = 0
            self._come_back(heard=True)

    def credential_cooldowns(self) -> list[Cooldown]:
        """How each credential stands, in the order of the file; empty when there is one only."""
        return [self._cooling_of(target) for target in self._targets]

    def _cooling_of(self, target: Target) -> Cooldown:
        return self._credentials.setdefault(fingerprint(target), Cooldown())
