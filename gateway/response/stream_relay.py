"""The relay of a stream: the chain of decoders that its events pass through, and the maximum number of its events."""

from __future__ import annotations

from gateway.dialects.native_api import NativeApi
from gateway.emulate.json_mode import JsonStream
from gateway.emulate.stops import StopStream
from gateway.emulate.tool_calls import ToolCallStream
from gateway.response import upstream_answer
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.streams.native_relay import NativeRelay
from gateway.streams.relay import Relay
from gateway.streams.resumed import ResumedStream
from gateway.tokens.inputs import answer_count
from providers.base import CHOICES, Body, StreamDecoder
from providers.plain_usage import read_mapped

EVENT_TOLERANCE, EXTRA_EVENTS = 1.1, 64
"""A stream may have (output limit x tolerance + extra) content events per answer. A stream with more is assumed to be endless."""
NATIVE_EVENTS = 4
"""Factor for streams in the caller's own API. Their events may contain less than one token; those of citations are an example."""
_MORE_CHOICES = frozenset({"best_of", "num_return_sequences", "candidate_count", "num_generations", "num_completions", "use_beam_search"})
"""Fields of some servers that may request several choices, as `n` does. Their rules are unknown, so no choice is left out."""


def _decoders(exchange: UpstreamExchange) -> tuple[StreamDecoder | None, StopStream | None]:
    """Return the chain of decoders that a stream needs, if any, and the one of them that ends it at a stop string, if any.

    Their order is: provider, stops, JSON mode, tool calls, dialect, continuation.
    """
    call, stops = exchange.call, None
    decoder = exchange.target.kind.decoder(exchange.target, exchange.options)
    if call.stops or exchange.json_validator is not None:
        assert call.body is not None
        choices = 1 if exchange.upstream_calls > 1 else answer_count(call.body, call.operation)
        if call.stops:
            names_stop = call.translator is not None
            decoder = stops = StopStream(decoder, call.stops, choices, keep=call.keeps_stop, names_stop=names_stop)
        if exchange.json_validator is not None:
            decoder = json_stream = JsonStream(decoder, exchange.json_validator, choices)
            exchange.checked_streams.append(json_stream)
    if exchange.tool_calls is not None:
        decoder = tool_stream = ToolCallStream(decoder, exchange.tool_calls)
        exchange.checked_streams.append(tool_stream)
    decoder = call.dialect.stream(decoder)
    if call.transcript is not None and call.transcript.handovers:
        decoder = ResumedStream(decoder, call.transcript)
    return decoder, stops


def _max_events(body: Body) -> float:
    """Return the number of content events that an adapted body allows: about one per token, or infinity if there is no limit.

    With `echo`, there is no limit, because the events contain the prompt as well.
    """
    cap = body.get("max_completion_tokens") or body.get("max_tokens")
    if type(cap) is not int or ("echo" in body and body.get("echo")):
        return float("inf")
    return (cap * EVENT_TOLERANCE + EXTRA_EVENTS) * answer_count(body, "completions" if "prompt" in body else "chat")


def chat_relay(exchange: UpstreamExchange, body: Body, *, usage_asked: bool) -> tuple[Relay, StopStream | None]:
    """Return the relay of a chat stream, and the decoder that ends it at a stop string, if any."""
    target, options = exchange.target, exchange.options
    choices = body.get("n") or 1
    if options.operation == "chat" and not body.has_any(_MORE_CHOICES):
        options.memo[CHOICES] = choices
    decoder, stops = _decoders(exchange)
    relay = Relay(
        decoder=decoder,
        usage_asked=usage_asked,
        read_usage=read_mapped,
        fail=lambda data: upstream_answer.inband_failure(target, data),
        max_events=_max_events(body),
        choices=choices,
    )
    return relay, stops


def native_relay(native: NativeApi, body: Body) -> NativeRelay:
    """Return the relay of a stream in the caller's own API."""
    return NativeRelay(native.new_reader(), max_events=NATIVE_EVENTS * _max_events(body))
