"""Cooldowns: the longer of two wins; slow failures; fingerprints of credentials."""

from __future__ import annotations

import pytest

import providers
from gateway.targets.cooldown import SLOW_FAILURE_S, Cooldown, fingerprint, is_slow_failure
from providers.base import Failure, FailureKind, Target


def target(credential: str | None) -> Target:
    """Return a target with this credential."""
    return Target("p/m", "p", providers.get("openai"), "m", "http://localhost/v1", credential)


def test_a_longer_cooldown_replaces_a_shorter_one_and_not_the_other_way_round() -> None:
    cooldown = Cooldown()
    assert cooldown.start(100.0, 30.0, "failures")
    assert not cooldown.start(110.0, 20.0, "rate_limit")
    assert (cooldown.since, cooldown.until, cooldown.reason) == (100.0, 130.0, "failures")
    assert cooldown.start(110.0, 21.0, "rate_limit")
    assert (cooldown.since, cooldown.until, cooldown.reason) == (110.0, 131.0, "rate_limit")


def test_an_ended_cooldown_has_no_reason() -> None:
    cooldown = Cooldown()
    cooldown.start(100.0, 30.0, "quota")
    cooldown.end()
    assert (cooldown.until, cooldown.reason) == (0.0, None)


@pytest.mark.parametrize(
    ("kind", "seconds", "slow"),
    [("header_timeout", 0.0, True), ("server_error", SLOW_FAILURE_S, False), ("server_error", SLOW_FAILURE_S + 0.1, True)],
)
def test_timeouts_and_long_waits_are_slow_failures(kind: FailureKind, seconds: float, slow: bool) -> None:
    assert is_slow_failure(Failure(kind, ""), seconds) is slow


def test_a_fingerprint_identifies_a_credential_without_containing_it() -> None:
    one, other = fingerprint(target("sk-one-secret")), fingerprint(target("sk-two-secret"))
    assert one == fingerprint(target("sk-one-secret"))
    assert len({one, other, fingerprint(target(None))}) == 3
    assert len(one) == 8
    assert one not in "sk-one-secret"
