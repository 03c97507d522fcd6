"""Bills an attempt that did not answer the call."""

from __future__ import annotations

from gateway.accounting import prompt_tokens
from gateway.call import Attempt, Call
from gateway.targets.backend import Backend
from providers.base import Usage

ENDED_BY_GATEWAY = frozenset({"left", "header_timeout", "ttft_timeout", "stalled", "timeout"})
"""Outcomes of attempts that the gateway ended although their upstream would have continued."""


def bill_unanswered(call: Call, attempt: Attempt, backend: Backend, ended: str) -> None:
    """Bill an attempt for the usage that its upstream reported.

    If it reported nothing and the gateway ended the attempt (`ended` is a failure kind or `left`), bill the prompt if the
    provider bills the prompts of aborted requests.
    """
    attempt.usage = None
    usages = (*attempt.reported, *(relay.usage for relay in attempt.relays if relay.usage is not None))
    if not usages and ended in ENDED_BY_GATEWAY and backend.bills_aborted_prompt and attempt.is_written:
        usages = (Usage(prompt_tokens(call, attempt), 0, estimated=True),)
    if usages:  # else the estimate for a hedge that lost is kept
        attempt.billed = usages
