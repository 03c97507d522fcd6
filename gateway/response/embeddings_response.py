"""Answers a call for embeddings: with one upstream request, or with several whose answers are merged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import reduce

from msgspec import structs

from gateway.call import Call
from gateway.emulate.embeddings import merge_answers
from gateway.emulate.fan_out import gather_all
from gateway.response.chained_requests import ReadAnswer
from gateway.response.json_response import fetch_answer, send_json
from gateway.response.upstream_answer import NOT_EMBEDDINGS
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.streams.chunks import UNREADABLE_ERRORS
from gateway.upstream.transport import Response
from providers.base import Body, StreamFailure, Usage
from providers.rules.embeddings import input_count

MAX_PARALLEL_REQUESTS = 8
"""Maximum number of upstream requests of one call that run at the same time."""


async def send_embeddings(exchange: UpstreamExchange, bodies: list[Body]) -> None:
    """Send the requests, and answer with one vector for each input in the caller's encoding."""
    counts = [input_count(body) for body in bodies]  # before the bodies are encoded, which may rename the field
    found = await _fetch_all(exchange, bodies)
    reported = [usage for (_, usage, _), _ in found]
    # an estimate is of all inputs together, so it replaces all reported usages if one is missing
    exchange.attempt.usage = None if None in reported else reduce(Usage.plus, filter(None, reported))
    await send_json(exchange, merge(exchange.call, [answer for (answer, _, _), _ in found], counts), found[0][1])


def merge_single(call: Call, answer: bytes) -> bytes:
    """Return the caller's answer for the answer to a call's only request. Raise StreamFailure if it cannot be read."""
    assert call.body is not None
    return merge(call, (answer,), (input_count(call.body),))


def merge(call: Call, answers: Sequence[bytes], counts: Sequence[int]) -> bytes:
    """Return the caller's answer for the answers to all requests. `counts` has the number of inputs of each request.

    Raise StreamFailure if an answer cannot be read.
    """
    assert call.body is not None
    encoding = "base64" if call.body.get("encoding_format") == "base64" else "float"
    try:
        return merge_answers(answers, counts, encoding)
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
