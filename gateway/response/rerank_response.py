"""Answers a rerank call: the results in order of relevance, with the documents if they are requested."""

from __future__ import annotations

from gateway.emulate.rerank import complete_answer
from gateway.response.json_response import fetch_answer, send_json
from gateway.response.upstream_answer import NOT_RANKED
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.streams.chunks import UNREADABLE_ERRORS
from providers.base import Body, StreamFailure


async def send_ranked(exchange: UpstreamExchange, body: Body) -> None:
    """Send the request, and answer with the ranked results. Any documents in them are those of the caller's own request."""
    call = exchange.call
    assert call.body is not None
    (answer, exchange.attempt.usage, _), response = await fetch_answer(exchange, body)
    try:
        ranked = complete_answer(answer, call.body, call.id)
    except UNREADABLE_ERRORS:
        raise StreamFailure(NOT_RANKED) from None
    await send_json(exchange, ranked, response)
