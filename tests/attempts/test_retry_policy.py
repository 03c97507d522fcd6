"""The next step after a failed attempt, for every kind of failure and each condition that changes the step."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from gateway.attempts.progress import Progress
from gateway.attempts.retry_policy import FALLBACK_CONDITIONS, Next, Retry, Stop, decide, may_send
from gateway.config.model import FallbackCondition
from gateway.errors import FAILURES
from gateway.streams.transcript import Transcript
from gateway.targets.candidate import Candidate
from providers.base import Failure, FailureKind
from tests.support.attempts import call_with, candidate, progress_of

PAGE = Path(__file__).parents[2] / "docs" / "failures.md"
KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


class Health(NamedTuple):
    """A target's health as the policy reads it."""

    is_available: bool = True
    ejected: bool = False


ONE_RETRY = candidate(retries=1)
HEALTHY = Health()


def documented_steps() -> dict[str, str]:
    """Return the column `next step` of the table of failures, by kind."""
    table = PAGE.read_text().partition("<!-- failures -->")[2].partition("\n\n- ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[2] for row in rows}


def decision(
    kind: FailureKind,
    *,
    candidate: Candidate = ONE_RETRY,
    progress: Progress | None = None,
    health: Health = HEALTHY,
    retries: int = 0,
    draw: float = 0.5,
    retry_after: float | None = None,
) -> Retry | Next | Stop:
    """Return the next step after a failure of that kind."""
    failure = Failure(kind, "it failed", retry_after=retry_after)
    progress = progress or progress_of(call_with())
    progress.record_failure(failure, "a/x")
    return decide(failure, progress, candidate, health, retries, lambda: draw)


def test_table_has_every_kind_of_failure() -> None:
    assert documented_steps().keys() == set(KINDS) == FAILURES.keys()


@pytest.mark.parametrize("kind", KINDS)
async def test_next_step_is_that_of_the_table(kind: FailureKind) -> None:
    expected = {"retry": Retry, "next": Next, "stop": Stop}[documented_steps()[kind]]
    assert type(decision(kind)) is expected


@pytest.mark.parametrize("kind", [kind for kind, step in documented_steps().items() if step == "retry"])
async def test_next_candidate_follows_if_no_retries_are_left(kind: FailureKind) -> None:
    assert decision(kind, candidate=candidate()) == Next()
    assert decision(kind, candidate=candidate(retries=2), retries=2) == Next()


async def test_target_that_was_ejected_is_not_retried() -> None:
    assert decision("server_error", health=Health(ejected=True)) == Next()


@pytest.mark.parametrize(("retries", "longest"), [(0, 0.1), (1, 0.2), (2, 0.4), (5, 1.0)])
async def test_wait_before_a_retry_is_random_and_doubles(retries: int, longest: float) -> None:
    settings = candidate(retries=10)
    assert decision("connect", candidate=settings, retries=retries, draw=0.0) == Retry(0.0)
    assert decision("connect", candidate=settings, retries=retries, draw=0.5) == Retry(longest / 2)
    assert decision("connect", candidate=settings, retries=retries, draw=1.0) == Retry(longest)


async def test_short_retry_after_is_waited_for_and_a_long_one_is_not() -> None:
    assert decision("overloaded", retry_after=1.5, draw=0.0) == Retry(1.5)
    assert decision("overloaded", retry_after=2.0, draw=0.0) == Next()


async def test_rate_limit_is_retried_only_without_another_candidate() -> None:
    assert decision("rate_limit") == Next()
    progress = progress_of(call_with(), candidates=[candidate()])
    assert decision("rate_limit", progress=progress, draw=0.0) == Retry(1.5)
    assert decision("rate_limit", progress=progress, retry_after=0.7, draw=0.0) == Retry(0.7)


async def test_wait_that_exceeds_the_time_left_is_not_begun() -> None:
    progress = progress_of(call_with(), elapsed=59.0, total_s=60.0)
    assert decision("overloaded", progress=progress, retry_after=1.2) == Next()


@pytest.mark.parametrize("kind", ["rate_limit", "quota", "auth", "model_not_found"])
async def test_another_credential_is_tried_at_once(kind: FailureKind) -> None:
    two = candidate(credentials=2)
    assert decision(kind, candidate=two) == Retry(0.0)
    assert decision(kind, candidate=two, health=Health(is_available=False)) == Next()


async def test_other_failures_do_not_try_another_credential() -> None:
    assert decision("server_error", candidate=candidate(credentials=2)) == Next()


async def test_stop_carries_the_error_for_the_caller() -> None:
    stop = decision("client_error")
    assert isinstance(stop, Stop)
    assert (stop.error.status, stop.error.message) == (400, "it failed")


@pytest.mark.parametrize(("kind", "word"), [("content_filter", "content_filter"), ("client_error", "invalid_request")])
async def test_refusal_that_ends_a_call_leads_to_the_next_candidate_on_request(kind: FailureKind, word: str) -> None:
    other = {"content_filter": "invalid_request", "invalid_request": "content_filter"}[word]
    assert type(decision(kind)) is Stop
    assert type(decision(kind, candidate=candidate(fallback_on=[other]))) is Stop
    assert decision(kind, candidate=candidate(fallback_on=[other, word])) == Next()


def test_every_condition_of_fallback_on_belongs_to_a_failure_that_ends_a_call() -> None:
    assert set(FALLBACK_CONDITIONS.values()) == set(get_args(FallbackCondition))
    assert {kind for kind, one in FAILURES.items() if one.then == "stop"} == FALLBACK_CONDITIONS.keys()


def started_stream(*, is_plain: bool = True, with_transcript: bool = True) -> Progress:
    """Return the progress of a stream of which the caller has received a part."""
    progress = progress_of(call_with(stream=True))
    progress.caller.head_sent = True
    if with_transcript:
        progress.call.transcript = Transcript()
        progress.call.transcript.is_plain = is_plain
    return progress


@pytest.mark.parametrize("kind", KINDS)
async def test_started_stream_is_continued_only_with_a_plain_transcript_and_a_curable_failure(kind: FailureKind) -> None:
    curable = kind not in ("limit", "timeout") and FAILURES[kind].blame != "caller"
    assert type(decision(kind, progress=started_stream())) is (Next if curable else Stop)
    assert type(decision(kind, progress=started_stream(is_plain=False))) is Stop
    assert type(decision(kind, progress=started_stream(with_transcript=False))) is Stop


async def test_requests_of_a_call_are_limited_by_attempts_and_time() -> None:
    progress, three = progress_of(call_with(), elapsed=1.0, total_s=2.0), candidate()
    assert may_send(progress, three, 3)
    progress.sent = 2
    assert may_send(progress, three, 3)
    progress.sent = 3
    assert not may_send(progress, three, 3)
    assert may_send(progress, candidate(attempts=4), 3)
    assert not may_send(progress_of(call_with(), elapsed=3.0, total_s=2.0), three, 3)
