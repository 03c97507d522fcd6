"""Answers a call for embeddings: with one upstream request, or with several whose answers are merged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

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
    found = await _fetch_all(exchange, bodies)
    exchange.attempt.usage = sum_usages([usage for (_, usage, _), _ in found])
    await send_json(exchange, merge(exchange, bodies, [answer for (answer, _, _), _ in found]), found[0][1])


def merge(exchange: UpstreamExchange, bodies: Sequence[Body], answers: Sequence[bytes]) -> bytes:
    """Return the caller's answer for the answers to the requests `bodies`. Raise StreamFailure if an answer cannot be read."""
    assert exchange.call.body is not None
    encoding = "base64" if exchange.call.body.get("encoding_format") == "base64" else "float"
    try:
        return merge_answers(answers, [input_count(body) for body in bodies], encoding)
    except UNREADABLE_ERRORS:
        raise StreamFailure(NOT_EMBEDDINGS) from None


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
