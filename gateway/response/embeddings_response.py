"""Answers a call for embeddings: with one upstream request, or with several whose answers are merged."""

from __future__ import annotations

import asyncio
import time

from msgspec import structs

from gateway.emulate.embeddings import merge_answers
from gateway.emulate.fan_out import gather_all, sum_usages
from gateway.response.chained_requests import ReadAnswer
from gateway.response.json_response import fetch_answer, send_json
from gateway.response.upstream_answer import NOT_EMBEDDINGS
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.streams.chunks import UNREADABLE_ERRORS
from gateway.upstream.transport import Response
from providers.base import Body, StreamFailure
from providers.rules.embeddings import input_count

MAX_PARALLEL_REQUESTS = 8
"""Maximum number of upstream requests of one call that run at the same time."""


async def send_embeddings(exchange: UpstreamExchange, bodies: list[Body]) -> None:
    """Send the requests, and answer with one vector for each input in the caller's encoding."""
    call, attempt = exchange.call, exchange.attempt
    assert call.body is not None
    encoding = "base64" if call.body.get("encoding_format") == "base64" else "float"
    counts = [input_count(body) for body in bodies]
    found = await _fetch_all(exchange, bodies)
    attempt.usage = sum_usages([usage for (_, usage, _), _ in found])
    answers = [answer for (answer, _, _), _ in found]
    try:
        whole = merge_answers(answers, counts, encoding)
    except UNREADABLE_ERRORS:
        raise StreamFailure(NOT_EMBEDDINGS) from None
    await send_json(exchange, whole, found[0][1])


async def _fetch_all(exchange: UpstreamExchange, bodies: list[Body]) -> list[tuple[ReadAnswer, Response]]:
    """Send all requests, a few at a time. The time limit of one attempt applies to all of them together."""
    if len(bodies) == 1:
        return [await fetch_answer(exchange, bodies[0])]
    free = asyncio.Semaphore(MAX_PARALLEL_REQUESTS)
    deadlines, ends = exchange.deadlines, time.monotonic() + exchange.deadlines.total

    async def fetch(body: Body) -> tuple[ReadAnswer, Response]:
        async with free:
            exchange.deadlines = structs.replace(deadlines, total=max(0.05, ends - time.monotonic()))
            return await fetch_answer(exchange, body)

    try:
        return await gather_all([fetch(body) for body in bodies])
    finally:
        exchange.deadlines = deadlines
