"""One attempt: its request to the upstream, and the answer to the caller as what it is: a stream, JSON, or several made one."""

from __future__ import annotations

from functools import partial

from gateway.emulate.stops import cut_answer
from gateway.response import json_response as answering
from gateway.response import logits_response, merged_response
from gateway.response import stream_response as streaming
from gateway.response.chained_requests import ReadAnswer, run_chained, to_stream
from gateway.response.upstream_exchange import UpstreamExchange
from providers.base import Body
from providers.rules.shapes import fan_out

__all__ = ["UpstreamExchange", "deliver"]


async def deliver(exchange: UpstreamExchange, body: Body) -> None:
    """Send an adapted body and answer the caller. UpstreamError or StreamFailure when there is no (whole) answer."""
    call, attempt = exchange.call, exchange.attempt
    if exchange.logits_request is not None:
        await logits_response.send_logits(exchange, body, exchange.logits_request)
        return
    if exchange.upstream_calls > 1:
        bodies = fan_out(body, exchange.upstream_calls)
        await (merged_response.merge_streams if call.stream else merged_response.merge_json)(exchange, bodies)
        return
    parts = exchange.target.kind.chained(body, exchange.options)
    if call.stream and parts is None:
        continuing = call.transcript is not None and bool(call.transcript.handovers)
        await streaming.send_stream(exchange, await streaming.open_upstream(exchange, body, usage_asked=call.wants_usage and not continuing))
        return
    ask = partial(answering.fetch_answer, exchange)
    found, response = await (ask(body) if parts is None else run_chained(parts, ask))
    if parts is not None and call.stops:  # one may stand across two parts
        found, attempt.stop_matched = _cut(found, exchange)
    if exchange.json_validator is not None and exchange.json_validator.may_repair and exchange.json_validator.error is not None:
        found = await answering.repair_json(exchange, found, exchange.json_validator)
    attempt = exchange.attempt  # the repair of an answer is another attempt
    answered, attempt.usage, attempt.finish_reasons = found
    if call.stream:
        await streaming.open_stream(exchange, response)
        await streaming.finish(exchange, *to_stream(answered, usage_asked=call.wants_usage))
    else:
        await answering.send_json(exchange, answered, response)


def _cut(found: ReadAnswer, exchange: UpstreamExchange) -> tuple[ReadAnswer, str | None]:
    """An answer in parts, ended at a stop that may stand across two of them."""
    whole, matched = cut_answer(found[0], exchange.call.stops, keep=exchange.call.keeps_stop)
    return (whole, *found[1:]), exchange.attempt.stop_matched or matched
