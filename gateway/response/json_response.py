"""JSON answers: read whole, put right, and given to the caller with the receipt where it was asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from msgspec import structs

from gateway import usage as accounting
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
    target, attempt, began = exchange.target, exchange.attempt, time.monotonic()
    error, noted, before, reported = watch.error, watch.noted, attempt.adjustments, len(attempt.reported)
    attempt.ms = exchange.elapsed()
    body = watch.again(first[0])
    try:
        target.kind.adapt(body, target, exchange.options)
        exchange.deadlines = structs.replace(exchange.deadlines, total=max(0.05, exchange.deadlines.total - attempt.ms / 1000))
        (answered, usage, finished), _ = await ask(exchange, body)
    except (UpstreamError, StreamFailure, Refusal) as failed:
        note = Adjustment(json_mode.PARAM, "warn", why=f"asking once more failed ({type(failed).__name__})")
        attempt.adjustments = [*before, note]
        return first[0], add_usages([first[1], *attempt.reported[reported:]]), first[2]
    note = Adjustment(json_mode.PARAM, "warn", why=f"asked once more, both are billed; the first answer was wrong: {error}")
    adjustments = [*(one for one in before if one not in noted), note, *attempt.adjustments[len(before) :]]
    exchange.attempt = structs.replace(attempt, adjustments=adjustments, sent_at=began)
    exchange.sent_at = began
    exchange.call.attempts.append(exchange.attempt)
    attempt.outcome = "invalid_json"
    exchange.metrics.count("lockgate_attempts", (exchange.metrics.target_label(target), attempt.outcome))
    return with_usage_of([first[0], answered]), add_usages([first[1], usage]), finished


async def _read(exchange: Exchange, response: Response) -> Read:
    """A JSON answer for the caller, with its usage and finish reasons."""
    attempt, target, options = exchange.attempt, exchange.target, exchange.options
    relay = answer.whole_relay(target, options) if target.kind.always_streams else None
    try:
        if relay is not None:
            found = await answer.aggregate(response, target, relay)
        else:
            found = await answer.read_json(response, target, options, MAX_ANSWER)
    except (UpstreamError, asyncio.CancelledError):
        _charge_part(exchange, relay.chunks if relay is not None else estimate_part(response.unread()))
        raise
    attempt.ended_at = time.monotonic()
    if found.adjustments:
        attempt.adjustments = [*attempt.adjustments, *found.adjustments]
    try:
        _put_right(exchange, found)
    except UNREADABLE:
        raise StreamFailure(NO_ANSWER) from None
    if found.usage is not None:
        attempt.reported.append(found.usage)
    return found.body, found.usage, found.finish_reasons


def _charge_part(exchange: Exchange, output: int) -> None:
    """An answer that broke off, or whose caller left, is charged as a stream is: what came of it, once there was any output."""
    if output:
        exchange.attempt.reported.append(Usage(accounting.prompt_tokens(exchange.call, exchange.attempt), output, estimated=True))


def _put_right(exchange: Exchange, found: Answer) -> None:
    """What the caller asked of an answer and the provider did not do: stops, JSON, a count of what was said."""
    call, attempt = exchange.call, exchange.attempt
    if call.stops:
        found.body, matched = cut_answer(found.body, call.stops, keep=call.keep_stop)
        attempt.stop_matched = attempt.stop_matched or matched
    if exchange.watch is not None:
        found.body, notes = exchange.watch.inspect(found.body)
        attempt.adjustments = [*attempt.adjustments, *(note for note in notes if note not in attempt.adjustments)]
    if found.usage is None or not found.usage.completion_tokens:
        attempt.chunks += estimate_output(found.body)


async def give(exchange: Exchange, body: bytes, response: Response) -> None:
    """A JSON answer to the caller."""
    call, attempt = exchange.call, exchange.attempt
    exchange.caller.claim()
    call.status, call.answered_by = 200, attempt
    if call.operation == "chat" and call.path.startswith(goodfire.PATH_PREFIX):
        body = goodfire.to_goodfire(body)
    if call.receipt:
        attempt.time_info = exchange.times() or time_info.read(body) or time_info.measured(call, attempt)
        accounting.settle(call)
        attempt.ms = exchange.elapsed()
        body = receipt.splice(body, call)
    call.first_byte_at = time.monotonic()
    await exchange.caller.respond(200, headers.json_headers(call, attempt, response, len(body)), body)
