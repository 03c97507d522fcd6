"""Cooldown and recovery of a target, on a clock that the tests move, one event at a time and in any order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import providers
from gateway.config.provider import CooldownConfig, ProviderConfig
from gateway.config.secret import Secret
from gateway.targets.cooldown import AUTH_COOLDOWN_S, MODEL_COOLDOWN_S, QUOTA_COOLDOWN_S, fingerprint
from gateway.targets.health import TargetHealth
from gateway.targets.registry import TargetRegistry
from providers.base import Failure, FailureKind, Target
from tests.support.each import each
from tests.support.search import examples

BROKEN = Failure("server_error", "no", 500)


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def target(credential: str = "one") -> Target:
    """Return the target p/m with a credential."""
    return Target("p/m", "p", providers.get("openai"), "m", "http://localhost/v1", credential)


def health_of(clock: Clock, **cooldown: Any) -> TargetHealth:
    """Return the health of p/m with these cooldown settings of its provider."""
    registry = TargetRegistry(clock)
    registry.configure({"p": ProviderConfig(name="p", cooldown=CooldownConfig(**cooldown))})
    return registry.health_of(target())


def fail(health: TargetHealth, failure: Failure = BROKEN, to: Target | None = None) -> str | None:
    """Make one call that fails. Return the reason for the cooldown that it starts."""
    probe = health.start_attempt()
    health.end_attempt(probe)
    return health.record_failure(to or target(), failure, probe=probe)


def succeed(health: TargetHealth, clock: Clock, to: Target | None = None) -> None:
    """Make one call that succeeds."""
    probe = health.start_attempt()
    health.record_success(to or target(), clock.now, 0.1)
    health.end_attempt(probe)


def test_five_failures_in_a_row_start_a_cooldown() -> None:
    clock = Clock()
    health = health_of(clock)
    assert [fail(health) for _ in range(5)] == [None, None, None, None, "failures"]
    assert (health.state, health.is_available, health.seconds_left) == ("cooling", False, 30.0)


def test_a_success_resets_the_failures_in_a_row() -> None:
    clock = Clock()
    health = health_of(clock)
    for _ in range(20):
        for _ in range(4):
            fail(health)
        succeed(health, clock)
    assert health.state == "live"


def test_after_a_cooldown_one_call_probes_the_target_and_its_success_makes_it_live() -> None:
    clock = Clock()
    health = health_of(clock, failures=1)
    fail(health)
    clock.now += 30
    assert (health.state, health.is_available) == ("probing", True)
    probe = health.start_attempt()
    assert probe
    assert not health.is_available
    assert not health.start_attempt()
    health.record_success(target(), clock.now)
    assert (health.state, health.is_available) == ("live", True)


def test_a_probe_that_fails_or_is_cancelled_allows_the_next_one() -> None:
    clock = Clock()
    health = health_of(clock, failures=1)
    fail(health)
    clock.now += 30
    health.end_attempt(health.start_attempt())
    assert health.is_available
    assert fail(health) == "failures"
    assert health.seconds_left == 60


def test_each_cooldown_in_a_row_is_longer_up_to_the_maximum() -> None:
    clock = Clock()
    health = health_of(clock, failures=1, time=30.0, max=100.0)
    found = []
    for _ in range(5):
        fail(health)
        found.append(health.seconds_left)
        clock.now += health.seconds_left
    assert found == [30, 60, 90, 100, 100]


def test_after_a_long_time_without_failures_the_first_cooldown_is_short_again() -> None:
    clock = Clock()
    health = health_of(clock, failures=1)
    for _ in range(3):
        fail(health)
        clock.now += health.seconds_left
    succeed(health, clock)
    clock.now += 301
    fail(health)
    assert health.seconds_left == 30


@each(("stated", "cooled"), [(None, 1.0), (0.0, 1.0), (7.0, 7.0), (86_400.0, 300.0)])
def test_a_429_starts_a_cooldown_of_its_retry_after_within_bounds(stated: float | None, cooled: float) -> None:
    health = health_of(Clock())
    assert fail(health, Failure("rate_limit", "slow down", 429, retry_after=stated)) == "rate_limit"
    assert health.seconds_left == cooled
    assert health.state == "cooling"


def test_429s_without_retry_after_start_longer_and_longer_cooldowns() -> None:
    clock = Clock()
    health = health_of(clock)
    found = []
    for _ in range(7):
        fail(health, Failure("rate_limit", "slow down", 429))
        found.append(health.seconds_left)
        clock.now += health.seconds_left
    assert found == [1, 2, 4, 8, 16, 30, 30]
    assert health.state == "live"


def test_the_longer_cooldown_wins() -> None:
    clock = Clock()
    health = health_of(clock)
    fail(health, Failure("rate_limit", "", 429, retry_after=20.0))
    clock.now += 5
    assert fail(health, Failure("rate_limit", "", 429, retry_after=10.0)) is None
    assert health.seconds_left == 15
    assert fail(health, Failure("rate_limit", "", 429, retry_after=40.0)) == "rate_limit"
    assert health.seconds_left == 40


def test_a_503_with_retry_after_starts_a_cooldown_at_once() -> None:
    health = health_of(Clock())
    assert fail(health, Failure("overloaded", "", 503, retry_after=12.0)) == "overloaded"
    assert health.seconds_left == 12


def test_no_credit_starts_a_cooldown_of_five_minutes_and_a_refused_credential_one_of_ten() -> None:
    quota, auth = health_of(Clock()), health_of(Clock())
    assert fail(quota, Failure("quota", "", 402)) == "quota"
    assert fail(auth, Failure("auth", "", 401)) == "auth"
    assert (quota.seconds_left, auth.seconds_left) == (QUOTA_COOLDOWN_S, AUTH_COOLDOWN_S)
    assert fail(quota, Failure("quota", "", 429, retry_after=7200.0)) == "quota"
    assert quota.seconds_left == 7200


@each(("stated", "cooled"), [(None, 300.0), (0.0, 300.0), (40.0, 40.0), (18_432.0, 18_432.0), (1e6, 86_400.0)])
def test_used_up_quota_starts_a_cooldown_until_it_is_renewed(stated: float | None, cooled: float) -> None:
    health = health_of(Clock())
    assert fail(health, Failure("quota", "", 429, retry_after=stated)) == "quota"
    assert health.seconds_left == cooled


def test_cooldown_of_a_used_up_quota_has_a_limit_of_its_own() -> None:
    health = health_of(Clock(), max=100.0, quota_max=3_600.0)
    fail(health, Failure("quota", "", 429, retry_after=18_432.0))
    assert health.seconds_left == 3_600.0


def test_a_403_counts_as_an_ordinary_failure() -> None:
    health = health_of(Clock(), failures=2)
    assert [fail(health, Failure("auth", "", 403)) for _ in range(2)] == [None, "failures"]


def test_a_reload_ends_the_cooldown_of_a_refused_credential() -> None:
    registry = TargetRegistry(Clock())
    settings_ = {"p": ProviderConfig(name="p")}
    registry.configure(settings_)
    health = registry.health_of(target())
    fail(health, Failure("auth", "", 401))
    registry.configure(settings_)
    assert registry.health_of(target()) is health
    assert health.state == "live"


@pytest.mark.parametrize("kind", ["client_error"])
def test_an_error_caused_by_the_caller_does_not_count(kind: FailureKind) -> None:
    health = health_of(Clock(), failures=1)
    assert [fail(health, Failure(kind, "", 400)) for _ in range(10)] == [None] * 10
    assert health.state == "live"


def test_a_call_that_began_before_the_cooldown_does_not_end_it() -> None:
    clock = Clock()
    health = health_of(clock, failures=1)
    began = clock.now
    clock.now += 1
    fail(health)
    health.record_success(target(), began)
    assert health.state == "cooling"
    clock.now += 1
    health.record_success(target(), clock.now)
    assert health.state == "live"


def test_credentials_cool_down_one_by_one_and_the_target_with_the_last() -> None:
    clock = Clock()
    health = health_of(clock)
    keys = [target("one"), target("two"), target("three")]
    refused = health.pick_credential(keys)
    fail(health, Failure("rate_limit", "", 429, retry_after=20.0), refused)
    assert health.state == "live"
    assert {health.pick_credential(keys) for _ in range(10)} == set(keys) - {refused}
    for key in keys:
        if key is not refused:
            fail(health, Failure("auth", "", 401), key)
    assert (health.state, health.seconds_left, health.cooldown.reason) == ("cooling", 20.0, "rate_limit")
    assert health.pick_credential(keys) is refused
    clock.now += 20
    assert health.state == "live"
    assert {health.pick_credential(keys) for _ in range(5)} == {refused}


@pytest.mark.parametrize(("sent", "state"), [(-1.0, "cooling"), (1.0, "live")])
def test_an_active_probe_ends_only_a_cooldown_that_started_before_the_probe_was_sent(sent: float, state: str) -> None:
    clock = Clock()
    health = health_of(clock, failures=1)
    fail(health)
    began = clock.now + sent
    clock.now += 2
    health.record_probe(None, began)
    assert health.state == state


def test_a_target_with_a_single_credential_left_cools_down_as_a_whole() -> None:
    health = health_of(Clock())
    health.pick_credential([target("one"), target("two")])
    health.pick_credential([target("one")])
    fail(health, Failure("auth", "", 401))
    assert health.state == "cooling"


def test_a_call_of_an_older_configuration_with_one_credential_does_not_change_what_a_refusal_cools_down() -> None:
    clock = Clock()
    registry = TargetRegistry(clock)
    registry.configure({"p": ProviderConfig(name="p", api_key=(Secret("one"), Secret("two")))})
    health, keys = registry.health_of(target()), [target("one"), target("two")]
    refused = health.pick_credential(keys)
    assert health.pick_credential([target("one")]).credential == "one"  # a fallback of a call that began before the reload
    fail(health, Failure("rate_limit", "slow down", 429, retry_after=60.0), refused)
    assert health.is_available
    assert {health.pick_credential(keys) for _ in range(4)} == set(keys) - {refused}


def test_a_slowly_failing_target_gets_one_probe_at_a_time_and_a_fast_failing_one_gets_every_call() -> None:
    clock = Clock()
    slow, quick = health_of(clock, failures=1), health_of(clock, failures=1)
    fail(slow, Failure("header_timeout", ""))
    fail(quick)
    assert (slow.must_wait, quick.must_wait) == (True, False)  # at most one probe per second
    clock.now += 1
    assert (slow.must_wait, quick.must_wait) == (False, False)
    probes = [slow.start_attempt(), quick.start_attempt()]
    assert (slow.must_wait, quick.must_wait) == (True, False)
    clock.now += 31
    assert slow.must_wait
    slow.end_attempt(probes[0])
    assert not slow.must_wait


def test_a_high_failure_rate_starts_a_cooldown_without_failures_in_a_row() -> None:
    clock = Clock()
    health = health_of(clock, failures=3)
    found = []
    for _ in range(9):
        succeed(health, clock)
        found.append(fail(health))
        clock.now += 1
    assert found == [None] * 9, "18 calls are too few for a rate"
    succeed(health, clock)
    assert fail(health) == "failures"
    assert health.state == "cooling"
    clock.now += 31
    succeed(health, clock)
    assert health.state == "live"
    assert fail(health) is None, "calls before the cooldown do not count"


@each(("rate", "good", "pause"), [(0.5, 2, 0.1), (0.8, 1, 0.1), (0.5, 1, 4.0), (1.0, 0, 0.1)])
def test_a_low_or_old_failure_rate_starts_no_cooldown(rate: float, good: int, pause: float) -> None:
    clock = Clock()
    health = health_of(clock, failures=100, rate=rate)
    for _ in range(60):
        for _ in range(good):
            succeed(health, clock)
        assert fail(health) is None
        clock.now += pause


@pytest.mark.parametrize(("took", "must_wait"), [(0.3, False), (1.5, True)])
def test_any_failure_after_a_second_counts_as_slow(took: float, must_wait: bool) -> None:
    health = health_of(Clock(), failures=1)
    health.record_failure(target(), Failure("server_error", "", 500), took=took)
    assert health.must_wait is must_wait


def test_a_cooldown_of_another_instance_applies_and_ends_with_a_probe() -> None:
    clock = Clock()
    health = health_of(clock)
    health.apply_remote(None, 12.0, "failures")
    assert (health.state, health.seconds_left) == ("cooling", 12.0)
    clock.now += 12
    assert health.state == "probing"
    succeed(health, clock)
    assert health.state == "live"


def test_a_cooldown_is_published_once() -> None:
    registry = TargetRegistry(Clock())
    published: list[tuple[str, str | None, float, str]] = []
    registry.publish = lambda *change: published.append(change)
    registry.configure({"p": ProviderConfig(name="p")})
    health = registry.health_of(target())
    for _ in range(8):
        fail(health)
    keys = [target("one"), target("two")]
    health.pick_credential(keys)
    fail(health, Failure("rate_limit", "", 429, retry_after=5.0), keys[0])
    assert published == [("p/m", None, 30.0, "failures"), ("p/m", fingerprint(keys[0]), 5.0, "rate_limit")]


FAILURES_SEEN = [
    BROKEN,
    Failure("rate_limit", "", 429, retry_after=3.0),
    Failure("rate_limit", "", 429),
    Failure("quota", "", 402),
    Failure("auth", "", 401),
    Failure("client_error", "", 400),
    Failure("overloaded", "", 503, retry_after=1e9),
]
STEPS = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 400)),
    st.tuples(st.just("begin"), st.just(0)),
    st.tuples(st.just("fail"), st.sampled_from(FAILURES_SEEN)),
    st.tuples(st.just("succeed"), st.just(0)),
    st.tuples(st.just("leave"), st.just(0)),
    st.tuples(st.just("remote"), st.floats(0.1, 100)),
)


@given(st.lists(STEPS, max_size=60))
@settings(max_examples=examples(150))
def test_in_any_order_no_cooldown_is_shortened_no_two_probes_run_and_the_target_recovers(steps: list[tuple[str, Any]]) -> None:
    clock = Clock()
    health = health_of(clock, failures=3, time=30.0, max=120.0)
    in_flight: list[tuple[bool, float]] = []
    for step, what in steps:
        before, at = health.cooldown.until, clock.now
        if step == "wait":
            clock.now += what
        elif step == "begin":
            in_flight.append((health.start_attempt(), clock.now))
        elif step == "remote":
            health.apply_remote(None, what, "failures")
            assert health.cooldown.until >= before
        elif in_flight:
            probe, began = in_flight.pop(0)
            health.end_attempt(probe)
            if step == "fail":
                health.record_failure(target(), what, probe=probe)
                assert health.cooldown.until >= before
                assert health.seconds_left <= max(QUOTA_COOLDOWN_S, AUTH_COOLDOWN_S, 120.0, health.settings.quota_max)
            elif step == "succeed":
                health.record_success(target(), began)
                assert health.cooldown.until in (0.0, before)
                if before > at and health.cooldown.until == 0.0:
                    assert began >= health.cooldown.since
        assert health.in_flight == len(in_flight)
        assert health.probe_in_flight == any(probe for probe, _ in in_flight)
        assert sum(probe for probe, _ in in_flight) <= 1
    for probe, _ in in_flight:
        health.end_attempt(probe)
    clock.now += max(QUOTA_COOLDOWN_S, AUTH_COOLDOWN_S, 120.0, health.settings.quota_max)
    assert health.is_available
    succeed(health, clock)
    assert health.state == "live"


def announced(seconds: float) -> Failure:
    """Return a 429 with a Retry-After."""
    return Failure("rate_limit", "slow down", 429, retry_after=seconds)


def test_announced_wait_gets_one_probe_a_second() -> None:
    clock = Clock()
    health = health_of(clock)
    fail(health, announced(30.0))
    sent = 0
    for tenth in range(100):
        clock.now = 1000.0 + tenth / 10
        if not health.must_wait:
            sent += 1
            fail(health, announced(30.0 - tenth / 10))
    assert sent == 10


def test_probe_in_flight_is_the_only_one_however_long_it_takes() -> None:
    clock = Clock()
    health = health_of(clock)
    fail(health, announced(30.0))
    assert health.start_attempt()
    clock.now += 5
    assert health.must_wait


def test_success_or_the_end_of_an_announced_wait_admits_every_call() -> None:
    clock = Clock()
    health = health_of(clock)
    fail(health, announced(30.0))
    succeed(health, clock)
    assert not health.must_wait
    fail(health, announced(30.0))
    clock.now += 31
    assert not health.must_wait


@each("failure", [Failure("auth", "no", 401, retry_after=7.0), Failure("model_not_found", "no", 404), Failure("rate_limit", "no", 429)])
def test_cooldown_without_an_announced_wait_gets_one_call_at_a_time(failure: Failure) -> None:
    health = health_of(Clock())
    for _ in range(5):
        assert not health.must_wait
        fail(health, failure)
    assert health.start_attempt()
    assert health.must_wait


def test_missing_model_cools_the_target_until_the_model_is_back_or_the_configuration_changes() -> None:
    clock = Clock()
    gone = Failure("model_not_found", "no", 404)
    health = health_of(clock)
    assert fail(health, gone) == "model"
    assert (health.state, health.is_available, health.seconds_left) == ("cooling", False, MODEL_COOLDOWN_S)
    health.configure(ProviderConfig(name="p"))
    assert health.state == "live"
    fail(health, gone)
    succeed(health, clock)
    assert health.state == "live"
    assert fail(health_of(clock, max=5.0), gone) == "model"


def test_model_that_one_credential_lacks_cools_that_credential() -> None:
    health = health_of(Clock())
    pair = (target("one"), target("two"))
    health.pick_credential(pair)
    assert fail(health, Failure("model_not_found", "no", 404), pair[0]) == "model"
    assert health.is_available
    assert {health.pick_credential(pair).credential for _ in range(4)} == {"two"}


@each("kind", ["content_filter", "context_overflow", "request_too_large", "not_found", "client_error"])
def test_fault_of_the_request_does_not_count_against_the_target(kind: FailureKind) -> None:
    health = health_of(Clock(), failures=1)
    assert fail(health, Failure(kind, "no", 400)) is None
    assert (health.state, health.failures) == ("live", 0)


@each(
    ("failure", "is_down"),
    [
        (Failure("rate_limit", "slow down", 429, retry_after=90.0), False),
        (Failure("quota", "spent", 429), True),
        (Failure("auth", "no", 401), True),
        (Failure("model_not_found", "no", 404), True),
        (Failure("overloaded", "busy", 503, retry_after=90.0), True),
    ],
)
def test_target_in_a_cooldown_is_down_except_after_a_429(failure: Failure, is_down: bool) -> None:
    clock = Clock()
    health = health_of(clock)
    fail(health, failure)
    assert (health.state, health.is_down) == ("cooling", is_down)
    clock.now += 1000
    assert (health.state, health.is_down) == ("live", False)


def test_failing_target_stays_down_until_a_probe_succeeds() -> None:
    clock = Clock()
    health = health_of(clock, failures=1)
    fail(health)
    clock.now += 1000
    assert (health.state, health.is_down) == ("probing", True)
    succeed(health, clock)
    assert (health.state, health.is_down) == ("live", False)
