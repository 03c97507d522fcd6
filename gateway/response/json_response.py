"""A JSON response: read completely, repaired if needed, and sent with the receipt if requested."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from msgspec import structs

from gateway import accounting
from gateway.emulate import json_mode
from gateway.emulate.fan_out import last_with_all_usage
from gateway.emulate.stops import cut_answer
from gateway.response import headers, receipt, time_info, upstream_answer
from gateway.response.after_disconnect import shield_from_disconnect
from gateway.response.chained_requests import ReadAnswer
from gateway.response.hooked_answer import hooked_json
from gateway.response.upstream_answer import NOT_AN_ANSWER
from gateway.response.upstream_exchange import MAX_ANSWER_BYTES, UpstreamExchange
from gateway.streams.chunks import UNREADABLE_ERRORS
from gateway.tokens.estimate import estimate_output, estimate_part
from gateway.tokens.inputs import WITHOUT_OUTPUT
from gateway.upstream.transport import Response, UpstreamError
from providers.base import Adjustment, Answer, Body, Refusal, StreamFailure, Usage


def fetch_answer(exchange: UpstreamExchange, body: Body) -> Coroutine[Any, Any, tuple[ReadAnswer, Response]]:
    """Return one complete JSON answer and its response head."""
    fetched = _fetch(exchange, body)
    return shield_from_disconnect(exchange, fetched) if exchange.backend.finishes_reading else fetched


async def _fetch(exchange: UpstreamExchange, body: Body) -> tuple[ReadAnswer, Response]:
    response = await exchange.send(body)
    try:
        return await _read(exchange, response), response
    finally:
        response.close()


async def repair_json(exchange: UpstreamExchange, first: ReadAnswer, validator: json_mode.JsonValidator) -> ReadAnswer:
    """Repeat a request whose answer is not the requested JSON. Return the second answer, or the first one if the second request fails.

    Both requests are billed.
    """
    target, attempt, began = exchange.target, exchange.attempt, time.monotonic()
    error, notes, before, reported = validator.error, validator.notes, attempt.adjustments, len(attempt.reported)
    attempt.ms = exchange.elapsed_ms()
    body = validator.repair_request(first[0])
    try:
        target.kind.adapt(body, target, exchange.options)
        left = max(0.05, exchange.deadlines.total - attempt.ms / 1000)
        exchange.deadlines = structs.replace(exchange.deadlines, total=left)
        (answer, usage, finish_reasons), _ = await fetch_answer(exchange, body)
    except (UpstreamError, StreamFailure, Refusal) as failed:
        if isinstance(failed, StreamFailure) and failed.usage is not None:
            attempt.reported.append(failed.usage)
        note = Adjustment(json_mode.PARAM, "warn", why=f"the repair request failed ({type(failed).__name__})")
        attempt.adjustments = [*before, *receipt.as_caller_names(exchange.call, [note])]
        parts = [(first[1], estimate_output(first[0])), *((part, 0) for part in attempt.reported[reported:])]
        return first[0], await accounting.usage_of_answers(exchange.call, attempt, parts), first[2]
    why = f"the request was repeated, and both are billed; the first answer was invalid: {error}"
    note = Adjustment(json_mode.PARAM, "warn", why=why)
    first_notes = receipt.as_caller_names(exchange.call, notes)
    kept = [each for each in before if each not in first_notes]
    adjustments = [*kept, *receipt.as_caller_names(exchange.call, [note]), *attempt.adjustments[len(before) :]]
    exchange.attempt = structs.replace(attempt, adjustments=adjustments, sent_at=began, queue_s=0.0)
    exchange.sent_at = began
    exchange.call.attempts.append(exchange.attempt)
    attempt.outcome = "invalid_json"
    exchange.metrics.count_target("lockgate_attempts", target, attempt.outcome)
    parts = [(first[1], estimate_output(first[0])), (usage, estimate_output(answer))]
    return last_with_all_usage([first[0], answer]), await accounting.usage_of_answers(exchange.call, attempt, parts), finish_reasons


async def _read(exchange: UpstreamExchange, response: Response) -> ReadAnswer:
    """Read a JSON answer. Return it with its usage and finish reasons."""
    target, options = exchange.target, exchange.options
    is_stream = target.kind.always_streams and options.operation not in WITHOUT_OUTPUT and exchange.native is None
    relay = upstream_answer.collecting_relay(target, options) if is_stream else None
    try:
        if relay is not None:
            answer = await upstream_answer.collect_stream(response, target, relay)
        else:
            answer = await upstream_answer.read_json(response, target, options, MAX_ANSWER_BYTES, exchange.native)
    except (UpstreamError, asyncio.CancelledError):
        _report_part(exchange, relay.chunks if relay is not None else estimate_part(response.unread()))
        raise
    except StreamFailure:
        if relay is not None and relay.usage is not None:
            exchange.attempt.reported.append(relay.usage)
        raise
    return finish_answer(exchange, answer)


def finish_answer(exchange: UpstreamExchange, answer: Answer) -> ReadAnswer:
    """Record a complete answer, and apply the features that the provider lacks. Return the answer with its usage and finish reasons.

    Raise StreamFailure if the answer cannot be read.
    """
    attempt = exchange.attempt
    attempt.ended_at = time.monotonic()
    if answer.adjustments:
        receipt.add_notes(exchange.call, attempt, answer.adjustments)
    try:
        if exchange.native is None:
            _apply_emulations(exchange, answer)
        else:
            _note_native(exchange, answer)
    except UNREADABLE_ERRORS:
        raise StreamFailure(NOT_AN_ANSWER) from None
    if answer.usage is not None:
        attempt.reported.append(answer.usage)
    return answer.body, answer.usage, answer.finish_reasons


def _report_part(exchange: UpstreamExchange, output: int) -> None:
    """Bill an incomplete answer, or an answer whose caller disconnected, like a stream: by the output that arrived."""
    if output:
        attempt = exchange.attempt
        attempt.reported.append(Usage(accounting.prompt_tokens(exchange.call, attempt), output, estimated=True))


def _apply_emulations(exchange: UpstreamExchange, answer: Answer) -> None:
    """Apply the features that the provider lacks: stop strings, JSON mode and tool calls. Estimate the output if no usage is reported."""
    call, attempt = exchange.call, exchange.attempt
    if call.stops:
        uncut = answer.body
        names_stop = call.translator is not None
        answer.body, matched = cut_answer(uncut, call.stops, keep=call.keeps_stop, names_stop=names_stop)
        exchange.stop_found = matched
        attempt.stop_matched = attempt.stop_matched or matched
        if answer.body is not uncut:
            receipt.note_cut(call, attempt)
    if exchange.json_validator is not None:
        answer.body, notes = exchange.json_validator.check_answer(answer.body)
        receipt.add_notes(call, attempt, notes)
    if exchange.tool_calls is not None:
        receipt.add_notes(call, attempt, exchange.tool_calls.finish(answer))
    if answer.usage is None or not answer.usage.completion_tokens:
        attempt.chunks += estimate_output(answer.body)


def _note_native(exchange: UpstreamExchange, answer: Answer) -> None:
    """Record the stop string of an answer in the caller's API, and estimate its output if no usage is reported."""
    exchange.attempt.stop_matched = answer.stop
    if exchange.call.operation not in WITHOUT_OUTPUT and (answer.usage is None or not answer.usage.completion_tokens):
        exchange.attempt.chunks += estimate_part(answer.body)


async def send_json(exchange: UpstreamExchange, body: bytes, response: Response) -> None:
    """Send a JSON answer, unless another attempt of a hedged call has already answered."""
    call, attempt = exchange.call, exchange.attempt
    if call.hooks is not None:
        body = await hooked_json(exchange, body)
    exchange.claim_caller()
    call.status, call.answered_by = 200, attempt
    if receipt.has_total_alone(attempt) and exchange.native is None and call.operation != "rerank":
        await accounting.count_missing(call)
        body = receipt.add_parts(call, attempt, body)
    body = call.dialect.response(body)
    if call.wants_receipt:
        await accounting.count_missing(call)
        attempt.time_info = time_info.of_exchange(exchange) or time_info.read_times(body) or time_info.measured(call, attempt)
        accounting.settle(call)
        attempt.ms = exchange.elapsed_ms()
        body = receipt.add_to_answer(body, call)
    call.first_byte_at = time.monotonic()
    await exchange.caller.respond(200, headers.json_headers(call, attempt, response, len(body)), body)
