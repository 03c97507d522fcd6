"""What callers learn of their limits: errors in OpenAI's words and rate-limit headers."""

from __future__ import annotations

import re

import pytest

from gateway.errors import LimitReached, Unavailable
from gateway.limits.refusal import go_duration, rate_limit_headers, refusal_error
from gateway.store.limit import Costs, Limit, LimitStatus, Refusal, Reservation
from tests.support.each import each

DOLLAR = 10**9
REQUESTS = Limit("key:app", "requests", 10, "min")
BUDGET = Limit("team:search", "spend", 10 * DOLLAR, "day")
NO_RETRY = (b"x-should-retry", b"false")


@each(
    ("seconds", "text"),
    [(0.0, "0ms"), (-1.0, "0ms"), (0.012, "12ms"), (1.5, "1.5s"), (2.0, "2s"), (360.0, "6m0s"), (3600.0, "1h0m0s"), (3725.25, "1h2m5.25s")],
)
def test_durations_have_the_format_of_openai_and_go(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_a_rate_limit_names_its_owner_and_says_when_to_retry() -> None:
    error = refusal_error(Refusal(REQUESTS, 30.0))
    assert isinstance(error, LimitReached)
    assert (error.type, error.code) == ("requests", "rate_limit_exceeded")
    assert re.fullmatch(r"Rate limit reached for the key 'app': 10 requests per min\. Please try again in 3[0-3](\.\d+)?s\.", error.message)
    assert NO_RETRY not in error.headers
    assert any(name == b"retry-after" for name, _ in error.headers)


def test_retry_times_are_spread_over_a_tenth() -> None:
    waits = {dict(refusal_error(Refusal(REQUESTS, 1000.0)).headers)[b"retry-after"] for _ in range(50)}
    assert len(waits) > 5
    assert {1000 <= int(wait) <= 1101 for wait in waits} == {True}


def test_a_request_that_alone_exceeds_the_limit_is_not_to_be_retried() -> None:
    error = refusal_error(Refusal(Limit("user:app:0123", "tokens", 100, "min"), None))
    assert (error.type, error.code, error.headers) == ("tokens", "rate_limit_exceeded", (NO_RETRY,))
    assert error.message == (
        "This request alone exceeds the limit of 100 tokens per min for this user. Lower 'max_tokens' or shorten the prompt."
    )


@pytest.mark.parametrize(("remaining", "text"), [(0, "is used up"), (5, "does not cover this request")])
def test_an_empty_budget_and_one_that_is_too_small_are_told_apart(remaining: int, text: str) -> None:
    error = refusal_error(Refusal(BUDGET, 60.0, [LimitStatus(BUDGET, remaining, 60.0)]))
    assert (error.type, error.code) == ("insufficient_quota", "insufficient_quota")
    assert text in error.message
    assert NO_RETRY in error.headers


def test_a_budget_reserved_by_calls_in_flight_may_be_retried() -> None:
    error = refusal_error(Refusal(BUDGET, 1.0, busy=True))
    assert (error.type, error.code) == ("requests", "rate_limit_exceeded")
    assert "reserved by calls in flight" in error.message
    assert NO_RETRY not in error.headers


def test_a_limit_that_cannot_be_checked_is_503() -> None:
    error = refusal_error(Refusal(BUDGET, None, unavailable=True))
    assert isinstance(error, Unavailable)
    assert error.code == "limiter_unavailable"
    assert "the store is unavailable" in error.message


def test_headers_show_the_tightest_limit_of_each_kind() -> None:
    wide, tokens = Limit("model:m", "requests", 100, "min"), Limit("key:app", "output_tokens", 1000, "min")
    statuses = [LimitStatus(wide, 50, 9.0), LimitStatus(REQUESTS, 7, 1.5), LimitStatus(tokens, 900, 60.0), LimitStatus(BUDGET, 1, 1.0)]
    assert dict(rate_limit_headers(Reservation("id", (), Costs(), (), statuses, 0))) == {
        b"x-ratelimit-limit-requests": b"10", b"x-ratelimit-remaining-requests": b"7", b"x-ratelimit-reset-requests": b"1.5s",
        b"x-ratelimit-limit-tokens": b"1000", b"x-ratelimit-remaining-tokens": b"900", b"x-ratelimit-reset-tokens": b"1m0s",
    }  # fmt: skip


def test_headers_say_when_limits_are_degraded() -> None:
    assert list(rate_limit_headers(Reservation("id", (), Costs(), (), (), 0, degraded=True))) == [(b"x-gateway-limits", b"degraded")]
    assert list(rate_limit_headers(Refusal(REQUESTS, 1.0))) == []
