"""Passes calls of Cohere's chat API to Cohere: the fields of a request, and the readers of responses.

Source: cohere 7.3.1 (ClientV2.chat, V2ChatResponse, V2ChatStreamResponse), docs.cohere.com on streaming, as of 2026-11.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.dialects.cohere_api.dialect import CohereChatTranslator
from gateway.dialects.cohere_api.request import encode
from gateway.dialects.native_api import NativeApi
from gateway.streams.native_relay import EventKind
from providers.base import Answer, Body, Usage
from providers.cohere.answers import FINISH_REASONS, read_reported, stream_failure
from providers.cohere.provider import MAX_STOPS

_NAMES = (
    "model messages stream tools strict_tools documents citation_options response_format safety_mode max_tokens stop_sequences "
    "temperature seed frequency_penalty presence_penalty k p logprobs tool_choice thinking priority"
)
FIELDS = frozenset(_NAMES.split())
_FRAME = frozenset({"message-start", "content-start"})
_DONE = b"[DONE]"


class _Answer(msgspec.Struct):
    message: dict[str, msgspec.Raw]
    finish_reason: str
    usage: dict[str, Any] | None = None


class _Event(msgspec.Struct):
    type: str = ""
    delta: msgspec.Raw = msgspec.Raw(b"{}")
    error: Any = None
    message: Any = None


class _End(msgspec.Struct):
    finish_reason: str | None = None
    error: Any = None
    usage: dict[str, Any] | None = None


_read_answer = msgspec.json.Decoder(_Answer).decode
_read_event = msgspec.json.Decoder(_Event).decode
_read_end = msgspec.json.Decoder(_End).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read_answer(body: bytes) -> Answer:
    """Read an answer, which keeps its bytes. Raise StreamFailure for a failed answer, and ValueError for a body that is not an answer."""
    answer = _read_answer(body)
    return Answer(body, read_reported(answer.usage), (_finish_of(answer.finish_reason),))


def _finish_of(reason: str) -> str:
    """Return the finish reason of chat completions. Raise StreamFailure if Cohere's reason is an error."""
    if reason.startswith("ERROR"):
        raise stream_failure(f"the answer ended with {reason}")
    return FINISH_REASONS.get(reason, "stop")


class CohereReader:
    """Reads the events that contain the finish reason with the usage, that contain an error, or that end a stream."""

    marks: tuple[bytes, ...] = (b"message-end", _DONE, b'"error"', b"event: error")
    content_mark = b"-delta\n"

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish_reasons: tuple[str | None, ...] = ()
        self.stop: str | None = None

    def read(self, name: str, data: bytes) -> EventKind:
        """Read one event."""
        if data == _DONE:
            return "end"
        event = _read_event(data)
        kind = event.type or name
        if kind == "error" or event.error is not None or not kind:
            raise stream_failure(event.message or event.error or "the stream failed")
        if kind != "message-end":
            return "frame" if kind in _FRAME else "content"
        end = _read_end(event.delta)
        self.usage = read_reported(end.usage)
        if end.error is not None:
            raise stream_failure(end.error)
        self.finish_reasons = (_finish_of(end.finish_reason or ""),)
        return "finish"

    def ending(self) -> bytes:
        """Return no event: a stream is complete after the event with the finish reason, even without [DONE]."""
        return b""

    def with_receipt(self, events: bytes, receipt: bytes) -> bytes:
        """Add a receipt to the event with the finish reason, as in a translated stream."""
        parts = events.split(b"\n\n")
        for at, part in enumerate(parts):
            head, mark, data = part.partition(b"data:")
            if mark and b"message-end" in data:
                parts[at] = head + b"data: " + encode({**_decode_fields(data), "gateway": msgspec.Raw(receipt)})
                break
        return b"\n\n".join(parts)


def unsuited(body: Body) -> str | None:
    """Return the reason why a request is translated, or None.

    If a request has more stop sequences than Cohere accepts, the gateway enforces some of them.
    """
    stops = body.get("stop_sequences")
    return f"the provider accepts at most {MAX_STOPS} stop sequences" if type(stops) is list and len(stops) > MAX_STOPS else None


NATIVE = NativeApi(
    operation="cohere_chat",
    fields=FIELDS,
    output_cap="max_tokens",
    headers=(),
    read_answer=read_answer,
    new_reader=CohereReader,
    translate_plain=CohereChatTranslator.plain_request,
    unsuited=unsuited,
)
