"""A streamed response: the upstream stream is opened, relayed, and finished.

    open_upstream   sends the request and reads up to the first events with content; until then the call may still fall
                    back to another target
    send_stream     sends every piece as it arrives, then the end of the stream, which is exactly one [DONE] for chat
                    events; an error here becomes the last event

A `Relay` passes the events of an upstream stream through one chain of decoders (`gateway.response.stream_relay`). If the chain is
empty, the bytes are passed on as they are, unless an event must be changed. A stream in the caller's own API passes
through a `NativeRelay` instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from gateway import accounting
from gateway.call import Attempt, Call
from gateway.emulate.stops import StopStream
from gateway.metrics import Metrics
from gateway.response import after_disconnect, headers, receipt, time_info
from gateway.response.hooked_answer import HookedStream, hooked_stream
from gateway.response.stream_relay import chat_relay, native_relay
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.streams.chunks import OpeningChunk
from gateway.streams.native_relay import EventReader, NativeRelay
from gateway.streams.relay import DONE, Relay
from gateway.upstream.response import NativeResponse
from gateway.upstream.transport import Response, UpstreamError
from providers.base import NOTES, Body, StreamFailure


class UpstreamStream:
    """One upstream stream, read as the events that the caller gets."""

    __slots__ = ("_counted", "_metrics", "_stops", "ended", "first", "hooked", "relay", "response")

    def __init__(self, exchange: UpstreamExchange, response: Response, body: Body, *, usage_asked: bool) -> None:
        self.response = response
        self.relay: Relay | NativeRelay
        self._stops: StopStream | None = None
        if exchange.native is not None:
            self.relay = native_relay(exchange.native, body)
        else:
            self.relay, self._stops = chat_relay(exchange, body, usage_asked=usage_asked)
        exchange.attempt.relays.append(self.relay)
        is_whole = exchange.upstream_calls == 1  # otherwise the hooks get the merged stream
        self.hooked = hooked_stream(exchange) if exchange.call.hooks is not None and is_whole else None
        self._metrics: Metrics = exchange.metrics
        self._counted = 0  # irregularities that the metrics already include
        self.first = b""
        """The events up to the first ones with content, or the whole stream if it has no content."""
        self.ended = False
        """Whether everything was read. The last `read` then returned the last events, without [DONE]."""

    def read(self) -> Coroutine[Any, Any, bytes]:
        """Return the next events to send. If they are the last ones, set `ended`.

        Raise UpstreamError or StreamFailure if the stream breaks, and GatewayError if a hook refuses it.
        """
        return self._read() if self.hooked is None else self._read_hooked(self.hooked)

    async def _read_hooked(self, hooked: HookedStream) -> bytes:
        while True:
            out = await hooked.pass_on(await self._read(), is_end=self.ended)
            if out or self.ended:
                return out

    async def _read(self) -> bytes:
        relay = self.relay
        while not relay.done:
            try:
                piece = await self.response.read()
            except UpstreamError as error:
                self._check_cut(error)
                break
            if not piece:
                break
            out = relay.feed(piece)
            if out:
                return out
        return self._end()

    def read_now(self, response: NativeResponse) -> bytes | None:
        """Return the next events as `read` does, but return None if `read` would wait.

        Events that arrive together with the end of the stream count as its last events.
        """
        relay = self.relay
        while not relay.done:
            try:
                piece = response.take()
            except UpstreamError as error:
                self._check_cut(error)
                break
            if not piece:
                if piece is None:
                    return None
                break
            out = relay.feed(piece)
            if relay.done and out:
                try:
                    return out + self._end()
                except StreamFailure:  # the next call raises it again
                    return out
            if out:
                return out
        return self._end()

    def _check_cut(self, error: UpstreamError) -> None:
        """Raise the error, unless the events are complete and only the end of the response's framing is missing."""
        if error.kind != "truncated" or not self.relay.finished:
            raise error

    def _end(self) -> bytes:
        """Return the last events of a stream that was read completely."""
        out = self.relay.end()
        self.ended = True
        if self._stops is None or self._stops.matched_stop is None:
            self.response.finish(self._discard)
        return out

    def _discard(self, rest: bytes) -> bool:
        """Discard data after the end of the stream, and return whether the data is irregular.

        The caller's stream may have ended already.
        """
        surplus = self.relay.discard(rest)
        self._count()
        return surplus

    async def read_rest(self) -> None:
        """Read to the end of the stream and discard the events."""
        while not self.ended:
            await self.read()

    @property
    def stop(self) -> str | None:
        """The stop string that ended the stream, or None."""
        if isinstance(self.relay, NativeRelay):
            return self.relay.reader.stop
        return (self._stops.matched_stop or self._stops.reported_stop) if self._stops is not None else None

    def note_cut(self, call: Call, attempt: Attempt) -> None:
        """If the gateway ended the text at a stop string, report this in the receipt."""
        if self._stops is not None and self._stops.matched_stop is not None:
            receipt.note_cut(call, attempt)

    def close(self) -> None:
        """Release the response, even if it was not read to its end."""
        self.response.close()
        self._count()

    def _count(self) -> None:
        irregularities = self.relay.normalised
        if irregularities > self._counted:
            self._metrics.count("lockgate_sse_normalised", (), irregularities - self._counted)
            self._counted = irregularities


def record_stream(exchange: UpstreamExchange, stream: UpstreamStream) -> None:
    """Record on the attempt the usage, the finish reasons and the stop string that its only stream has received so far."""
    attempt, relay = exchange.attempt, stream.relay
    attempt.usage, attempt.finish_reasons, attempt.chunks = relay.usage, relay.finish_reasons, relay.chunks
    attempt.stop_matched = stream.stop
    stream.note_cut(exchange.call, attempt)
    note_decoder(exchange)


def note_decoder(exchange: UpstreamExchange) -> None:
    """Add to the receipt the adjustments that the provider's decoder made to the streams of the attempt."""
    notes = exchange.options.memo.get(NOTES)
    if notes:
        receipt.add_notes(exchange.call, exchange.attempt, notes)


async def open_upstream(exchange: UpstreamExchange, body: Body, *, usage_asked: bool) -> UpstreamStream:
    """Send the request and read up to the first events with content. Nothing is sent to the caller."""
    if not exchange.backend.finishes_reading:
        return await _begin(exchange, body, usage_asked)

    async def rest(stream: UpstreamStream) -> None:
        try:
            await stream.read_rest()
        finally:
            stream.close()

    return await after_disconnect.shield_from_disconnect(exchange, _begin(exchange, body, usage_asked), rest)


async def _begin(exchange: UpstreamExchange, body: Body, usage_asked: bool) -> UpstreamStream:
    response = await exchange.send(body)
    stream = UpstreamStream(exchange, response, body, usage_asked=usage_asked)
    stream.first = await _read_first(stream)
    return stream


async def _read_first(stream: UpstreamStream) -> bytes:
    try:
        return await stream.read()
    except BaseException:
        stream.close()
        raise


async def continue_stream(exchange: UpstreamExchange, stream: UpstreamStream) -> None:
    """Send the rest of a stream that the fast lane began to read. If the first events had content, they have been sent."""
    stream.first = b""
    if not exchange.caller.head_sent:
        stream.first = await _read_first(stream)
    await send_stream(exchange, stream)


async def send_stream(exchange: UpstreamExchange, stream: UpstreamStream) -> None:
    """Send the head, the first events and all that follow as they arrive, then the end of the stream."""
    call, attempt, caller = exchange.call, exchange.attempt, exchange.caller
    out = stream.first
    try:
        if not caller.head_sent:
            await open_stream(exchange, stream.response)
        else:
            call.answered_by = attempt
            if exchange.on_begin is not None:
                exchange.on_begin()
        if stream.hooked is not None:
            stream.hooked.begin()
        while not stream.ended:
            if call.transcript is not None:
                call.transcript.append(out if stream.hooked is None else stream.hooked.take_unhooked())
            await caller.write(out)
            if call.wants_receipt and time_info.has_times(out):
                attempt.time_info = time_info.read_event_times(out) or attempt.time_info
            out = await stream.read()
        if call.wants_receipt:
            last = time_info.read_event_times(out) or time_info.read_times(stream.relay.usage_event)
            attempt.time_info = last or attempt.time_info
    except asyncio.CancelledError:
        if after_disconnect.should_finish(exchange):
            await after_disconnect.finish_reading(exchange, stream.read_rest())
        raise
    finally:
        stream.close()
        record_stream(exchange, stream)
    if isinstance(stream.relay, NativeRelay):
        await _finish_natively(exchange, out, stream.relay.reader)
    else:
        await finish(exchange, out, stream.relay.opening)


async def open_stream(exchange: UpstreamExchange, response: Response) -> None:
    """Send the head of the stream, unless another attempt of a hedged call has already answered."""
    call = exchange.call
    exchange.claim_caller()
    call.status, call.answered_by = 200, exchange.attempt
    call.first_byte_at = time.monotonic()
    if exchange.on_begin is not None:
        exchange.on_begin()
    await exchange.caller.start_stream(headers.stream_headers(call, exchange.attempt, response))


async def finish(exchange: UpstreamExchange, out: bytes, opening: OpeningChunk) -> None:
    """Send the last events, the receipt if requested, and [DONE]."""
    call, attempt = exchange.call, exchange.attempt
    call.stream_end = "ok"
    attempt.ended_at = time.monotonic()
    if exchange.checked_streams:
        notes = [note for checked in exchange.checked_streams for note in checked.notes()]
        receipt.add_notes(call, attempt, notes)
    if call.wants_usage or call.wants_receipt:
        await accounting.count_missing(call)
    if call.wants_usage:
        out += receipt.own_usage(call, attempt, opening)
    if call.wants_receipt:
        _settle_times(exchange)
        out += receipt.receipt_chunk(call, opening)
    await exchange.caller.finish(out + DONE)


async def _finish_natively(exchange: UpstreamExchange, out: bytes, reader: EventReader) -> None:
    """Send the last events of a stream in the caller's API, with the receipt if requested."""
    call, attempt = exchange.call, exchange.attempt
    call.stream_end = "ok"
    attempt.ended_at = time.monotonic()
    if call.wants_receipt:
        await accounting.count_missing(call)
        _settle_times(exchange)
        out = reader.with_receipt(out, receipt.encoded(call))
    await exchange.caller.finish(out)


def _settle_times(exchange: UpstreamExchange) -> None:
    """Record the times and the usage of an attempt that ends now, for its receipt."""
    call, attempt = exchange.call, exchange.attempt
    attempt.time_info = attempt.time_info or time_info.of_exchange(exchange) or time_info.measured(call, attempt)
    accounting.settle(call)
    attempt.ms = exchange.elapsed_ms()
