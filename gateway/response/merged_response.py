"""Several upstream answers or streams, merged into one with several choices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing

import msgspec

from gateway.emulate.fan_out import Interleaved, add_usages, interleave, merge, together
from gateway.response.json_response import ask, give
from gateway.response.stream_response import UpstreamStream, begin, finish, open_stream
from gateway.response.upstream_answer import NO_ANSWER
from gateway.response.upstream_exchange import Exchange
from gateway.streams.chunks import UNREADABLE, OpeningChunk
from providers.base import Body, StreamFailure


async def answer_several(exchange: Exchange, bodies: list[Body]) -> None:
    """n JSON answers as one."""
    attempt = exchange.attempt
    found = await together([ask(exchange, body) for body in bodies])
    attempt.usage = add_usages([usage for (_, usage, _), _ in found])
    attempt.finish_reasons = tuple(finished[0] if finished else None for (_, _, finished), _ in found)
    try:
        merged = merge([body for (body, _, _), _ in found])
    except UNREADABLE:
        raise StreamFailure(NO_ANSWER) from None
    await give(exchange, merged, found[0][1])


async def relay_several(exchange: Exchange, bodies: list[Body]) -> None:
    """n streams as one, each with its own index."""
    call, attempt, caller = exchange.call, exchange.attempt, exchange.caller
    streams: dict[int, UpstreamStream] = {}
    whole = Interleaved()

    async def pump(at: int, put: Callable[[bytes], Awaitable[None]]) -> None:
        stream = streams[at] = await begin(exchange, bodies[at], usage_asked=True)
        try:
            out = stream.first
            while not stream.ended:
                await put(out)
                out = await stream.read()
            await put(out)
        finally:
            stream.close()
            attempt.stop_matched = attempt.stop_matched or stream.stop

    async with aclosing(interleave(len(bodies), pump)) as pieces:
        async for at, piece in pieces:
            out = whole.rewrite(at, piece)
            attempt.chunks = sum(stream.relay.chunks for stream in streams.values())
            if out:
                if not caller.head_sent:
                    await open_stream(exchange, streams[at].response)
                await caller.write(out)
    relays = [streams[at].relay for at in range(len(bodies))]
    attempt.usage = add_usages([relay.usage for relay in relays])
    attempt.finish_reasons = tuple(next(iter(relay.finish_reasons), None) for relay in relays)
    out = whole.usage_event(len(bodies)) if call.usage_asked else b""
    try:
        opening = msgspec.convert(whole.identity, OpeningChunk)
    except msgspec.ValidationError:  # an upstream whose ids are no words
        opening = OpeningChunk()
    await finish(exchange, out, opening)
