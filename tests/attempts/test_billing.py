"""The bill of an attempt that did not answer the call."""

from __future__ import annotations

from msgspec import structs

from gateway.accounting import prompt_tokens
from gateway.attempts.billing import ENDED_BY_GATEWAY, bill_unanswered
from gateway.call import Attempt
from providers.base import Usage
from tests.support.attempts import call_with, candidate
from tests.support.each import each

ESTIMATE = Usage(9, 1, estimated=True)


def billed(ended: str, *, bills: bool = True, written: bool = True, reported: list[Usage] | None = None) -> tuple[Usage, ...]:
    """Return the bill of an attempt that ended in this way and whose usage had been estimated before."""
    backend = candidate().backend
    backend.bills_aborted_prompt = bills
    call = call_with()
    attempt = Attempt(backend.target, is_written=written, reported=reported or [], billed=(ESTIMATE,), usage=Usage(1, 1))
    bill_unanswered(call, attempt, backend, ended)
    assert attempt.usage is None
    return attempt.billed


def prompt() -> Usage:
    """Return the usage of a prompt without an answer."""
    return Usage(prompt_tokens(call_with(), Attempt(candidate().backend.target)), 0, estimated=True)


@each("ended", sorted(ENDED_BY_GATEWAY))
def test_the_prompt_is_billed_if_the_gateway_ended_the_attempt(ended: str) -> None:
    assert billed(ended) == (prompt(),)
    assert billed(ended, bills=False) == (ESTIMATE,)
    assert billed(ended, written=False) == (ESTIMATE,)


@each("ended", ["server_error", "rate_limit", "auth", "connect", "inband_error", "client_error"])
def test_a_failure_of_the_upstream_bills_no_prompt(ended: str) -> None:
    assert billed(ended) == (ESTIMATE,)


@each("ended", ["left", "server_error"])
def test_reported_usage_replaces_an_estimate(ended: str) -> None:
    real = Usage(7, 3)
    assert billed(ended, reported=[real]) == (real,)
    assert billed(ended, reported=[real, structs.replace(real, completion_tokens=5)])[1].completion_tokens == 5
