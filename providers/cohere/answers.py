"""Converts Cohere's answers and streams to OpenAI's.

Sources: cohere 7.3.1; docs.cohere.com on streaming and on pricing: billed_units is what Cohere bills (2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from providers.base import Answer, Failure, StreamDecoder, StreamFailure, Usage
from providers.failures import redact
from providers.plain_usage import PlainCount, PlainNumber
from providers.usage import read_usage

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode

FINISH_REASONS: Mapping[str, str] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "TIMEOUT": "length",
}
"""ERROR is missing because it is a failure."""


def openai_usage(reported: Any) -> dict[str, Any] | None:
    """Return OpenAI's usage with `billed_units`, or None without counts. If only the billed tokens are reported, they are the usage."""
    if type(reported) is not dict:
        return None
    billed = _counts(reported.get("billed_units"))
    counts = _counts(reported.get("tokens")) or billed
    if counts is None:
        return None
    prompt, completion = counts["input_tokens"], counts["output_tokens"]
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    if billed is not None:
        usage["billed_units"] = billed
    cached = _integer(reported.get("cached_tokens"))
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    return usage


def _counts(reported: Any) -> dict[str, int] | None:
    """Return the tokens of the prompt and of the output, or None if one of the two counts is missing."""
    if type(reported) is not dict:
        return None
    prompt, output = _integer(reported.get("input_tokens")), _integer(reported.get("output_tokens"))
    return None if prompt is None or output is None else {"input_tokens": prompt, "output_tokens": output}


def _integer(value: Any) -> int | None:
    """Return a count as an integer, or None if it is not a count. Cohere reports floats."""
    return int(value) if type(value) in (int, float) and value == int(value) and value >= 0 else None


class _Units(msgspec.Struct):
    input_tokens: PlainNumber
    output_tokens: PlainNumber

    def counts(self) -> tuple[int, int] | None:
        """Return the tokens of the prompt and of the output, or None if one of them is not a whole number."""
        prompt, output = int(self.input_tokens), int(self.output_tokens)
        return (prompt, output) if prompt == self.input_tokens and output == self.output_tokens else None


class _PlainUsage(msgspec.Struct):
    """A usage whose counts are plausible."""

    tokens: _Units | None = None
    billed_units: _Units | None = None
    cached_tokens: PlainCount | None = None


def read_reported(reported: Any) -> Usage | None:
    """Return the same Usage as `read_usage` for the result of `openai_usage`, but read plain counts in one step."""
    try:
        plain = msgspec.convert(reported, _PlainUsage)
    except msgspec.ValidationError:
        return read_usage(openai_usage(reported))
    billed = plain.billed_units.counts() if plain.billed_units is not None else None
    counts = plain.tokens.counts() if plain.tokens is not None else billed
    if counts is None or (billed is None and plain.billed_units is not None):
        return read_usage(openai_usage(reported))
    return Usage(*counts, min(plain.cached_tokens or 0, counts[0]), billed=billed)


def stream_failure(message: Any) -> StreamFailure:
    """Return the failure of a stream or of an answer that ended with an error."""
    return StreamFailure(Failure("inband_error", redact(str(message))))


def finish_of(reason: Any) -> str:
    """Return OpenAI's finish reason. Raise ValueError for ERROR and unknown reasons."""
    finish_reason = FINISH_REASONS.get(str(reason))
    if finish_reason is None:
        raise ValueError(f"the answer ended with {reason}" if reason else "the answer ended without a finish reason")
    return finish_reason


class _Vectors(msgspec.Struct, rename={"floats": "float"}):
    floats: list[msgspec.Raw]


class _Embedded(msgspec.Struct):
    embeddings: _Vectors
    meta: dict[str, Any] = {}


_decode_embedded = msgspec.json.Decoder(_Embedded).decode


def embed_usage(meta: Any) -> Usage | None:
    """Return the usage of an embeddings answer, with the tokens of images, or None if it is not reported."""
    if type(meta) is not dict:
        return None
    for counts in (meta.get("tokens"), meta.get("billed_units")):
        if type(counts) is dict:
            texts, images = (_integer(counts.get(name)) or 0 for name in ("input_tokens", "image_tokens"))
            if texts or images:
                return Usage(texts + images, image_prompt_tokens=images)
    return None


def read_vectors(body: bytes, model: str) -> Answer:
    """Parse a v2 embeddings answer into OpenAI's format. Raise ValueError for any other body."""
    source = _decode_embedded(body)
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(source.embeddings.floats)]
    answer: dict[str, Any] = {"object": "list", "data": data, "model": model}
    usage = embed_usage(source.meta)
    if usage is not None:
        answer["usage"] = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}
    return Answer(_encode(answer), usage)


def read_chat(body: bytes, created: int, model: str) -> Answer:
    """Parse a v2 chat answer. Raise ValueError for any other body, and for an answer that ended with an error."""
    source = _decode(body)
    message = source.get("message")
    if type(message) is not dict:
        raise ValueError("the answer has no message")
    reason = finish_of(source.get("finish_reason"))
    choice = {"index": 0, "message": _message(message), "logprobs": _logprobs(source.get("logprobs")), "finish_reason": reason}
    answer: dict[str, Any] = {
        "id": source.get("id"),
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
    }
    usage = openai_usage(source.get("usage"))
    if usage is not None:
        answer["usage"] = usage
    return Answer(_encode(answer), read_usage(usage), (reason,))


def _message(source: dict[str, Any]) -> dict[str, Any]:
    content = source.get("content")
    parts = content if type(content) is list else []
    text = "".join(part.get("text") or "" for part in parts if part.get("type") == "text")
    thought = "".join(part.get("thinking") or "" for part in parts if part.get("type") == "thinking")
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if source.get("tool_calls") else "")}
    thought += source.get("tool_plan") or ""
    if thought:
        message["reasoning_content"] = thought
    if source.get("tool_calls"):
        message["tool_calls"] = [_call(call) for call in source["tool_calls"]]
    if source.get("citations"):
        message["citations"] = source["citations"]
    return message


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    result = {"name": function.get("name"), "arguments": function.get("arguments") or "{}"}
    return {"id": call.get("id"), "type": "function", "function": result}


def _logprobs(pieces: Any) -> dict[str, Any] | None:
    """Return one entry per piece of text, with the sum of its tokens' log-probabilities."""
    if type(pieces) is not list:
        return None
    return {"content": [_entry(piece) for piece in pieces if type(piece) is dict]}


def _entry(piece: dict[str, Any]) -> dict[str, Any]:
    text = piece.get("text") or ""
    value = sum(number for number in piece.get("logprobs") or () if type(number) in (int, float))
    return {"token": text, "logprob": value, "bytes": list(text.encode()), "top_logprobs": []}


class ChatStream(StreamDecoder):
    """Converts Cohere's events to OpenAI's chunks. Usage is in the last chunk before [DONE]."""

    def __init__(self, created: int, model: str) -> None:
        self._frame: dict[str, Any] = {"id": None, "object": "chat.completion.chunk", "created": created, "model": model}
        self._calls = -1
        self._has_arguments = False

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        source = _decode(data)
        kind = source.get("type") or event
        if kind == "message-start":
            self._frame["id"] = source.get("id")
            return self._chunk({"role": "assistant", "content": ""})
        if kind == "message-end":
            return self._end(source.get("delta") or {})
        if kind == "tool-call-end" and self._calls >= 0 and not self._has_arguments:
            self._has_arguments = True
            return self._chunk({"tool_calls": [{"index": self._calls, "function": {"arguments": "{}"}}]})
        if kind not in ("content-start", "content-delta", "tool-plan-delta", "tool-call-start", "tool-call-delta"):
            return self._other_event(source, kind)
        message = (source.get("delta") or {}).get("message") or {}
        if kind.startswith("tool-call"):
            return self._tool(message.get("tool_calls") or {}, starts=kind == "tool-call-start")
        return self._content(message)

    def _other_event(self, source: dict[str, Any], kind: str) -> Sequence[bytes]:
        if kind == "error" or source.get("error") or (not kind and source.get("message")):
            text = source.get("message") or source.get("error") or "the stream failed"
            raise stream_failure(text)
        return ()

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> Sequence[bytes]:
        return (_encode({**self._frame, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}),)

    def _content(self, message: dict[str, Any]) -> Sequence[bytes]:
        content = message.get("content") or {}
        if content.get("text"):
            return self._chunk({"content": content["text"]})
        thought = content.get("thinking") or message.get("tool_plan")
        return self._chunk({"reasoning_content": thought}) if thought else ()

    def _tool(self, call: dict[str, Any], *, starts: bool) -> Sequence[bytes]:
        function = call.get("function") or {}
        piece: dict[str, Any] = {"function": {"arguments": function.get("arguments") or ""}}
        self._has_arguments = bool(function.get("arguments")) or (self._has_arguments and not starts)
        if starts:
            self._calls += 1
            piece = {"id": call.get("id"), "type": "function", "function": {"name": function.get("name"), **piece["function"]}}
        return self._chunk({"tool_calls": [{"index": max(0, self._calls), **piece}]})

    def _end(self, delta: dict[str, Any]) -> Sequence[bytes]:
        if delta.get("error") or delta.get("finish_reason") == "ERROR":
            raise stream_failure(delta.get("error") or "the stream ended with ERROR")
        try:
            reason = finish_of(delta.get("finish_reason"))
        except ValueError as error:
            raise stream_failure(error) from None
        usage = openai_usage(delta.get("usage"))
        last = (_encode({**self._frame, "choices": [], "usage": usage}),) if usage is not None else ()
        return (*self._chunk({}, reason), *last, b"[DONE]")
