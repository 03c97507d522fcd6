"""Chooses how an attempt answers its caller: with a stream, or with JSON from one request, several requests, or a chain of requests."""

from __future__ import annotations

from functools import partial

from gateway.call import Attempt
from gateway.emulate.stops import cut_answer
from gateway.response import embeddings_response, json_response, logits_response, merged_response, stream_response
from gateway.response.chained_requests import ReadAnswer, mark_stopped, run_chained, to_stream
from gateway.response.filtered import WITHHELD, is_stream_withheld, is_withheld
from gateway.response.hooked_answer import hooked_json
from gateway.response.rerank_response import send_ranked
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.upstream.transport import Response
from providers.base import Body, StreamFailure
from providers.rules.embeddings import batch_sizes, batches
from providers.rules.fan_out import fan_out

__all__ = ["UpstreamExchange", "deliver", "upstream_bodies"]


async def deliver(exchange: UpstreamExchange, body: Body) -> None:
    """Send an adapted body and answer the caller. Raise UpstreamError or StreamFailure if the attempt fails."""
    call, upstream_calls = exchange.call, exchange.upstream_calls
    if exchange.rest is not None:
        await exchange.rest()
    elif exchange.logits_request is not None:
        await logits_response.send_logits(exchange, body, exchange.logits_request)
    elif call.operation == "embeddings" and exchange.native is None:
        await embeddings_response.send_embeddings(exchange, upstream_bodies(body, exchange.attempt))
    elif call.operation == "rerank":
        await send_ranked(exchange, body)
    elif upstream_calls > 1:
        bodies = upstream_bodies(body, exchange.attempt)
        await (merged_response.merge_streams if call.stream else merged_response.merge_json)(exchange, bodies)
    elif (requests := exchange.target.kind.chained(body, exchange.options)) is not None:
        answer, response = await run_chained(requests, partial(_fetch_part, exchange))
        if call.stops:
            answer, exchange.attempt.stop_matched = _cut(answer, exchange)
        await _send_answer(exchange, answer, response)
    elif call.stream:
        is_continuation = call.transcript is not None and bool(call.transcript.handovers)
        usage_asked = call.wants_usage and not is_continuation
        stream = await stream_response.open_upstream(exchange, body, usage_asked=usage_asked)
        if exchange.goes_on_if_filtered and not is_continuation and is_stream_withheld(stream.relay):
            stream.close()
            raise StreamFailure(WITHHELD)
        await stream_response.send_stream(exchange, stream)
    else:
        await _send_answer(exchange, *await json_response.fetch_answer(exchange, body))


def upstream_bodies(body: Body, attempt: Attempt) -> list[Body]:
    """Return the bodies of the upstream requests that are sent for an adapted body."""
    if attempt.upstream_calls == 1:
        return [body]
    sizes = batch_sizes(attempt.adjustments)
    return batches(body, sizes) if sizes is not None else fan_out(body, attempt.upstream_calls)


async def _send_answer(exchange: UpstreamExchange, answer: ReadAnswer, response: Response) -> None:
    """Send a complete answer as JSON, or as a stream if the caller requested one; repair its JSON first if needed."""
    call, validator = exchange.call, exchange.json_validator
    if exchange.goes_on_if_filtered and is_withheld(answer[0], answer[2]):
        raise StreamFailure(WITHHELD)
    if validator is not None and validator.may_repair and validator.error is not None:
        answer = await json_response.repair_json(exchange, answer, validator)
    attempt = exchange.attempt  # the repair of an answer is another attempt
    body, attempt.usage, attempt.finish_reasons = answer
    if call.stream:
        body = body if call.hooks is None else await hooked_json(exchange, body)
        await stream_response.open_stream(exchange, response)
        await stream_response.finish(exchange, *to_stream(body, usage_asked=call.wants_usage))
    else:
        await json_response.send_json(exchange, body, response)


async def _fetch_part(exchange: UpstreamExchange, body: Body) -> tuple[ReadAnswer, Response]:
    """Return one answer of a chain, marked if a stop string ended it, and its response head."""
    exchange.stop_found = None
    answer, response = await json_response.fetch_answer(exchange, body)
    if exchange.stop_found is not None:
        answer = (mark_stopped(answer[0], exchange.stop_found), *answer[1:])
    return answer, response


def _cut(answer: ReadAnswer, exchange: UpstreamExchange) -> tuple[ReadAnswer, str | None]:
    """End a chained answer at a stop string, which may span two of its parts. Return the answer, and the stop string or None."""
    call = exchange.call
    names_stop = call.translator is not None
    body, matched = cut_answer(answer[0], call.stops, keep=call.keeps_stop, names_stop=names_stop)
    return (body, *answer[1:]), exchange.attempt.stop_matched or matched
