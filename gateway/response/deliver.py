"""One attempt: its request to the upstream, and the answer to the caller as what it is: a stream, JSON, or several made one."""

from __future__ import annotations

from functools import partial

from gateway.emulate.stops import cut_answer
from gateway.response import json_response as answering
from gateway.response import logits_response, merged_response
from gateway.response import stream_response as streaming
from gateway.response.chained_requests import Read, as_stream, ask_in_parts
from gateway.response.upstream_exchange import Exchange
from providers.base import Body
from providers.rules.shapes import fan_out

__all__ = ["Exchange", "carry_out"]


async def carry_out(exchange: Exchange, body: Body) -> None:
    """Send an adapted body and answer the caller. UpstreamError or StreamFailure when there is no (whole) answer."""
    call, attempt = exchange.call, exchange.attempt
    if exchange.asked is not None:
        await logits_response.answer_logits(exchange, body, exchange.asked)
        return
    if exchange.count > 1:
        bodies = fan_out(body, exchange.count)
        await (merged_response.relay_several if call.stream else merged_response.answer_several)(exchange, bodies)
        return
    parts = exchange.target.kind.chained(body, exchange.options)
    if call.stream and parts is None:
        continuing = call.transcript is not None and bool(call.transcript.handovers)
        await streaming.deliver(exchange, await streaming.begin(exchange, body, usage_asked=call.usage_asked and not continuing))
        return
    ask = partial(answering.ask, exchange)
    found, response = await (ask(body) if parts is None else ask_in_parts(parts, ask))
    if parts is not None and call.stops:  # one may stand across two parts
        found, attempt.stop_matched = _cut(found, exchange)
    if exchange.watch is not None and exchange.watch.repair and exchange.watch.error is not None:
        found = await answering.ask_again(exchange, found, exchange.watch)
    attempt = exchange.attempt  # the repair of an answer is another attempt
    answered, attempt.usage, attempt.finish_reasons = found
    if call.stream:
        await streaming.open_stream(exchange, response)
        await streaming.finish(exchange, *as_stream(answered, usage_asked=call.usage_asked))
    else:
        await answering.give(exchange, answered, response)


def _cut(found: Read, exchange: Exchange) -> tuple[Read, str | None]:
    """An answer in parts, ended at a stop that may stand across two of them."""
    whole, matched = cut_answer(found[0], exchange.call.stops, keep=exchange.call.keep_stop)
    return (whole, *found[1:]), exchange.attempt.stop_matched or matched
