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
from gateway.emulate.fan_out import last_with_all_usage, sum_usages
from gateway.emulate.stops import cut_answer
from gateway.response import headers, receipt, time_info
from gateway.response import upstream_answer as answer
from gateway.response.after_disconnect import shield_from_disconnect
from gateway.response.chained_requests import ReadAnswer
from gateway.response.upstream_answer import NOT_AN_ANSWER
from gateway.response.upstream_exchange import MAX_ANSWER_BYTES, UpstreamExchange
from gateway.streams.chunks import UNREADABLE_ERRORS
from gateway.tokens.estimate import estimate_output, estimate_part
from gateway.upstream.transport import Response, UpstreamError
from providers.base import Adjustment, Answer, Body, Refusal, StreamFailure, Usage


def fetch_answer(exchange: UpstreamExchange, body: Body) -> Coroutine[Any, Any, tuple[ReadAnswer, Response]]:
    """One JSON answer, read whole, and the head it came with."""
    return shield_from_disconnect(exchange, _ask(exchange, body)) if exchange.backend.finishes_reading else _ask(exchange, body)


async def _ask(exchange: UpstreamExchange, body: Body) -> tuple[ReadAnswer, Response]:
    response = await exchange.send(body)
    try:
        return await _read(exchange, response), response
    finally:
        response.close()


async def repair_json(exchange: UpstreamExchange, first: ReadAnswer, watch: json_mode.JsonValidator) -> ReadAnswer:
    """A JSON answer was not what was asked for: one more call that says so. Both are billed; the first stands if it fails."""
    target, attempt, began = exchange.target, exchange.attempt, time.monotonic()
    error, noted, before, reported = watch.error, watch.notes, attempt.adjustments, len(attempt.reported)
    attempt.ms = exchange.elapsed_ms()
    body = watch.repair_request(first[0])
    try:
        target.kind.adapt(body, target, exchange.options)
        exchange.deadlines = structs.replace(exchange.deadlines, total=max(0.05, exchange.deadlines.total - attempt.ms / 1000))
        (answered, usage, finished), _ = await fetch_answer(exchange, body)
    except (UpstreamError, StreamFailure, Refusal) as failed:
        note = Adjustment(json_mode.PARAM, "warn", why=f"asking once more failed ({type(failed).__name__})")
        attempt.adjustments = [*before, note]
        return first[0], sum_usages([first[1], *attempt.reported[reported:]]), first[2]
    note = Adjustment(json_mode.PARAM, "warn", why=f"asked once more, both are billed; the first answer was wrong: {error}")
    adjustments = [*(one for one in before if one not in noted), note, *attempt.adjustments[len(before) :]]
    exchange.attempt = structs.replace(attempt, adjustments=adjustments, sent_at=began)
    exchange.sent_at = began
    exchange.call.attempts.append(exchange.attempt)
    attempt.outcome = "invalid_json"
    exchange.metrics.count("lockgate_attempts", (exchange.metrics.target_label(target), attempt.outcome))
    return last_with_all_usage([first[0], answered]), sum_usages([first[1], usage]), finished


async def _read(exchange: UpstreamExchange, response: Response) -> ReadAnswer:
    """A JSON answer for the caller, with its usage and finish reasons."""
    attempt, target, options = exchange.attempt, exchange.target, exchange.options
    relay = answer.collecting_relay(target, options) if target.kind.always_streams else None
    try:
        if relay is not None:
            found = await answer.collect_stream(response, target, relay)
        else:
            found = await answer.read_json(response, target, options, MAX_ANSWER_BYTES)
    except (UpstreamError, asyncio.CancelledError):
        _charge_part(exchange, relay.chunks if relay is not None else estimate_part(response.unread()))
        raise
    attempt.ended_at = time.monotonic()
    if found.adjustments:
        attempt.adjustments = [*attempt.adjustments, *found.adjustments]
    try:
        _apply_emulations(exchange, found)
    except UNREADABLE_ERRORS:
        raise StreamFailure(NOT_AN_ANSWER) from None
    if found.usage is not None:
        attempt.reported.append(found.usage)
    return found.body, found.usage, found.finish_reasons


def _charge_part(exchange: UpstreamExchange, output: int) -> None:
    """An answer that broke off, or whose caller left, is charged as a stream is: what came of it, once there was any output."""
    if output:
        exchange.attempt.reported.append(Usage(accounting.prompt_tokens(exchange.call, exchange.attempt), output, estimated=True))


def _apply_emulations(exchange: UpstreamExchange, found: Answer) -> None:
    """What the caller asked of an answer and the provider did not do: stops, JSON, a count of what was said."""
    call, attempt = exchange.call, exchange.attempt
    if call.stops:
        found.body, matched = cut_answer(found.body, call.stops, keep=call.keeps_stop)
        attempt.stop_matched = attempt.stop_matched or matched
    if exchange.json_validator is not None:
        found.body, notes = exchange.json_validator.check_answer(found.body)
        attempt.adjustments = [*attempt.adjustments, *(note for note in notes if note not in attempt.adjustments)]
    if found.usage is None or not found.usage.completion_tokens:
        attempt.chunks += estimate_output(found.body)


async def send_json(exchange: UpstreamExchange, body: bytes, response: Response) -> None:
    """A JSON answer to the caller."""
    call, attempt = exchange.call, exchange.attempt
    exchange.caller.claim()
    call.status, call.answered_by = 200, attempt
    if call.operation == "chat" and call.path.startswith(goodfire.PATH_PREFIX):
        body = goodfire.to_goodfire(body)
    if call.wants_receipt:
        attempt.time_info = exchange.times() or time_info.read_times(body) or time_info.measured(call, attempt)
        accounting.settle(call)
        attempt.ms = exchange.elapsed_ms()
        body = receipt.add_to_answer(body, call)
    call.first_byte_at = time.monotonic()
    await exchange.caller.respond(200, headers.json_headers(call, attempt, response, len(body)), body)
