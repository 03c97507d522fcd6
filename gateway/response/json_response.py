"""JSON answers: read whole, put right, and given to the caller with the receipt where it was asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from msgspec import structs

from gateway import usage as accounting
from gateway.call import Attempt
from gateway.dialects import goodfire
from gateway.emulate import json_mode
from gateway.emulate.fan_out import add_usages, with_usage_of
from gateway.emulate.stops import cut_answer
from gateway.response import headers, receipt, time_info
from gateway.response import upstream_answer as answer
from gateway.response.after_disconnect import outlive
from gateway.response.chained_requests import Read
from gateway.response.upstream_answer import NO_ANSWER
from gateway.response.upstream_exchange import MAX_ANSWER, Exchange
from gateway.streams.chunks import UNREADABLE
from gateway.tokens.estimate import estimate_output, estimate_part
from gateway.upstream.transport import Response, UpstreamError
from providers.base import Adjustment, Answer, Body, Refusal, StreamFailure, Usage


def ask(exchange: Exchange, body: Body) -> Coroutine[Any, Any, tuple[Read, Response]]:
    """One JSON answer, read whole, and the head it came with."""
    return outlive(exchange, _ask(exchange, body)) if exchange.place.finishes_reading else _ask(exchange, body)


async def _ask(exchange: Exchange, body: Body) -> tuple[Read, Response]:
    response = await exchange.send(body)
    try:
        return await _read(exchange, response), response
    finally:
        response.close()


async def ask_again(exchange: Exchange, first: Read, watch: json_mode.Watch) -> Read:
    """A JSON answer was not what was asked for: one more call that says so. Both are billed; the first stands if it fails."""
    call, target = exchange.call, exchange.target
    error, noted, before = watch.error, watch.noted, call.adjustments
    attempt, began, reported = call.attempts[-1], time.monotonic(), len(exchange.reported)
    attempt.ms = exchange.elapsed()
    body = watch.again(first[0])
    try:
        target.kind.adapt(body, target, exchange.options)
        exchange.deadlines = structs.replace(exchange.deadlines, total=max(0.05, exchange.deadlines.total - attempt.ms / 1000))
        (answered, usage, finished), _ = await ask(exchange, body)
    except (UpstreamError, StreamFailure, Refusal) as failed:
        note = Adjustment(json_mode.PARAM, "warn", why=f"asking once more failed ({type(failed).__name__})")
        call.adjustments = [*before, note]
        return first[0], add_usages([first[1], *exchange.reported[reported:]]), first[2]
    attempt.outcome = "invalid_json"
    exchange.metrics.count("lockgate_attempts", (exchange.metrics.target_label(target), attempt.outcome))
    call.attempts.append(Attempt(target.name))
    exchange.sent_at = call.sent_at = began
    note = Adjustment(json_mode.PARAM, "warn", why=f"asked once more, both are billed; the first answer was wrong: {error}")
    call.adjustments = [*(one for one in before if one not in noted), note, *call.adjustments[len(before) :]]
    return with_usage_of([first[0], answered]), add_usages([first[1], usage]), finished


async def _read(exchange: Exchange, response: Response) -> Read:
    """A JSON answer for the caller, with its usage and finish reasons."""
    call, target, options = exchange.call, exchange.target, exchange.options
    relay = answer.whole_relay(target, options) if target.kind.always_streams else None
    try:
        if relay is not None:
            found = await answer.aggregate(response, target, relay)
        else:
            found = await answer.read_json(response, target, options, MAX_ANSWER)
    except (UpstreamError, asyncio.CancelledError):
        _charge_part(exchange, relay.chunks if relay is not None else estimate_part(response.unread()))
        raise
    call.upstream_end = time.monotonic()
    if found.adjustments:
        call.adjustments = [*call.adjustments, *found.adjustments]
    try:
        _put_right(exchange, found)
    except UNREADABLE:
        raise StreamFailure(NO_ANSWER) from None
    if found.usage is not None:
        exchange.reported.append(found.usage)
    return found.body, found.usage, found.finish_reasons


def _charge_part(exchange: Exchange, output: int) -> None:
    """An answer that broke off, or whose caller left, is charged as a stream is: what came of it, once there was any output."""
    if output:
        exchange.reported.append(Usage(accounting.prompt_tokens(exchange.call), output, estimated=True))


def _put_right(exchange: Exchange, found: Answer) -> None:
    """What the caller asked of an answer and the provider did not do: stops, JSON, a count of what was said."""
    call = exchange.call
    if call.stops:
        found.body, matched = cut_answer(found.body, call.stops, keep=call.keep_stop)
        call.stop_matched = call.stop_matched or matched
    if exchange.watch is not None:
        found.body, notes = exchange.watch.inspect(found.body)
        call.adjustments = [*call.adjustments, *(note for note in notes if note not in call.adjustments)]
    if found.usage is None or not found.usage.completion_tokens:
        call.chunks += estimate_output(found.body)


async def give(exchange: Exchange, body: bytes, response: Response) -> None:
    """A JSON answer to the caller."""
    call = exchange.call
    exchange.caller.claim()
    call.status, exchange.delivered = 200, True
    if call.operation == "chat" and call.path.startswith(goodfire.PATH_PREFIX):
        body = goodfire.to_goodfire(body)
    if call.receipt:
        call.time_info = exchange.times() or time_info.read(body) or time_info.measured(call)
        accounting.settle(call)
        call.attempts[-1].ms = exchange.elapsed()
        body = receipt.splice(body, call)
    call.first_byte_at = time.monotonic()
    await exchange.caller.respond(200, headers.json_headers(call, response, len(body)), body)






