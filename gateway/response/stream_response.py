"""A stream on its way: begun (sent, and read up to the first events that say something), then delivered to the caller.

    begin     -> UpstreamStream    nothing has gone to the caller yet: it may still be given up for another target's
    deliver   the rest             every piece as it comes, ended by exactly one [DONE]; an error here is the stream's last event

Several upstream streams (one for each choice) are begun and read side by side and delivered as one.
"""

from __future__ import annotations

import asyncio
import time

from gateway import usage as accounting
from gateway.emulate.stops import StopStream
from gateway.metrics import Metrics
from gateway.response import after_disconnect as outlive
from gateway.response import headers, receipt, time_info
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.streams.chunks import OpeningChunk
from gateway.streams.relay import DONE, Relay
from gateway.upstream.transport import Response, UpstreamError
from providers.base import Body, Usage


class UpstreamStream:
    """One upstream stream, read as what the caller is to get of it."""

    __slots__ = ("_counted", "_metrics", "_stops", "ended", "first", "relay", "response")

    def __init__(self, response: Response, relay: Relay, stops: StopStream | None, metrics: Metrics) -> None:
        self.response = response
        self.relay = relay
        self._stops = stops
        self._metrics = metrics
        self._counted = 0
        """Irregularities that the metrics know of."""
        self.first = b""
        """What `begin` read: events that say something, or all there is."""
        self.ended = False
        """Everything was read; what the last `read` returned comes before [DONE]."""

    async def read(self) -> bytes:
        """The next events to send, the last of them once `ended`. UpstreamError or StreamFailure when the stream breaks."""
        relay = self.relay
        while not relay.done:
            try:
                piece = await self.response.read()
            except UpstreamError as error:
                if error.kind != "truncated" or not relay.finished:
                    raise
                break  # all was said, only the end of the framing is missing
            if not piece:
                break
            out = relay.feed(piece)
            if out:
                return out
        out = relay.end()
        self.ended = True
        if self._stops is None or self._stops.matched_stop is None:
            self.response.finish(self._discard)
        return out

    def _discard(self, rest: bytes) -> bool:
        """What comes after [DONE]; whether it should not have. The caller's stream may be over by then."""
        surplus = self.relay.discard(rest)
        self._count()
        return surplus

    async def read_rest(self) -> None:
        """Read to the end for nobody."""
        while not self.ended:
            await self.read()

    @property
    def stop(self) -> str | None:
        """The stop that ended it."""
        return (self._stops.matched_stop or self._stops.reported_stop) if self._stops is not None else None

    def close(self) -> None:
        """Done with it, read to its end or not."""
        self.response.close()
        self._count()

    def _count(self) -> None:
        found = self.relay.normalised
        if found > self._counted:
            self._metrics.count("lockgate_sse_normalised", (), found - self._counted)
            self._counted = found


def record_stream(exchange: UpstreamExchange, stream: UpstreamStream) -> None:
    """Note on the attempt what its only stream told so far."""
    attempt, relay = exchange.attempt, stream.relay
    attempt.usage, attempt.finish_reasons, attempt.chunks = relay.usage, relay.finish_reasons, relay.chunks
    attempt.stop_matched = stream.stop


async def open_upstream(exchange: UpstreamExchange, body: Body, *, usage_asked: bool) -> UpstreamStream:
    """Send, and read up to the first events that say something. Nothing goes to the caller."""
    if not exchange.backend.finishes_reading:
        return await _begin(exchange, body, usage_asked)

    async def rest(stream: UpstreamStream) -> None:
        try:
            await stream.read_rest()
        finally:
            stream.close()

    return await outlive.shield_from_disconnect(exchange, _begin(exchange, body, usage_asked), rest)


async def _begin(exchange: UpstreamExchange, body: Body, usage_asked: bool) -> UpstreamStream:
    response = await exchange.send(body)
    stream = UpstreamStream(response, *exchange.new_relay(body, usage_asked=usage_asked), exchange.metrics)
    try:
        stream.first = await stream.read()
    except BaseException:
        stream.close()
        raise
    return stream


async def send_stream(exchange: UpstreamExchange, stream: UpstreamStream) -> None:
    """The stream's head, its first events and all that follow, as they come; then [DONE]."""
    call, attempt, caller = exchange.call, exchange.attempt, exchange.caller
    out = stream.first
    try:
        if not caller.head_sent:
            await open_stream(exchange, stream.response)
        else:
            call.answered_by = attempt
            if exchange.on_begin is not None:
                exchange.on_begin()
        while not stream.ended:
            if call.transcript is not None:
                call.transcript.append(out)
            await caller.write(out)
            if call.wants_receipt and time_info.has_times(out):
                attempt.time_info = time_info.read_event_times(out) or attempt.time_info
            out = await stream.read()
        if call.wants_receipt:
            attempt.time_info = time_info.read_event_times(out) or time_info.read_times(stream.relay.usage_event) or attempt.time_info
    except asyncio.CancelledError:
        if outlive.should_finish(exchange):
            await outlive.finish_reading(exchange, stream.read_rest())
        raise
    finally:
        stream.close()
        record_stream(exchange, stream)
    await finish(exchange, out, stream.relay.opening)


async def open_stream(exchange: UpstreamExchange, response: Response) -> None:
    """The head of the caller's stream."""
    call = exchange.call
    exchange.caller.claim()
    call.status, call.answered_by = 200, exchange.attempt
    call.first_byte_at = time.monotonic()
    if exchange.on_begin is not None:
        exchange.on_begin()
    await exchange.caller.start_stream(headers.stream_headers(call, exchange.attempt, response))


async def finish(exchange: UpstreamExchange, out: bytes, opening: OpeningChunk) -> None:
    """The last events, the receipt where it was asked for, and [DONE]."""
    call, attempt = exchange.call, exchange.attempt
    call.stream_end = "ok"
    attempt.ended_at = time.monotonic()
    if exchange.json_streams:
        notes = [note for watched in exchange.json_streams for note in watched.notes()]
        attempt.adjustments = [*attempt.adjustments, *dict.fromkeys(notes)]
    if call.wants_usage:
        out += _own_usage(exchange, opening)
    if call.wants_receipt:
        attempt.time_info = attempt.time_info or exchange.times() or time_info.measured(call, attempt)
        accounting.settle(call)
        attempt.ms = exchange.elapsed_ms()
        out += receipt.receipt_chunk(call, opening)
    await exchange.caller.finish(out + DONE)


def _own_usage(exchange: UpstreamExchange, opening: OpeningChunk) -> bytes:
    """The chunk with a usage that no upstream told: of a stream that we ended at a stop, or that was gone on with elsewhere."""
    call, attempt = exchange.call, exchange.attempt
    if call.transcript is not None and call.transcript.handovers:
        accounting.settle(call)
        usage: Usage | None = accounting.continued_usage(call)
    elif attempt.usage is None and attempt.stop_matched is not None:
        accounting.settle(call)
        usage = attempt.usage
    else:
        return b""
    return receipt.usage_chunk(call, usage, opening) if usage is not None else b""
