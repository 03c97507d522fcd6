"""Usage and cost of a call: reported usage, estimates if none was reported, and the bill of all attempts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

from msgspec import structs

from gateway.call import Attempt, Call
from gateway.tokens.counter import MAX_INLINE_BYTES
from gateway.tokens.estimate import TYPICAL_BYTES_PER_TOKEN, requested_cap
from gateway.tokens.inputs import WITHOUT_OUTPUT, generated_count, search_units
from providers.base import Usage

NANO_PER_USD = 1_000_000_000
MAX_FREE_EVENTS = 16
"""A provider's report of 0 output tokens is accepted if `Attempt.chunks` is at most this number."""


class Bill(NamedTuple):
    """The sum of the usage that attempts are billed for. `cost` is in nano-dollars; all other fields are in tokens.

    Usage without a known price adds nothing to the cost.
    """

    prompt: int
    output: int
    cost: int
    cached: int = 0
    """Prompt tokens that providers read from their caches, included in `prompt`."""


_new_tuple = tuple.__new__
"""Makes a named tuple without the Python function `__new__` of its class, because every call with limits needs a bill."""


def settle(call: Call) -> None:
    """Set the usage of the attempt that answered the call: the reported usage, with estimates for counts that are missing.

    Every prompt has tokens, so a reported 0 is replaced by an estimate. Usage with an estimate is marked as `estimated`.
    Output is estimated from content events, of which providers send about one per token, or from the length of a JSON answer.
    A stream that was cut off is billed by the reported usage, or by the received output if that is more. The usage of a
    passed call is not estimated.
    """
    attempt = call.answered_by
    if attempt is None or call.status != 200 or call.passed is not None:
        return
    if attempt.relays and call.stream_end != "ok":
        attempt.usage = received(call, attempt)
    usage = attempt.usage
    if usage is None or not (usage.prompt_tokens and usage.completion_tokens):
        attempt.usage = _completed(call, attempt, usage, attempt.chunks)


def _completed(call: Call, attempt: Attempt, usage: Usage | None, chunks: int) -> Usage:
    """Return the usage of an answer with estimates for missing counts. `chunks` is its number of content events or estimated tokens."""
    if usage is None:
        output = _output_within_cap(call, chunks)
        return Usage(prompt_tokens(call, attempt), output, estimated=True, search_units=search_units(call.body, call.operation))
    if usage.estimated and usage.prompt_tokens:  # the estimate is complete: `settle` also runs before a receipt is written
        return usage
    if call.operation in WITHOUT_OUTPUT:
        return usage if usage.prompt_tokens else _estimated(usage, usage.unsplit_tokens or prompt_tokens(call, attempt), 0)
    if (call.dialect.has_messages or call.operation == "completions") and not (usage.prompt_tokens and usage.completion_tokens):
        prompt = usage.prompt_tokens or prompt_tokens(call, attempt)
        output = usage.completion_tokens or (_output_within_cap(call, chunks) if chunks > MAX_FREE_EVENTS else 0)
        if usage.unsplit_tokens:
            prompt = min(prompt, usage.unsplit_tokens)
            output = usage.unsplit_tokens - prompt
        if (prompt, output) != (usage.prompt_tokens, usage.completion_tokens):
            return _estimated(usage, prompt, output)
    return usage


def _estimated(usage: Usage, prompt: int, output: int) -> Usage:
    """Return the usage of a complete answer with estimated counts, and with its reported cost, which does not depend on them."""
    return structs.replace(usage.estimate(prompt, output), reported_cost=usage.reported_cost)


async def usage_of_answers(call: Call, attempt: Attempt, answers: Sequence[tuple[Usage | None, int]]) -> Usage | None:
    """Return the sum of the usages of several upstream answers of an attempt, with estimates for counts that are missing.

    Each answer has its reported usage, and its number of content events or estimated tokens. The result is None if the usage
    of a single answer is unknown: `settle` estimates it.
    """
    if len(answers) == 1:
        return answers[0][0]
    if call.body is not None and any(usage is None or not usage.prompt_tokens for usage, _ in answers):
        await call.prompt.count((attempt.target,))
    return reduce(Usage.plus, (_completed(call, attempt, usage, chunks) for usage, chunks in answers))


def received(call: Call, attempt: Attempt) -> Usage:
    """Return the usage of an attempt's streams so far: as reported, or estimated from the content received.

    The usage of a stream that was read to its end, though its caller has disconnected, is the reported one.
    """
    total = Usage()
    for relay in attempt.relays:
        if relay.finished:
            total = total.plus(_completed(call, attempt, relay.usage, relay.chunks))
            continue
        usage = relay.usage or Usage(prompt_tokens(call, attempt), 0, estimated=True)
        output = _output_within_cap(call, relay.chunks) if relay.chunks > usage.completion_tokens else 0
        if output > usage.completion_tokens:
            usage = usage.estimate(usage.prompt_tokens or prompt_tokens(call, attempt), output)
        total = total.plus(usage)
    return total


def _output_within_cap(call: Call, output: int) -> int:
    """Return an estimate of the output that is not larger than the caller's own cap."""
    cap = requested_cap(call.body) if call.body is not None else None
    return output if cap is None or call.body is None else min(output, max(0, cap) * generated_count(call.body, call.operation))


def billed_usages(attempt: Attempt) -> tuple[Usage, ...]:
    """Return the usages that an attempt is billed for, even if it did not answer the call."""
    return attempt.billed if attempt.usage is None else (attempt.usage,)


def bill(attempts: Iterable[Attempt]) -> Bill | None:
    """Add up the bills of attempts. Return None if no usage is billed. Cached answers are not billed."""
    prompt = output = cost = cached = 0
    is_known = False
    for attempt in attempts:
        if attempt.cache == "hit":
            continue
        for usage in billed_usages(attempt):
            is_known = True
            read, written, from_cache = usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens
            if read > 0:
                prompt += read
                if from_cache > 0:
                    cached += from_cache if from_cache < read else read
            if written > 0:
                output += written
            cost += cost_of(attempt, usage) or 0
    return _new_tuple(Bill, (prompt, output, cost, cached)) if is_known else None


def is_estimated(attempts: Iterable[Attempt]) -> bool:
    """Return whether a part of the usage of attempts was estimated."""
    return any(usage.estimated for attempt in attempts for usage in billed_usages(attempt))


def answer_cost(attempt: Attempt) -> int | None:
    """Return the cost of the caller's answer in nano-dollars: 0 if no usage is known, None if the usage has no known cost."""
    return 0 if attempt.usage is None else cost_of(attempt, attempt.usage)


def cost_of(attempt: Attempt, usage: Usage) -> int | None:
    """Return the cost of a usage in nano-dollars: as reported by the provider, else by price. Return None if neither is known.

    The cost of a cached answer, and of usage that the provider does not bill, is 0.
    """
    if attempt.cache == "hit":
        return 0
    if usage.parts:
        costs = [cost_of(attempt, part) for part in usage.parts]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None
    if usage.is_unbilled:
        return 0
    if usage.reported_cost is not None and attempt.target.reports_cost:
        return usage.reported_cost
    return attempt.price.usage_cost(usage) if attempt.price is not None else None


def answered_at_once(call: Call) -> bool:
    """Return whether the call had a single attempt, which answered it."""
    return len(call.attempts) == 1 and call.attempts[0] is call.answered_by


def unanswered_usages(call: Call) -> Iterator[tuple[Attempt, Usage, int | None]]:
    """Yield the attempt, the usage and the cost of each billed usage of the attempts that did not answer the call.

    The cost is in nano-dollars, or None if it is unknown.
    """
    if answered_at_once(call):
        return
    for attempt in call.attempts:
        if attempt is not call.answered_by:
            for usage in billed_usages(attempt):
                yield attempt, usage, cost_of(attempt, usage)


def billed_attempts(call: Call) -> list[dict[str, Any]]:
    """Return the bills of attempts that did not answer the call, as receipts and log lines show them."""
    if answered_at_once(call):
        return []
    return [
        {"target": attempt.target.name, "usage": usage.as_record(), "cost_usd": None if cost is None else cost / NANO_PER_USD}
        for attempt, usage, cost in unanswered_usages(call)
    ]


def costs(call: Call) -> list[int | None]:
    """Return the cost of each billed usage of the call in nano-dollars, None for a usage without a known cost."""
    return [cost_of(attempt, usage) for attempt in call.attempts for usage in billed_usages(attempt)]


def total_usd(costs: Sequence[int | None]) -> float | None:
    """Return the sum of costs in USD, or None if there are none or one of them is unknown."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) / NANO_PER_USD if known and len(known) == len(costs) else None


def cost_usd(call: Call) -> float | None:
    """Return the total cost of the call in USD, or None if its usage is unknown or a part of it has no known cost."""
    return total_usd(costs(call))


def prompt_tokens(call: Call, attempt: Attempt) -> int:
    """Return the prompt's tokens in one upstream request, estimated or counted: at most the amount that limits reserved for them."""
    counted = _counted_prompt(call, attempt)
    reserved = call.reservation.costs.prompt_tokens if call.reservation is not None and call.passed is None else 0
    return min(counted, max(1, reserved // attempt.prompt_copies)) if reserved else counted


def _counted_prompt(call: Call, attempt: Attempt) -> int:
    """Return the prompt's tokens: the count made for the context window or the limits, else a quick count, else an estimate by size."""
    if attempt.context is not None:
        return attempt.context.prompt_tokens
    return call.prompt.typical(attempt.target, TYPICAL_BYTES_PER_TOKEN) if call.body is not None else 0


def needs_count(call: Call) -> bool:
    """Return whether the bill needs a count of the prompt that takes time, because its tokens were not reported."""
    attempt = call.answered_by
    if attempt is None or call.status != 200 or attempt.context is not None:
        return False
    if attempt.usage is not None and call.body_bytes <= MAX_INLINE_BYTES:  # the usual case
        return False
    if attempt.usage is not None and attempt.usage.prompt_tokens and all(relay.usage is not None for relay in attempt.relays):
        return False
    return call.passed is None and call.body is not None and call.prompt.takes_long(attempt.target)


async def count_missing(call: Call) -> None:
    """Count the prompt before it is billed, if its tokens were not reported and the count takes time."""
    if needs_count(call) and call.answered_by is not None:
        await call.prompt.count((call.answered_by.target,))


def continued_usage(call: Call) -> Usage:
    """Return the usage of all attempts that sent a part of a continued stream."""
    usages = [attempt.usage for attempt in call.attempts if attempt.usage is not None]
    return reduce(Usage.plus, usages, Usage(estimated=True))
