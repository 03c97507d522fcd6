"""Converts Anthropic's answers and streams to OpenAI's: text, tool calls, thinking, finish reasons, usage, errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from providers.anthropic.citations import annotations_of
from providers.base import Answer, Failure, StreamDecoder, StreamFailure, Usage
from providers.failures import read_failure
from providers.plain_usage import PlainCount, read_mapped
from providers.tool_calls import json_text
from providers.usage import read_count, read_usage

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode

FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
STATUS_OF_ERROR: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""HTTP status that corresponds to the type of an error inside a stream."""


_PROMPT_COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def openai_usage(reported: Any) -> dict[str, Any] | None:
    """Return OpenAI's usage object, or None without counts. The prompt is the sum of uncached, cache-written and cache-read tokens."""
    if type(reported) is not dict:
        return None
    uncached, completion = read_count(reported.get("input_tokens")), read_count(reported.get("output_tokens"))
    if uncached is None or completion is None:
        return None
    read, written = (read_count(reported.get(f"cache_{name}_input_tokens")) or 0 for name in ("read", "creation"))
    prompt = uncached + read + written
    details = {"cached_tokens": read} | ({"cache_write_tokens": written} if written else {})
    ttls = reported.get("cache_creation")
    if type(ttls) is dict and ttls.get("ephemeral_1h_input_tokens"):
        details["cache_write_1h_tokens"] = read_count(ttls["ephemeral_1h_input_tokens"]) or 0
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
    }
    thought = (reported.get("output_tokens_details") or {}).get("thinking_tokens")
    if type(thought) is int:
        usage["completion_tokens_details"] = {"reasoning_tokens": thought}
    return usage


class _Kept(msgspec.Struct):
    ephemeral_1h_input_tokens: PlainCount | None = None


class _Output(msgspec.Struct):
    thinking_tokens: PlainCount | None = None


class _PlainUsage(msgspec.Struct):
    """A usage whose counts are plain integers."""

    input_tokens: PlainCount
    output_tokens: PlainCount
    cache_read_input_tokens: PlainCount | None = None
    cache_creation_input_tokens: PlainCount | None = None
    cache_creation: _Kept | None = None
    output_tokens_details: _Output | None = None
    service_tier: str | None = None
    speed: str | None = None


def read_reported(reported: Any) -> Usage | None:
    """Return the same Usage as `read_usage` for the result of `openai_usage`, but read plain counts in one step."""
    try:
        plain = msgspec.convert(reported, _PlainUsage)
    except msgspec.ValidationError:
        return read_mapped(openai_usage(reported), service_tier(reported))
    cached, written = plain.cache_read_input_tokens or 0, plain.cache_creation_input_tokens or 0
    kept, output = plain.cache_creation, plain.output_tokens_details
    tier = "fast" if plain.speed == "fast" else plain.service_tier
    return Usage(
        plain.input_tokens + cached + written,
        plain.output_tokens,
        cached,
        min(output.thinking_tokens or 0, plain.output_tokens) if output is not None else 0,
        False,
        written,
        cache_write_1h_tokens=min(kept.ephemeral_1h_input_tokens or 0, written) if kept is not None else 0,
        service_tier=tier[:40] if tier else "",
    )


def with_later_counts(known: dict[str, Any], later: Any) -> dict[str, Any]:
    """Return the usage of a stream after a later event. Counts are cumulative, so later ones replace earlier ones.

    An event without tokens of the prompt leaves the known ones as they are: some servers send 0 in `message_delta`.
    """
    given = {name: value for name, value in later.items() if value is not None} if type(later) is dict else {}
    if not any(read_count(given.get(name)) for name in _PROMPT_COUNTS):
        given = {name: value for name, value in given.items() if name not in _PROMPT_COUNTS or name not in known}
    return {**known, **given}


def service_tier(reported: Any) -> str | None:
    """Return the tier by which a usage is billed: `fast`, or the tier that the usage names. Return None if the usage names no tier."""
    usage = reported if type(reported) is dict else {}
    tier = "fast" if usage.get("speed") == "fast" else usage.get("service_tier")
    return tier if type(tier) is str else None


def read_message(body: bytes, created: int) -> Answer:
    """Parse a Messages answer. Raise ValueError for any other body."""
    source = _decode(body)
    blocks = source.get("content")
    if type(blocks) is not list or source.get("type") not in (None, "message"):
        raise ValueError("the answer has no content")
    reason = FINISH_REASONS.get(str(source.get("stop_reason")), "stop")
    choice: dict[str, Any] = {"index": 0, "message": _message(blocks), "logprobs": None, "finish_reason": reason}
    if source.get("stop_sequence") is not None:
        choice["stop_sequence"] = source["stop_sequence"]
    answer: dict[str, Any] = {
        "id": source.get("id"),
        "object": "chat.completion",
        "created": created,
        "model": source.get("model"),
        "choices": [choice],
    }
    usage = openai_usage(source.get("usage"))
    if usage is not None:
        answer["usage"] = usage
    tier = service_tier(source.get("usage"))
    if tier is not None:
        answer["service_tier"] = tier
    return Answer(_encode(answer), read_usage(usage, tier), (reason,))


def _message(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    texts, thoughts, calls, annotations = [], [], [], []
    length = 0
    for block in blocks:
        kind = block.get("type")
        if kind == "text":
            text = block.get("text") or ""
            texts.append(text)
            annotations += annotations_of(block.get("citations"), length, length + len(text))
            length += len(text)
        elif kind in ("thinking", "redacted_thinking"):
            thoughts.append(block)
        elif kind == "tool_use":
            arguments = json_text(block.get("input") or {})
            calls.append({"id": block.get("id"), "type": "function", "function": {"name": block.get("name"), "arguments": arguments}})
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None, "refusal": None}
    if thoughts:
        message["reasoning_content"] = "".join(block.get("thinking") or "" for block in thoughts)
        message["thinking_blocks"] = thoughts
    if calls:
        message["tool_calls"] = calls
    if annotations:
        message["annotations"] = annotations
    return message


class MessageStream(StreamDecoder):
    """Converts Anthropic's events to OpenAI's chunks.

    The first chunk contains the usage of the prompt, and the last chunk contains the whole usage.
    """

    def __init__(self, created: int) -> None:
        self._frame: dict[str, Any] = {"id": None, "object": "chat.completion.chunk", "created": created, "model": None}
        self._usage: dict[str, Any] = {}
        self._usage_sent: dict[str, Any] = {}
        self._calls = 0
        self._block: dict[str, Any] = {}
        self._length = self._block_start = 0
        """Positions in the text of the answer: its end, and the beginning of the current block."""
        self._arguments_sent = False
        self._has_output_count = False
        """Whether a message_delta event has reported output tokens. The count in message_start is preliminary."""

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        decoded = _decode(data)
        take = _EVENTS.get(decoded.get("type") or event)
        return take(self, decoded) if take is not None else ()

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> Sequence[bytes]:
        return (_encode({**self._frame, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]}),)

    def on_message_start(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Start the answer: its id, its model and the tokens of the prompt."""
        message = event.get("message") or {}
        self._frame |= {"id": message.get("id"), "model": message.get("model")}
        self._usage = with_later_counts(self._usage, message.get("usage"))
        # The usage of the prompt is needed if the stream breaks off. The relay does not send this usage to the caller.
        usage = openai_usage({**self._usage, "output_tokens": 0}) if self._usage.get("input_tokens") is not None else None
        chunk = {**self._frame, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
        return (_encode(chunk if usage is None else {**chunk, "usage": usage}),)

    def on_block_start(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Start a content block: a tool call, or text, which the event may already contain."""
        block = self._block = dict(event.get("content_block") or {})
        self._arguments_sent = False
        self._block_start = self._length
        if block.get("type") == "text" and block.get("text"):
            return self._text(block["text"])
        if block.get("type") != "tool_use":
            return ()
        self._calls += 1
        call = {"id": block.get("id"), "type": "function", "function": {"name": block.get("name"), "arguments": ""}}
        return self._call(call)

    def _text(self, text: str) -> Sequence[bytes]:
        self._length += len(text)
        return self._chunk({"content": text})

    def _call(self, call: dict[str, Any]) -> Sequence[bytes]:
        return self._chunk({"tool_calls": [{"index": self._calls - 1, **call}]})

    def on_block_delta(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Add text, a citation, arguments, thinking or the signature of thinking."""
        delta = event.get("delta") or {}
        kind = delta.get("type")
        if kind == "text_delta":
            return self._text(_string(delta, "text"))
        if kind == "citations_delta":
            self._block["citations"] = [*(self._block.get("citations") or ()), delta.get("citation")]
        if kind == "input_json_delta" and (arguments := _string(delta, "partial_json")) and self._block.get("type") == "tool_use":
            self._arguments_sent = True
            return self._call({"function": {"arguments": arguments}})
        if kind == "thinking_delta":
            thought = _string(delta, "thinking")
            self._block["thinking"] = (self._block.get("thinking") or "") + thought
            return self._chunk({"reasoning_content": thought})
        if kind == "signature_delta":
            self._block["signature"] = (self._block.get("signature") or "") + _string(delta, "signature")
        return ()

    def on_block_stop(self, event: dict[str, Any]) -> Sequence[bytes]:
        """End a content block. Send what did not arrive in pieces: arguments, a thinking block with its signature, citations."""
        block, self._block = self._block, {}
        if block.get("type") == "tool_use" and not self._arguments_sent:
            return self._call({"function": {"arguments": json_text(block.get("input") or {})}})
        if block.get("type") in ("thinking", "redacted_thinking"):
            return self._chunk({"thinking_blocks": [block]})
        if block.get("citations"):
            return self._chunk({"annotations": annotations_of(block["citations"], self._block_start, self._length)})
        return ()

    def on_message_delta(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Record the tokens counted so far. Send usage with the finish reason, because `message_stop` may not arrive."""
        used = event.get("usage") or {}
        self._usage = with_later_counts(self._usage, used)
        self._has_output_count = self._has_output_count or used.get("output_tokens") is not None
        delta = event.get("delta") or {}
        reason, stop = delta.get("stop_reason"), delta.get("stop_sequence")
        more = {"stop_sequence": stop} if stop is not None else {}
        if reason is None:
            return ()
        return (*self._chunk({}, FINISH_REASONS.get(str(reason), "stop"), **more), *self._new_usage())

    def on_message_stop(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Send the usage unless it has been sent already, and then send [DONE]."""
        return (*self._new_usage(), b"[DONE]")

    def _new_usage(self) -> Sequence[bytes]:
        """Return a chunk with the usage if the usage contains output tokens and has changed since it was last sent."""
        if not self._has_output_count or self._usage == self._usage_sent:
            return ()
        self._usage_sent = dict(self._usage)
        usage, tier = openai_usage(self._usage), service_tier(self._usage)
        frame = self._frame if tier is None else {**self._frame, "service_tier": tier}
        return (_encode({**frame, "choices": [], "usage": usage}),) if usage is not None else ()

    def on_error(self, event: dict[str, Any]) -> Sequence[bytes]:
        raise StreamFailure(stream_failure(event))


_EVENTS = {
    "message_start": MessageStream.on_message_start,
    "content_block_start": MessageStream.on_block_start,
    "content_block_delta": MessageStream.on_block_delta,
    "content_block_stop": MessageStream.on_block_stop,
    "message_delta": MessageStream.on_message_delta,
    "message_stop": MessageStream.on_message_stop,
    "error": MessageStream.on_error,
}


def stream_failure(event: dict[str, Any]) -> Failure:
    """Return the failure for an error event."""
    error = event.get("error")
    kind = error.get("type") if type(error) is dict else None
    return read_failure(STATUS_OF_ERROR.get(str(kind), 500), {}, _encode(event))


def _string(delta: dict[str, Any], name: str) -> str:
    """Return a string, or "" if it is missing. Raise TypeError for any other value, which makes the event unreadable."""
    value = delta.get(name)
    if value is not None and type(value) is not str:
        raise TypeError(f"'{name}' is not a string")
    return value or ""
