"""Health of one target: whether and for how long the target is skipped after failures, and which call probes it.

    live      calls are sent there
    cooling   until the cooldown ends, no call is sent there while another target of its route is live
    probing   a cooldown after failures has ended: one call is sent as a probe, and its success makes the target live

The column `blame` of the table in gateway.errors determines which failures start a cooldown. Each of several credentials has
a cooldown of its own; when all of them are in cooldown, so is the target. Of two cooldowns, the longer one applies,
regardless of whether the configuration, the upstream or another process sets it. The state belongs to the process and
survives a reload. This module does no I/O, and the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.config.provider import CooldownConfig, ProviderConfig
from gateway.errors import FAILURES
from gateway.targets.bulkhead import Bulkhead
from gateway.targets.cooldown import (
    AUTH_COOLDOWN_S,
    MODEL_COOLDOWN_S,
    QUOTA_COOLDOWN_S,
    Cooldown,
    Reason,
    State,
    fingerprint,
    is_slow_failure,
    seconds_after_failures,
    seconds_after_rate_limits,
)
from gateway.targets.failure_rate import FailureRate
from gateway.targets.silence import Silence
from providers.base import Failure, Target

PROBE_INTERVAL_S = 1.0
"""Minimum time between probes of a target that fails slowly, or whose upstream announced the end of its cooldown."""
LEFT = Failure("header_timeout", "no answer had begun when the caller disconnected")
_DEFAULTS = CooldownConfig()

CooldownPublisher = Callable[[str, str | None, float, Reason], None]
"""Called with a target's name, its credential's fingerprint (None: the whole target), the seconds (0: ended) and the reason."""


class TargetHealth:
    """Health of one target, and its calls in flight."""

    def __init__(self, name: str, provider: ProviderConfig | None, clock: Callable[[], float], publish: CooldownPublisher) -> None:
        self.name = name
        self.provider = name.partition("/")[0]
        self.is_replica = False
        self.cooldown = Cooldown()
        self.failures = 0
        """Failures in a row."""
        self.failure_rate = FailureRate()
        self.rate_limits = 0
        """429s in a row."""
        self.ejections = 0
        self.ejected = False
        """Whether the target is out of service because of failures. A successful probe ends this."""
        self.failed_slowly = False
        """Whether the latest failure made its call wait."""
        self.probe_in_flight = False
        """Whether a probe is in flight, or waits to be admitted."""
        self.in_flight = 0
        self.latency = 0.0
        """Decaying average of the seconds until an answer begins."""
        self.silence = Silence()
        self.last_failure: str | None = None
        self.shed = 0
        """Number of calls that the bulkhead rejected."""
        self.settings = _DEFAULTS
        self.bulkhead: Bulkhead | None = None
        self._credential_cooldowns: dict[str, Cooldown] = {}
        self._targets: Sequence[Target] = ()
        self._has_several_credentials = False
        self._last_index = 0
        self._recovered_at = 0.0
        self._failed_at = 0.0
        self._is_announced = False
        """Whether the upstream announced the end of the cooldown that is in effect."""
        self._announces = False
        """Whether the latest failure has a Retry-After that sets the cooldown."""
        self._probed_at = -PROBE_INTERVAL_S
        """Time at which the latest probe began."""
        self._clock = clock
        self._publish = publish
        if provider is not None:
            self.configure(provider)

    def configure(self, provider: ProviderConfig) -> None:
        """Apply a provider's settings. Refused credentials and missing models are tried again: the new settings may correct them."""
        self.settings = provider.cooldown
        self._has_several_credentials = len(provider.api_key) > 1
        max_concurrent = provider.max_concurrent
        if max_concurrent is None:
            if self.bulkhead is not None:
                self.bulkhead.remove_limit()
            self.bulkhead = None
        elif self.bulkhead is None:
            self.bulkhead = Bulkhead(max_concurrent, provider.max_queue, provider.max_wait)
        else:
            self.bulkhead.configure(max_concurrent, provider.max_queue, provider.max_wait)
        for cooldown in (self.cooldown, *self._credential_cooldowns.values()):
            if cooldown.reason in ("auth", "model"):
                cooldown.end()

    @property
    def state(self) -> State:
        """The current state."""
        if self._clock() < self.cooldown.until:
            return "cooling"
        return "probing" if self.ejected else "live"

    @property
    def is_down(self) -> bool:
        """Whether the target is out of service because of failures, or in a cooldown for a reason other than a 429."""
        return self.ejected or (self.cooldown.reason != "rate_limit" and self._clock() < self.cooldown.until)

    @property
    def is_available(self) -> bool:
        """Whether a call may be sent to the target: the target is live, or the call is its next probe."""
        if not self.ejected and not self.cooldown.until:  # the usual case
            return True
        return self._clock() >= self.cooldown.until and not (self.ejected and self.probe_in_flight)

    @property
    def must_wait(self) -> bool:
        """Whether a call must not be sent, even if no target of its route is live.

        A target that is out of service because of failures gets every call if it fails fast. If it fails slowly, it gets one
        probe at a time, at most one per PROBE_INTERVAL_S. A target in another cooldown gets one call at a time, and if the
        upstream announced the end of the cooldown, at most one per PROBE_INTERVAL_S.
        """
        now = self._clock()
        if self.ejected:
            return self.failed_slowly and (self.probe_in_flight or now < self._failed_at + PROBE_INTERVAL_S)
        if now >= self.cooldown.until:
            return False
        return self.probe_in_flight or (self._is_announced and now < self._probed_at + PROBE_INTERVAL_S)

    @property
    def seconds_left(self) -> float:
        """Seconds until the cooldown ends."""
        return max(0.0, self.cooldown.until - self._clock())

    @property
    def waiting(self) -> int:
        """Number of calls in the bulkhead's queue."""
        return self.bulkhead.waiting if self.bulkhead is not None else 0

    @property
    def waiting_keys(self) -> int:
        """Number of keys with calls in the bulkhead's queue."""
        return self.bulkhead.queue.owners if self.bulkhead is not None else 0

    def pick_credential(self, targets: Sequence[Target], current: Target | None = None) -> Target:
        """Return `current` or, if its credential is in cooldown, the target with the next credential that is not in cooldown.

        If all are in cooldown, so is the target, and the one that recovers first is returned.
        """
        if len(targets) == 1:
            if self._targets and not self._has_several_credentials:  # otherwise, the call is one of an older generation
                self._targets = ()
            return targets[0]
        self._targets = targets
        now = self._clock()
        if current is not None and self._cooldown_of(current).until <= now:
            return current
        for _ in targets:
            self._last_index = (self._last_index + 1) % len(targets)
            target = targets[self._last_index]
            if self._cooldown_of(target).until <= now:
                return target
        self._cool_if_all_do(now)
        return min(targets, key=lambda target: self._cooldown_of(target).until)

    def return_credential(self, target: Target) -> None:
        """Undo the latest call of `pick_credential` if it returned `target`, because no request was sent."""
        if len(self._targets) > 1 and self._targets[self._last_index] is target:
            self._last_index = (self._last_index - 1) % len(self._targets)

    def claim_probe(self) -> bool:
        """Make a call the probe if the target is not live and has no probe. `start_attempt` or `probe_in_flight = False` must follow."""
        if self.probe_in_flight or (self.is_available and not self.ejected):
            return False
        self.probe_in_flight = True
        return True

    def start_attempt(self, *, is_claimed: bool = False) -> bool:
        """Count an attempt and return whether it is the probe, which it may have claimed before. `end_attempt` must follow."""
        self.in_flight += 1
        if not is_claimed and (not (self.ejected or self.cooldown.until) or not self.claim_probe()):
            return False
        self._probed_at = self._clock()
        return True

    def end_attempt(self, probe: bool) -> None:
        """Count the end of an attempt with any outcome."""
        self.in_flight -= 1
        if probe:
            self.probe_in_flight = False

    def record_success(self, target: Target, began: float, seconds: float | None = None) -> None:
        """Record an answer, or an error that the caller caused. End cooldowns that started before `began`, the start of the attempt."""
        self.failures = 0
        self.failure_rate.count(began, 0)
        if seconds is not None:
            self.latency += (seconds - self.latency) * (0.2 if self.latency else 1.0)
        self.rate_limits = 0
        if not self.ejected and not self.cooldown.until and not self._credential_cooldowns:
            return
        if len(self._targets) > 1:
            self._end_credential(target, began)
        if (self.ejected or self.cooldown.until) and self.cooldown.since <= began:
            self._recover()

    def _end_credential(self, target: Target, began: float) -> None:
        cooldown = self._cooldown_of(target)
        if cooldown.reason is not None and cooldown.since <= began:
            self._publish(self.name, fingerprint(target), 0.0, cooldown.reason)
            cooldown.end()

    def _recover(self, *, is_remote: bool = False) -> None:
        now = self._clock()
        if self.cooldown.reason is not None and not is_remote:
            self._publish(self.name, None, 0.0, self.cooldown.reason)
        self.cooldown.end()
        self.failure_rate.reset()
        if self.ejected:
            self.ejected = False
            self._recovered_at = now

    def record_probe(self, failure: Failure | None, began: float) -> None:
        """Record the result of an active probe sent at `began`: a failure counts, a success ends an earlier cooldown after failures."""
        if failure is not None:
            self.last_failure = failure.kind
            self._count_failure(failure, probe=True, took=0.0)
        elif self.ejected and self.cooldown.since <= began:
            self.failures = 0
            if self.cooldown.reason in ("failures", None):
                self._recover()

    def record_failure(self, target: Target, failure: Failure, *, probe: bool = False, took: float = 0.0) -> Reason | None:
        """Record a failed attempt. Return the reason for the cooldown that the failure starts, if any.

        `took` is the time in seconds that the caller waited for the failure or for the beginning of the answer.
        """
        blame = FAILURES[failure.kind].blame
        if blame == "caller":
            return None
        self.last_failure = failure.kind
        self._announces = bool(failure.retry_after) and blame not in ("auth", "model")
        if blame == "rate_limit":
            self.rate_limits += 1
            seconds = seconds_after_rate_limits(self.settings, self.rate_limits, failure.retry_after)
            return self._cool_credential(target, seconds, self.settings.max, "rate_limit")
        if blame == "quota":
            seconds = failure.retry_after or QUOTA_COOLDOWN_S
            return self._cool_credential(target, seconds, self.settings.quota_max, "quota")
        if blame == "auth" and failure.status != 403:  # a 403 may concern only this request
            return self._cool_credential(target, AUTH_COOLDOWN_S, AUTH_COOLDOWN_S, "auth")
        if blame == "model":  # a model may be missing for one credential only
            return self._cool_credential(target, MODEL_COOLDOWN_S, self.settings.max, "model")
        return self._count_failure(failure, probe, took)

    def record_silence(self, seconds: float, *, probe: bool) -> Reason | None:
        """Record that a caller disconnected after too long a silence. Return the reason for the cooldown that this starts, if any."""
        self.last_failure = "left"
        return self._count_failure(LEFT, probe, seconds)

    def _count_failure(self, failure: Failure, probe: bool, took: float) -> Reason | None:
        """Count a failure. Return the reason for the cooldown that it starts, if any.

        Unless the target is in a cooldown, start one if the upstream is overloaded and states a time to wait, if a probe
        failed, or if the failures in a row or their rate reach a limit.
        """
        self.failures += 1
        now = self._failed_at = self._clock()
        self.failure_rate.count(now, 1)
        self.failed_slowly = is_slow_failure(failure, took)
        if now < self.cooldown.until:
            return None
        stated = failure.retry_after
        if stated and failure.kind == "overloaded":
            return self._cool(min(stated, self.settings.max), "overloaded")
        is_failed_probe = self.ejected and probe
        too_many = self.failures >= self.settings.failures or self.failure_rate.reaches(self.settings.rate)
        if not is_failed_probe and not too_many:
            return None
        self.failure_rate.reset()
        if not self.ejected and now - self._recovered_at > self.settings.max:
            self.ejections = 0
        self.ejections += 1
        self.ejected = True
        return self._cool(seconds_after_failures(self.settings, self.ejections, stated), "failures")

    def _cool(self, seconds: float, reason: Reason) -> Reason | None:
        if not self.cooldown.start(self._clock(), seconds, reason):
            return None
        self._is_announced = self._announces
        self._publish(self.name, None, seconds, reason)
        return reason

    def _cool_credential(self, target: Target, seconds: float, longest: float, reason: Reason) -> Reason | None:
        """Cool down a credential. If all credentials are now in cooldown, cool down the target until the first one recovers."""
        seconds = min(seconds, longest)
        if len(self._targets) < 2:
            return self._cool(seconds, reason)
        now = self._clock()
        if not self._cooldown_of(target).start(now, seconds, reason):
            return None
        self._publish(self.name, fingerprint(target), seconds, reason)
        self._cool_if_all_do(now)
        return reason

    def _cool_if_all_do(self, now: float) -> None:
        first = min((self._cooldown_of(target) for target in self._targets), key=lambda cooldown: cooldown.until)
        if first.until > now and first.reason is not None and self.cooldown.start(now, first.until - now, first.reason):
            self._is_announced = self._announces

    def apply_remote(self, credential: str | None, seconds: float, reason: Reason) -> None:
        """Apply a cooldown reported by another process."""
        now = self._clock()
        if credential is None:
            self.cooldown.start(now, seconds, reason)
            self.ejected = self.ejected or reason == "failures"
            return
        self._credential_cooldowns.setdefault(credential, Cooldown()).start(now, seconds, reason)
        if len(self._targets) > 1:
            self._cool_if_all_do(now)

    def end_remote(self, credential: str | None, ago: float) -> None:
        """Apply a recovery that another process reported `ago` seconds ago."""
        then = self._clock() - ago
        if credential is not None:
            cooldown = self._credential_cooldowns.get(credential)
            if cooldown is not None and cooldown.since <= then:
                cooldown.end()
        elif (self.ejected or self.cooldown.until) and self.cooldown.since <= then:
            self.failures = 0
            self._recover(is_remote=True)

    def credential_cooldowns(self) -> list[Cooldown]:
        """Return the cooldown of each credential in the configuration's order, or [] if there is only one or no call has been sent."""
        return [self._cooldown_of(target) for target in self._targets]

    def _cooldown_of(self, target: Target) -> Cooldown:
        return self._credential_cooldowns.setdefault(fingerprint(target), Cooldown())
