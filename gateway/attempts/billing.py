"""Bills an attempt that did not answer the call."""

from __future__ import annotations

from gateway.accounting import prompt_tokens
from gateway.call import Attempt, Call
from gateway.targets.backend import Backend
from gateway.tokens.inputs import search_units
from providers.base import Usage

ENDED_BY_GATEWAY = frozenset({"left", "header_timeout", "ttft_timeout", "stalled", "timeout"})
"""Outcomes of attempts that the gateway ended although their upstream would have continued."""


def bill_unanswered(call: Call, attempt: Attempt, backend: Backend, ended: str) -> None:
    """Bill an attempt for the usage that its upstream reported.

    If prompts of aborted requests are billed or counted at this provider, also bill the prompt of each request that the gateway
    aborted. `ended` is a failure kind or `left`.
    """
    attempt.usage = None
    is_counted = backend.bills_aborted_prompt or backend.counts_aborted_prompt
    if is_counted and attempt.is_written:
        usages = aborted_usages(call, attempt, backend, failed=0 if ended in ENDED_BY_GATEWAY else 1)
    else:
        usages = _reported(attempt)
    if usages:  # otherwise, the estimate for a hedge that lost is kept
        attempt.billed = usages


def _reported(attempt: Attempt) -> tuple[Usage, ...]:
    return (*attempt.reported, *(relay.usage for relay in attempt.relays if relay.usage is not None))


def aborted_usages(call: Call, attempt: Attempt, backend: Backend, *, failed: int = 0) -> tuple[Usage, ...]:
    """Return the usages of an attempt that has ended: as reported, and estimated for each request that the gateway aborted.

    `failed` is the number of requests that their upstream ended, for which nothing is billed. Their failure ends all other requests.
    """
    usages = _reported(attempt)
    return (*usages, *(aborted_usage(call, attempt, backend) for _ in range(attempt.prompt_copies - failed - len(usages))))


def aborted_usage(call: Call, attempt: Attempt, backend: Backend) -> Usage:
    """Return the estimated usage of a request that was aborted before any output: that of its prompt."""
    prompt, units = prompt_tokens(call, attempt), search_units(call.body, call.operation)
    return Usage(prompt, 0, estimated=True, search_units=units, is_unbilled=backend.counts_aborted_prompt)
