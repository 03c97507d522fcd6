"""Cooling and coming back: by a clock that the tests move, one event at a time and in any order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import providers
from gateway.config.provider import CooldownConfig, ProviderConfig
from gateway.targets.cooldown import fingerprint
from gateway.targets.health import AUTH_COOLDOWN_S, QUOTA_COOLDOWN_S, TargetHealth
from gateway.targets.registry import TargetRegistry
from providers.base import Failure, FailureKind, Target

BROKEN = Failure("server_error", "no", 500)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def target(credential: str = "one") -> Target:
    """The target p/m with a credential."""
    return Target("p/m", "p", providers.get("openai"), "m", "http://localhost/v1", credential)


def health_of(clock: Clock, **cooldown: Any) -> TargetHealth:
    """The health of p/m, whose provider has this cooldown."""
    health = TargetRegistry(clock)
    health.configure({"p": ProviderConfig(name="p", cooldown=CooldownConfig(**cooldown))})
    return health.health_of(target())


def fail(one: TargetHealth, failure: Failure = BROKEN, to: Target | None = None) -> str | None:
    """One call that fails."""
    probe = one.start_attempt()
    one.end_attempt(probe)
    return one.record_failure(to or target(), failure, probe=probe)


def succeed(one: TargetHealth, clock: Clock, to: Target | None = None) -> None:
    """One call that is answered."""
    probe = one.start_attempt()
    one.record_success(to or target(), clock.now, 0.1)
    one.end_attempt(probe)


def test_a_target_is_left_alone_after_five_failures_in_a_row() -> None:
    clock = Clock()
    one = health_of(clock)
    assert [fail(one) for _ in range(5)] == [None, None, None, None, "failures"]
    assert (one.state, one.is_available, one.seconds_left) == ("cooling", False, 30.0)


def test_a_success_between_begins_the_count_again() -> None:
    clock = Clock()
    one = health_of(clock)
    for _ in range(20):
        for _ in range(4):
            fail(one)
        succeed(one, clock)
    assert one.state == "live"


def test_one_call_at_a_time_finds_out_and_its_success_ends_it() -> None:
    clock = Clock()
    one = health_of(clock, failures=1)
    fail(one)
    clock.now += 30
    assert (one.state, one.is_available) == ("probing", True)
    probe = one.start_attempt()
    assert probe
    assert not one.is_available
    assert not one.start_attempt()
    one.record_success(target(), clock.now)
    assert (one.state, one.is_available) == ("live", True)


def test_a_probe_that_fails_or_is_given_up_leaves_the_way_free_for_the_next() -> None:
    clock = Clock()
    one = health_of(clock, failures=1)
    fail(one)
    clock.now += 30
    one.end_attempt(one.start_attempt())
    assert one.is_available
    assert fail(one) == "failures"
    assert one.seconds_left == 60


def test_each_ejection_in_a_row_is_longer_up_to_the_longest() -> None:
    clock = Clock()
    one = health_of(clock, failures=1, time=30.0, max=100.0)
    found = []
    for _ in range(5):
        fail(one)
        found.append(one.seconds_left)
        clock.now += one.seconds_left
    assert found == [30, 60, 90, 100, 100]


def test_a_long_time_without_trouble_makes_the_first_ejection_short_again() -> None:
    clock = Clock()
    one = health_of(clock, failures=1)
    for _ in range(3):
        fail(one)
        clock.now += one.seconds_left
    succeed(one, clock)
    clock.now += 301
    fail(one)
    assert one.seconds_left == 30


@pytest.mark.parametrize(("stated", "cooled"), [(None, 1.0), (0.0, 1.0), (7.0, 7.0), (86_400.0, 300.0)])
def test_a_429_cools_for_the_stated_time_within_bounds(stated: float | None, cooled: float) -> None:
    one = health_of(Clock())
    assert fail(one, Failure("rate_limit", "slow down", 429, retry_after=stated)) == "rate_limit"
    assert one.seconds_left == cooled
    assert one.state == "cooling"


def test_429s_that_name_no_time_cool_for_longer_and_longer() -> None:
    clock = Clock()
    one = health_of(clock)
    found = []
    for _ in range(7):
        fail(one, Failure("rate_limit", "slow down", 429))
        found.append(one.seconds_left)
        clock.now += one.seconds_left
    assert found == [1, 2, 4, 8, 16, 30, 30]
    assert one.state == "live"


def test_the_longer_time_wins_and_a_shorter_one_changes_nothing() -> None:
    clock = Clock()
    one = health_of(clock)
    fail(one, Failure("rate_limit", "", 429, retry_after=20.0))
    clock.now += 5
    assert fail(one, Failure("rate_limit", "", 429, retry_after=10.0)) is None
    assert one.seconds_left == 15
    assert fail(one, Failure("rate_limit", "", 429, retry_after=40.0)) == "rate_limit"
    assert one.seconds_left == 40


def test_an_overloaded_upstream_that_says_when_is_left_alone_at_once() -> None:
    one = health_of(Clock())
    assert fail(one, Failure("overloaded", "", 503, retry_after=12.0)) == "overloaded"
    assert one.seconds_left == 12


def test_an_account_that_has_nothing_left_is_out_for_five_minutes_and_an_unknown_credential_for_ten() -> None:
    quota, auth = health_of(Clock()), health_of(Clock())
    assert fail(quota, Failure("quota", "", 402)) == "quota"
    assert fail(auth, Failure("auth", "", 401)) == "auth"
    assert (quota.seconds_left, auth.seconds_left) == (QUOTA_COOLDOWN_S, AUTH_COOLDOWN_S)


def test_a_403_may_be_about_one_request_and_counts_as_a_failure() -> None:
    one = health_of(Clock(), failures=2)
    assert [fail(one, Failure("auth", "", 403)) for _ in range(2)] == [None, "failures"]


def test_a_reload_tries_a_refused_credential_again() -> None:
    health = TargetRegistry(Clock())
    settings_ = {"p": ProviderConfig(name="p")}
    health.configure(settings_)
    one = health.health_of(target())
    fail(one, Failure("auth", "", 401))
    health.configure(settings_)
    assert health.health_of(target()) is one
    assert one.state == "live"


@pytest.mark.parametrize("kind", ["client_error"])
def test_what_a_caller_did_wrong_is_no_failure_of_the_target(kind: FailureKind) -> None:
    one = health_of(Clock(), failures=1)
    assert [fail(one, Failure(kind, "", 400)) for _ in range(10)] == [None] * 10
    assert one.state == "live"


def test_a_call_that_began_before_the_trouble_does_not_end_it() -> None:
    clock = Clock()
    one = health_of(clock, failures=1)
    began = clock.now
    clock.now += 1
    fail(one)
    one.record_success(target(), began)
    assert one.state == "cooling"
    clock.now += 1
    one.record_success(target(), clock.now)
    assert one.state == "live"


def test_credentials_cool_one_by_one_and_the_target_with_the_last() -> None:
    clock = Clock()
    one = health_of(clock)
    keys = [target("one"), target("two"), target("three")]
    refused = one.pick_credential(keys)
    fail(one, Failure("rate_limit", "", 429, retry_after=20.0), refused)
    assert one.state == "live"
    assert {one.pick_credential(keys) for _ in range(10)} == set(keys) - {refused}
    for key in keys:
        if key is not refused:
            fail(one, Failure("auth", "", 401), key)
    assert (one.state, one.seconds_left, one.cooldown.reason) == ("cooling", 20.0, "rate_limit")
    assert one.pick_credential(keys) is refused
    clock.now += 20
    assert one.state == "live"
    assert {one.pick_credential(keys) for _ in range(5)} == {refused}


def test_a_generation_with_one_credential_left_cools_as_a_whole() -> None:
    one = health_of(Clock())
    one.pick_credential([target("one"), target("two")])
    one.pick_credential([target("one")])
    fail(one, Failure("auth", "", 401))
    assert one.state == "cooling"


def test_who_lets_calls_wait_for_nothing_is_asked_by_one_at_a_time_and_who_fails_at_once_by_all() -> None:
    clock = Clock()
    slow, quick = health_of(clock, failures=1), health_of(clock, failures=1)
    fail(slow, Failure("header_timeout", ""))
    fail(quick)
    assert (slow.must_wait, quick.must_wait) == (True, False)  # and that not more often than once a second
    clock.now += 1
    assert (slow.must_wait, quick.must_wait) == (False, False)
    probes = [slow.start_attempt(), quick.start_attempt()]
    assert (slow.must_wait, quick.must_wait) == (True, False)
    clock.now += 31
    assert slow.must_wait
    slow.end_attempt(probes[0])
    assert not slow.must_wait


def test_who_fails_half_of_the_time_is_left_alone_though_never_in_a_row() -> None:
    clock = Clock()
    one = health_of(clock, failures=3)
    found = []
    for _ in range(9):
        succeed(one, clock)
        found.append(fail(one))
        clock.now += 1
    assert found == [None] * 9, "18 calls are too few to say"
    succeed(one, clock)
    assert fail(one) == "failures"
    assert one.state == "cooling"
    clock.now += 31
    succeed(one, clock)
    assert one.state == "live"
    assert fail(one) is None, "what was before counts no more"


@pytest.mark.parametrize(("rate", "good", "pause"), [(0.5, 2, 0.1), (0.8, 1, 0.1), (0.5, 1, 4.0), (1.0, 0, 0.1)])
def test_a_smaller_share_or_one_of_long_ago_is_no_reason(rate: float, good: int, pause: float) -> None:
    clock = Clock()
    one = health_of(clock, failures=100, rate=rate)
    for _ in range(60):
        for _ in range(good):
            succeed(one, clock)
        assert fail(one) is None
        clock.now += pause


@pytest.mark.parametrize(("took", "crowded"), [(0.3, False), (1.5, True)])
def test_a_failure_that_took_its_time_is_one_like_a_deadline(took: float, crowded: bool) -> None:
    one = health_of(Clock(), failures=1)
    one.record_failure(target(), Failure("server_error", "", 500), took=took)
    assert one.must_wait is crowded


def test_another_instances_finding_counts_here_and_its_end_is_a_probe() -> None:
    clock = Clock()
    one = health_of(clock)
    one.apply_remote(None, 12.0, "failures")
    assert (one.state, one.seconds_left) == ("cooling", 12.0)
    clock.now += 12
    assert one.state == "probing"
    succeed(one, clock)
    assert one.state == "live"


def test_what_begins_to_cool_is_told_once() -> None:
    health = TargetRegistry(Clock())
    told: list[tuple[str, str | None, float, str]] = []
    health.publish = lambda *what: told.append(what)
    health.configure({"p": ProviderConfig(name="p")})
    one = health.health_of(target())
    for _ in range(8):
        fail(one)
    keys = [target("one"), target("two")]
    one.pick_credential(keys)
    fail(one, Failure("rate_limit", "", 429, retry_after=5.0), keys[0])
    assert told == [("p/m", None, 30.0, "failures"), ("p/m", fingerprint(keys[0]), 5.0, "rate_limit")]


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
    st.tuples(st.just("hear"), st.floats(0.1, 100)),
)


@given(st.lists(STEPS, max_size=60))
@settings(max_examples=150)
def test_whatever_happens_no_time_is_cut_short_no_two_probes_run_and_every_target_comes_back(steps: list[tuple[str, Any]]) -> None:
    clock = Clock()
    one = health_of(clock, failures=3, time=30.0, max=120.0)
    under_way: list[tuple[bool, float]] = []
    for step, what in steps:
        before, at = one.cooldown.until, clock.now
        if step == "wait":
            clock.now += what
        elif step == "begin":
            under_way.append((one.start_attempt(), clock.now))
        elif step == "hear":
            one.apply_remote(None, what, "failures")
            assert one.cooldown.until >= before
        elif under_way:
            probe, began = under_way.pop(0)
            one.end_attempt(probe)
            if step == "fail":
                one.record_failure(target(), what, probe=probe)
                assert one.cooldown.until >= before
                assert one.seconds_left <= max(QUOTA_COOLDOWN_S, AUTH_COOLDOWN_S, 120.0)
            elif step == "succeed":
                one.record_success(target(), began)
                assert one.cooldown.until in (0.0, before)
                if before > at and one.cooldown.until == 0.0:
                    assert began >= one.cooldown.since
        assert one.in_flight == len(under_way)
        assert one.probe_in_flight == any(probe for probe, _ in under_way)
        assert sum(probe for probe, _ in under_way) <= 1
    for probe, _ in under_way:
        one.end_attempt(probe)
    clock.now += max(QUOTA_COOLDOWN_S, AUTH_COOLDOWN_S, 120.0)
    assert one.is_available
    succeed(one, clock)
    assert one.state == "live"
