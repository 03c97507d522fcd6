"""Passes calls of the Messages API to providers that offer it: the fields of a request, and the readers of responses.

Source: anthropic 2.14.0 (MessageCreateParams and its beta, Message, RawMessageStreamEvent), as of 2026-11.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from gateway.dialects.messages_api.dialect import MessagesTranslator
from gateway.dialects.messages_api.events import MESSAGE_STOP
from gateway.dialects.messages_api.fields import decode_any, encode
from gateway.dialects.native_api import NativeApi, TokenCount
from gateway.dialects.responses_api.reasoning import PREFIX
from gateway.streams.native_relay import EventKind
from providers.anthropic.answers import FINISH_REASONS, read_reported, stream_failure, with_later_counts
from providers.base import Adjustment, Answer, Body, Refusal, StreamFailure, Usage
from providers.native_history import are_accepted_texts, repair_messages, without_gaps

_NAMES = (
    "model messages max_tokens system metadata stop_sequences stream temperature top_k top_p tools tool_choice thinking "
    "service_tier output_config output_format cache_control compaction container context_management diagnostics "
    "inference_geo mcp_servers speed fallbacks fallback_credit_token billing_policy thread"
)
FIELDS = frozenset(_NAMES.split())
_UNSIGNED = (b'"signature":"' + PREFIX.encode(), b'"signature": "' + PREFIX.encode(), b'"signature":""', b'"signature": ""')
"""Marks of thinking that Anthropic did not sign."""
_NOT_SIGNED = "another provider made this thinking, and Anthropic accepts only its own"
_ONLY_FRAME = frozenset({"message_start", "ping", "content_block_start"})


class _Message(msgspec.Struct):
    content: msgspec.Raw
    type: str = "message"
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Any = None


class _Delta(msgspec.Struct):
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Start(msgspec.Struct):
    usage: dict[str, Any] | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Start | None = None
    delta: msgspec.Raw = msgspec.Raw(b"")
    usage: dict[str, Any] | None = None


class _Count(msgspec.Struct):
    input_tokens: Annotated[int, msgspec.Meta(ge=0)]


_read_count = msgspec.json.Decoder(_Count).decode
_read_message = msgspec.json.Decoder(_Message).decode
_read_event = msgspec.json.Decoder(_Event).decode
_read_delta = msgspec.json.Decoder(_Delta).decode


def read_answer(body: bytes) -> Answer:
    """Read a message, which keeps its bytes. Raise ValueError for a body that is not a message."""
    message = _read_message(body)
    if message.type != "message" or bytes(message.content)[:1] != b"[":
        raise ValueError("the answer has no content")
    reason = FINISH_REASONS.get(str(message.stop_reason), "stop")
    return Answer(body, read_reported(message.usage), (reason,), stop=message.stop_sequence)


def read_count(body: bytes) -> int:
    """Return the number of tokens in an answer of `count_tokens`. Raise ValueError for a body that is not such an answer."""
    return _read_count(body).input_tokens


class MessageReader:
    """Reads the events that contain usage, the stop reason or an error, or that end a stream."""

    marks: tuple[bytes, ...] = (b"message_", b'"error"')
    content_mark = b"event: content_block_delta"

    def __init__(self) -> None:
        self._counts: dict[str, Any] = {}
        self._has_output = False
        self.finish_reasons: tuple[str | None, ...] = ()
        self.stop: str | None = None

    @property
    def usage(self) -> Usage | None:
        """The tokens reported so far. The provisional output count of `message_start` is left out."""
        counts = self._counts if self._has_output else {**self._counts, "output_tokens": 0}
        return read_reported(counts)

    def read(self, name: str, data: bytes) -> EventKind:
        """Read one event."""
        event = _read_event(data)
        kind = event.type or name
        if kind == "error":
            raise StreamFailure(stream_failure(decode_any(data)))
        if kind == "message_start" and event.message is not None:
            self._count(event.message.usage)
        elif kind == "message_delta":
            self._count(event.usage)
            self._has_output = self._has_output or (event.usage or {}).get("output_tokens") is not None
            delta = _read_delta(event.delta) if len(event.delta) else _Delta()
            if delta.stop_reason is not None:
                self.finish_reasons = (FINISH_REASONS.get(delta.stop_reason, "stop"),)
                self.stop = delta.stop_sequence
                return "finish"
        elif kind == "message_stop":
            return "end"
        return "frame" if kind in _ONLY_FRAME else "content"

    def _count(self, usage: dict[str, Any] | None) -> None:
        self._counts = with_later_counts(self._counts, usage)

    def ending(self) -> bytes:
        """Return the event that ends a stream."""
        return MESSAGE_STOP

    def with_receipt(self, events: bytes, receipt: bytes) -> bytes:
        """Add a receipt to the event with the stop reason, as in a translated stream."""
        parts = events.split(b"\n\n")
        for at in range(len(parts) - 1, -1, -1):
            head, mark, data = parts[at].partition(b"data:")
            if mark and b"message_delta" in data:
                whole = {**decode_any(data), "gateway": msgspec.Raw(receipt)}
                parts[at] = head + b"data: " + encode(whole)
                break
        return b"\n\n".join(parts)


def prepare(body: Body, translator: MessagesTranslator | None, strict: bool) -> list[Adjustment]:
    """Repair earlier turns that came from another provider, and leave out their thinking, because Anthropic would reject both.

    In strict mode, raise Refusal for such thinking.
    """
    texts = translator.plain_texts() if translator is not None else None
    if texts is not None and are_accepted_texts(texts):
        return []
    source = body.raw("messages") or b""
    repairs = repair_messages(body, strict=strict)
    unsigned: list[Adjustment] = []
    if any(mark in source for mark in _UNSIGNED):
        messages = [_signed(message, f"messages[{index}]", unsigned) for index, message in enumerate(body.get("messages"))]
        if unsigned and strict:
            raise Refusal(f"'{unsigned[0].param}' cannot be honoured: {_NOT_SIGNED}.", unsigned[0].param, "unsupported_content")
        if unsigned:
            body.set("messages", [message for message in messages if message is not None])
    if repairs:
        body.set("messages", without_gaps(body.get("messages")))
    return [*repairs, *unsigned]


def _signed(message: Any, param: str, made: list[Adjustment]) -> Any:
    """Return a message without unsigned thinking, or None if the message contains only such thinking."""
    content = message.get("content") if type(message) is dict else None
    if type(content) is not list:
        return message
    unsigned = [index for index, block in enumerate(content) if _is_unsigned(block)]
    made += [Adjustment(f"{param}.content[{index}]", "drop", why=_NOT_SIGNED) for index in unsigned]
    if not unsigned:
        return message
    kept = [block for index, block in enumerate(content) if index not in unsigned]
    return {**message, "content": kept} if kept else None


def _is_unsigned(block: Any) -> bool:
    signature = block.get("signature") if type(block) is dict and block.get("type") == "thinking" else None
    return type(signature) is str and (not signature or signature.startswith(PREFIX))


NATIVE = NativeApi(
    operation="messages",
    fields=FIELDS,
    output_cap="max_tokens",
    headers=("anthropic-version",),
    read_answer=read_answer,
    new_reader=MessageReader,
    uncounted=frozenset({"container", "mcp_servers", "thread"}),
    translate_plain=MessagesTranslator.plain_request,
    prepare=prepare,
    token_count=TokenCount("/count_tokens", read_count),
)
