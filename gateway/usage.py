"""The end of a call: what it used, estimated where the provider did not say."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from gateway.call import Call
from gateway.tokens.counter import MAX_INLINE_BYTES, SHARED_COUNTER, tokenizer_for
from gateway.tokens.estimate import TYPICAL_BYTES_PER_TOKEN
from providers.base import Usage

NANO = 1_000_000_000

SILENCE = 16
"""An answer with no more content events (or tokens, by its length) may have cost no tokens, as a provider that says 0 says."""


class Used(NamedTuple):
    """What a call is billed for, attempts that failed included. `cost` in nano-dollars."""

    prompt: int
    output: int
    cost: int


def settle(call: Call) -> None:
    """Make sure that a call which reached an upstream has a usage; an estimate is flagged as one. No prompt has 0 tokens.

    Output is estimated by content events, of which providers send about one per token, or by the length of a JSON answer. A stream that
    did not come to its end is charged what was reported, or what was received when that is more.
    """
    if call.status != 200 or call.target is None:
        return
    if call.relays and call.stream_end != "ok":
        call.usage = received(call)
    usage = call.usage
    if usage is None:
        call.usage = Usage(prompt_tokens(call), call.chunks, estimated=True)
    elif call.operation == "chat" and not (usage.prompt_tokens and usage.completion_tokens):
        prompt = usage.prompt_tokens or prompt_tokens(call)
        output = usage.completion_tokens or (call.chunks if call.chunks > SILENCE else 0)
        if (prompt, output) != (usage.prompt_tokens, usage.completion_tokens):
            call.usage = msgspec.structs.replace(usage, prompt_tokens=prompt, completion_tokens=output, estimated=True)


def received(call: Call) -> Usage:
    """What the streams of a call brought so far."""
    total = Usage()
    for relay in call.relays:
        known = relay.usage or Usage(prompt_tokens(call), 0, estimated=True)
        if relay.chunks > known.completion_tokens:
            known = msgspec.structs.replace(known, completion_tokens=relay.chunks, estimated=True)
        total = total.plus(known)
    return total


def used(call: Call, since: int = 0) -> Used | None:
    """What a call is billed for, without its first `since` asides; None when it used nothing that anybody told of."""
    usage = call.usage
    if not call.asides:  # nearly always
        return None if usage is None else Used(max(0, usage.prompt_tokens), max(0, usage.completion_tokens), own_cost(call))
    asides = call.asides[since:]
    if usage is None and not asides:
        return None
    prompt = sum(max(0, one.usage.prompt_tokens) for one in asides) + (max(0, usage.prompt_tokens) if usage else 0)
    output = sum(max(0, one.usage.completion_tokens) for one in asides) + (max(0, usage.completion_tokens) if usage else 0)
    return Used(prompt, output, sum(one.cost for one in asides) + own_cost(call))


def guessed(call: Call, since: int = 0) -> bool:
    """Whether some of what a call is billed for was not reported but estimated here."""
    if call.usage is not None and call.usage.estimated:
        return True
    return bool(call.asides) and any(one.usage.estimated for one in call.asides[since:])


def own_cost(call: Call) -> int:
    """The cost of the answer itself, in nano-dollars; 0 where nobody knows a price."""
    return call.price.usage_cost(call.usage) if call.price is not None and call.usage is not None else 0


def bills(call: Call) -> list[dict[str, Any]]:
    """What attempts used that did not answer the call, and their cost in USD."""
    return [{"target": one.target, "usage": one.usage, "cost_usd": one.cost / NANO} for one in call.asides]


def cost_usd(call: Call) -> float | None:
    """What the call costs in all; None when it used nothing or no price is known."""
    found = used(call) if call.price is not None else None
    return None if found is None else found.cost / NANO


def prompt_tokens(call: Call) -> int:
    """What was counted for the context window; else counted now where that is cheap; else by bytes."""
    if call.context is not None:
        return call.context.prompt_tokens
    if call.target is not None and call.body is not None and call.body_bytes <= MAX_INLINE_BYTES:
        tokenizer = tokenizer_for(call.target.kind.type, call.target.model)
        if "messages" in call.body and SHARED_COUNTER.is_loaded(tokenizer):
            with suppress(ValueError, RecursionError):  # a call is accounted for whatever is in it
                return SHARED_COUNTER.count_now(call.body, tokenizer).total()
    return call.body_bytes // TYPICAL_BYTES_PER_TOKEN


def continued_usage(call: Call) -> Usage | None:
    """Return the usage of all attempts of a continued stream; None if nothing broke and the last one reported none."""
    used = call.transcript.used if call.transcript is not None else ()
    if not used:
        return call.usage
    known = [*used, *((call.usage,) if call.usage is not None else ())]
    return Usage(
        sum(usage.prompt_tokens for usage in known),
        sum(usage.completion_tokens for usage in known),
        sum(usage.cached_tokens for usage in known),
        sum(usage.reasoning_tokens for usage in known),
        estimated=True,
    )
