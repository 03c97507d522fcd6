"""The information that callers get about their limits: errors in OpenAI's words and rate-limit headers."""

from __future__ import annotations

import math
import re

import pytest

from gateway.errors import LimitReached, Unavailable
from gateway.limits.refusal import go_duration, rate_limit_headers, refusal_error, told_wait
from gateway.store.limit import US_PER_S, Costs, Kind, Limit, LimitStatus, Refusal, Reservation
from gateway.store.memory import MemoryLimiter
from tests.store.limit_model import Course, Model
from tests.support.each import each
from tests.support.search import examples

DOLLAR = 10**9
REQUESTS = Limit("key:app", "requests", 10, "min")
BUDGET = Limit("team:search", "spend", 10 * DOLLAR, "day")
NO_RETRY = (b"x-should-retry", b"false")


@each(
    ("seconds", "text"),
    [
        (0.0, "0ms"), (-1.0, "0ms"), (0.012, "12ms"), (0.9994, "999ms"), (0.9996, "1s"), (1.0, "1s"), (1.5, "1.5s"), (2.0, "2s"),
        (60.0, "1m0s"), (360.0, "6m0s"), (3600.0, "1h0m0s"), (3725.25, "1h2m5.25s"),
    ],
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


HOUR, MINUTE, SECOND = (Limit("key:app", "tokens", 10, window) for window in ("h", "min", "s"))


def told(refusal: Refusal) -> float:
    """Return the seconds that the error of a refusal states in its most precise header."""
    headers = dict(refusal_error(refusal).headers)
    assert int(headers[b"retry-after"]) == max(1, math.ceil(int(headers[b"retry-after-ms"]) / 1000))
    return int(headers[b"retry-after-ms"]) / 1000


def test_retry_times_are_spread_over_a_tenth() -> None:
    waits = {told(Refusal(HOUR, 1000.0, [LimitStatus(MINUTE, 5, 1.0), LimitStatus(HOUR, 0, 3000.0)])) for _ in range(50)}
    assert len(waits) > 5
    assert min(waits) >= 1000
    assert 1050 < max(waits) <= 1100.001


@each(
    ("limit", "wait", "reset", "most"),
    [
        (HOUR, 1000.0, 1010.0, 1010.0),  # never later than the reset
        (HOUR, 59.0, 3000.0, 60.0),  # never extended beyond the wait that clients accept
        (HOUR, 60.0, 3000.0, 60.0),
        (HOUR, 61.0, 3000.0, 67.2),
        (HOUR, 3630.0, 3630.0, 3600.0),
        (MINUTE, 60.4, 60.5, 60.0),
        (MINUTE, 58.0, 60.5, 60.0),
        (MINUTE, 115.0, 60.5, 60.0),  # shares of missing processes are held back
        (MINUTE, 1.0, 1.05, 1.05),
        (SECOND, 1.008, 1.01, 1.0),
        (BUDGET, 3.2, 3.2, 3.2),
        (BUDGET, 59.9, 59.9, 59.9),
        (BUDGET, 86_400.0, 86_400.0, 86_400.0),
    ],
)
def test_retry_after_is_never_later_than_the_reset(limit: Limit, wait: float, reset: float, most: float) -> None:
    refusal = Refusal(limit, wait, [LimitStatus(MINUTE, 5, 1.0), LimitStatus(limit, 0, reset)])
    found = [told(refusal) for _ in range(100)]
    assert max(found) <= most + 0.001
    assert min(found) >= min(wait, most) - 0.001
    if limit is BUDGET:
        assert set(found) == {wait}


@each("limit", [BUDGET, MINUTE])
def test_calls_in_flight_that_reserve_the_rest_make_callers_retry_soon(limit: Limit) -> None:
    refusal = Refusal(limit, 1.0, [LimitStatus(limit, 5, 50.0)], busy=True)
    waits = {told(refusal) for _ in range(50)}
    assert len(waits) > 5
    assert min(waits) >= 1
    assert max(waits) <= 1.101
    words = "remaining budget" if limit is BUDGET else "rest of the limit"
    assert f"The {words} of {limit} for" in refusal_error(refusal).message


@each("limit", [BUDGET, MINUTE, SECOND])
def test_a_wait_for_calls_in_flight_is_never_later_than_the_reset(limit: Limit) -> None:
    refusal = Refusal(limit, 1.0, [LimitStatus(limit, 5, 0.5)], busy=True)
    assert {told(refusal) for _ in range(50)} == {0.5}


def test_a_wait_for_concurrent_calls_is_spread() -> None:
    calls = Limit("key:app", "concurrent", 2)
    waits = {told(Refusal(calls, 1.0, [LimitStatus(calls, 0, 0.0)])) for _ in range(50)}
    assert len(waits) > 5
    assert min(waits) >= 1


@pytest.mark.search
def test_no_refusal_states_a_longer_wait_than_until_the_reset() -> None:
    for seed in range(examples(400)):
        course = Course(seed)
        limiter, model = MemoryLimiter(lambda course=course: course.now), Model()  # type: ignore[misc]
        for step in range(40):
            course.step()
            limits, costs = course.limits_of_call(), course.costs()
            model.decide(limits, costs, f"c{step}", course.now)
            decision = limiter.decide(limits, costs, f"c{step}")
            if isinstance(decision, Reservation) or (wait := told_wait(decision)) is None or decision.limit.kind == "concurrent":
                continue
            reset_s = model.reset(decision.limit, course.now) / US_PER_S
            assert wait <= reset_s
            assert wait >= min(decision.retry_after or 0, reset_s)
            assert wait <= 60 or (decision.retry_after or 0) > 60


@each(("wait", "header"), [(None, b"1"), (7.0, b"7")])
def test_an_unavailable_limit_says_when_to_retry(wait: float | None, header: bytes) -> None:
    assert dict(refusal_error(Refusal(BUDGET, wait, unavailable=True)).headers)[b"retry-after"] == header


def test_a_budget_in_total_that_is_used_up_has_no_time_to_come_back() -> None:
    total = Limit("key:app", "spend", 200 * DOLLAR, "total")
    error = refusal_error(Refusal(total, math.inf, [LimitStatus(total, 0, math.inf)]))
    assert (error.code, error.headers) == ("insufficient_quota", (NO_RETRY,))
    assert error.message == "The budget of 200 USD in total for the key 'app' is used up."
    assert told_wait(Refusal(total, math.inf)) is None


@each(
    ("limit", "words"),
    [
        (Limit("key:app", "requests", 5, "min", model="gpt-5*"), "the key 'app' and the model 'gpt-5*': 5 requests per min."),
        (Limit("key:app", "requests", 1, "min"), "the key 'app': 1 request per min."),
        (Limit("key:app", "concurrent", 1), "the key 'app': 1 concurrent call."),
        (Limit("team:t", "uncached_prompt_tokens", 1, "h"), "the team 't': 1 uncached prompt token per h."),
        (Limit("team:t", "uncached_prompt_tokens", 5, "h"), "the team 't': 5 uncached prompt tokens per h."),
    ],
)
def test_an_error_names_the_model_and_the_kind_of_its_limit(limit: Limit, words: str) -> None:
    assert words in refusal_error(Refusal(limit, 5.0)).message


def test_a_budget_names_its_time_zone() -> None:
    berlin = Limit("key:a", "spend", 5 * DOLLAR, "day", timezone="Europe/Berlin")
    assert "The budget of 5 USD per day (Europe/Berlin) for the key 'a'" in refusal_error(Refusal(berlin, 5.0)).message


def test_a_request_that_alone_exceeds_the_limit_is_not_to_be_retried() -> None:
    error = refusal_error(Refusal(Limit("user:app:0123", "tokens", 100, "min"), None))
    assert (error.type, error.code, error.headers) == ("tokens", "rate_limit_exceeded", (NO_RETRY,))
    assert error.message == (
        "This request alone exceeds the limit of 100 tokens per min for this user. Lower 'max_tokens' or shorten the prompt."
    )


@each(
    ("kind", "has_output", "advice"),
    [
        ("tokens", True, "Lower 'max_tokens' or shorten the prompt."),
        ("output_tokens", True, "Lower 'max_tokens'."),
        ("prompt_tokens", True, "Shorten the prompt."),
        ("uncached_prompt_tokens", True, "Shorten the prompt."),
        ("spend", True, "Lower 'max_tokens' or shorten the prompt."),
        ("tokens", False, "Send less input."),
        ("prompt_tokens", False, "Send less input."),
        ("spend", False, "Send less input."),
    ],
)
def test_the_advice_fits_the_limit_and_the_operation(kind: Kind, has_output: bool, advice: str) -> None:
    limit = Limit("key:a", kind, 100, "day" if kind == "spend" else "min")
    assert refusal_error(Refusal(limit, None), has_output=has_output).message.endswith(f" for the key 'a'. {advice}")


def test_a_budget_that_is_too_small_for_embeddings_does_not_mention_an_output_cap() -> None:
    refusal = Refusal(BUDGET, 60.0, [LimitStatus(BUDGET, 5, 60.0)])
    assert refusal_error(refusal).message.endswith("does not cover this request. Lower 'max_tokens'.")
    assert refusal_error(refusal, has_output=False).message.endswith("does not cover this request. Send less input.")


@pytest.mark.parametrize(("remaining", "text"), [(0, "is used up"), (1, "does not cover this request")])
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


def test_headers_tell_the_window_that_is_nearest_to_exhaustion() -> None:
    second, minute = Limit("key:app", "requests", 10, "s"), Limit("key:app", "requests", 600, "min")

    def told_limit(*remaining: int, refusing: Limit | None = None) -> bytes:
        statuses = [LimitStatus(second, remaining[0], 1.01), LimitStatus(minute, remaining[1], 60.5)]
        admitted = Reservation("id", (), Costs(), (), statuses, 0)
        found = dict(rate_limit_headers(admitted if refusing is None else Refusal(refusing, 1.0, statuses)))
        return found[b"x-ratelimit-limit-requests"]

    assert told_limit(9, 500) == b"10"
    assert told_limit(9, 3) == b"600"
    assert told_limit(0, 0) == b"600"  # of two that are used up, the one that is reset last
    assert told_limit(0, 5, refusing=minute) == b"600"


@each(("reset_s", "wait"), [(0.5, 0.5), (0.0, 0.0)])
def test_a_wait_for_a_call_in_flight_is_not_longer_than_the_reset_that_a_refusal_without_states_has(reset_s: float, wait: float) -> None:
    assert told_wait(Refusal(REQUESTS, 1.0, busy=True, reset_s=reset_s)) == wait
