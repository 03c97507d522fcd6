"""Several upstream answers or streams, merged into one with several choices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing

import msgspec

from gateway import accounting
from gateway.emulate.fan_out import MergedStream, gather_all, interleave, merge_answers
from gateway.response.hooked_answer import hooked_stream
from gateway.response.json_response import fetch_answer, send_json
from gateway.response.stream_response import UpstreamStream, finish, note_decoder, open_stream, open_upstream
from gateway.response.upstream_answer import NOT_AN_ANSWER
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.streams.chunks import UNREADABLE_ERRORS, OpeningChunk
from gateway.tokens.estimate import estimate_output
from providers.base import Body, StreamFailure


async def merge_json(exchange: UpstreamExchange, bodies: list[Body]) -> None:
    """Send several requests and answer with one JSON answer that has all choices."""
    attempt = exchange.attempt
    found = await gather_all([fetch_answer(exchange, body) for body in bodies])
    answers = [(usage, estimate_output(body)) for (body, usage, _), _ in found]
    attempt.usage = await accounting.usage_of_answers(exchange.call, attempt, answers)
    attempt.finish_reasons = tuple(finished[0] if finished else None for (_, _, finished), _ in found)
    try:
        merged = merge_answers([body for (body, _, _), _ in found])
    except UNREADABLE_ERRORS:
        raise StreamFailure(NOT_AN_ANSWER) from None
    await send_json(exchange, merged, found[0][1])


async def merge_streams(exchange: UpstreamExchange, bodies: list[Body]) -> None:
    """Send several streaming requests and answer with one stream, in which the choice of each request has its own index."""
    call, attempt, caller = exchange.call, exchange.attempt, exchange.caller
    streams: dict[int, UpstreamStream] = {}
    whole = MergedStream()
    hooked = hooked_stream(exchange) if call.hooks is not None else None

    async def pump(at: int, put: Callable[[bytes], Awaitable[None]]) -> None:
        stream = streams[at] = await open_upstream(exchange, bodies[at], usage_asked=True)
        try:
            out = stream.first
            while not stream.ended:
                await put(out)
                out = await stream.read()
            await put(out)
        finally:
            stream.close()
            attempt.stop_matched = attempt.stop_matched or stream.stop
            stream.note_cut(call, attempt)

    async with aclosing(interleave(len(bodies), pump)) as pieces:
        async for at, piece in pieces:
            out = whole.rewrite(at, piece)
            attempt.chunks = sum(stream.relay.chunks for stream in streams.values())
            if hooked is not None:
                out = await hooked.pass_on(out, is_end=False)
            if out:
                if not caller.head_sent:
                    await open_stream(exchange, streams[at].response)
                    if hooked is not None:
                        hooked.begin()
                await caller.write(out)
    relays = [streams[at].relay for at in range(len(bodies))]
    attempt.usage = await accounting.usage_of_answers(call, attempt, [(relay.usage, relay.chunks) for relay in relays])
    attempt.finish_reasons = tuple(next(iter(relay.finish_reasons), None) for relay in relays)
    note_decoder(exchange)
    out = whole.usage_event(len(bodies)) if call.wants_usage else b""
    if hooked is not None:
        out = await hooked.pass_on(out, is_end=True)
        if not caller.head_sent:
            await open_stream(exchange, streams[0].response)
    try:
        opening = msgspec.convert(whole.identity, OpeningChunk)
    except msgspec.ValidationError:  # the upstream's ids are not strings
        opening = OpeningChunk()
    await finish(exchange, out, opening)
