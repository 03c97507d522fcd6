"""Converts the events of a Responses stream to chunks of a chat completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from providers.base import StreamDecoder, StreamFailure
from providers.responses_wire.answers import PARAGRAPH, ReadFailure, annotation_of, call_of, created_of, failure_of, finish_of, usage_of
from providers.responses_wire.reasoning import detail_of, text_of

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode
_NOTHING: Sequence[bytes] = ()


class _Item:
    """The state of one open output item: the parts of it that have been sent."""

    __slots__ = ("call", "given", "has_content", "kind", "sent", "start")

    def __init__(self, kind: str, call: int, given: str, start: int) -> None:
        self.kind = kind
        self.call = call
        self.given = given
        self.start = start
        """Place of the current part in the whole text."""
        self.sent = False
        """Whether a delta of the current part has been sent."""
        self.has_content = False
        """Whether any part of a message has been sent."""

    def begin(self) -> None:
        """Record that content of the current part has been sent."""
        self.sent = self.has_content = True


class ResponseStream(StreamDecoder):
    """Converts one stream, and keeps only the items that are still open."""

    def __init__(self, origin: str, read: ReadFailure, created: int) -> None:
        self._origin = origin
        self._read = read
        self._frame: dict[str, Any] = {"id": None, "object": "chat.completion.chunk", "created": created, "model": None}
        self._open: dict[Any, _Item] = {}
        self._has_role = self._has_text = self._has_thought = self._has_message = False
        self._length = self._calls = self._details = 0

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        decoded = _decode(data)
        take = _EVENTS.get(decoded.get("type") or event)
        return take(self, decoded) if take is not None else _NOTHING

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> Sequence[bytes]:
        if not self._has_role:
            self._has_role = True
            delta = {"role": "assistant", **delta}
        return (_encode({**self._frame, "choices": [{"index": 0, "delta": delta, **more, "finish_reason": finish}]}),)

    def on_created(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Start the answer."""
        if self._has_role:
            return _NOTHING
        self._identify(event)
        return self._chunk({"content": ""})

    def _identify(self, event: dict[str, Any]) -> dict[str, Any]:
        response = event.get("response")
        response = response if type(response) is dict else {}
        if not self._has_role:
            self._frame |= {"id": response.get("id"), "model": response.get("model")}
            self._frame["created"] = created_of(response) or self._frame["created"]
        return response

    def on_item_added(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Open an item: a call, a message or reasoning."""
        item = event.get("item") or {}
        call = call_of(item)
        kind, given, opening = call if call is not None else (str(item.get("type")), "", {})
        self._open[event.get("output_index")] = _Item(kind, self._calls, given, self._length)
        if call is None:
            return self._new_message() if kind == "message" else _NOTHING
        self._calls += 1
        opening[kind] = {**opening[kind], given: ""}
        return self._chunk({"tool_calls": [{"index": self._calls - 1, **opening}]})

    def _new_message(self) -> Sequence[bytes]:
        self._has_message = True
        return self._text_chunk(PARAGRAPH) if self._has_text else _NOTHING

    def _item(self, event: dict[str, Any], kind: str) -> _Item:
        """Return the open item of an event. An event whose item was not opened belongs to a new item."""
        index = event.get("output_index")
        item = self._open.get(index)
        if item is None:
            item = self._open[index] = _Item(kind, self._calls - 1, "", self._length)
        return item

    def on_part_added(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Begin a part of a message."""
        item = self._item(event, "message")
        item.sent, item.start = False, self._length
        return _NOTHING

    def on_text_delta(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Add text and the probabilities of its tokens."""
        text = event.get("delta") or ""
        self._item(event, "message").begin()
        logprobs = event.get("logprobs")
        return self._text_chunk(text, **({"logprobs": {"content": logprobs, "refusal": None}} if logprobs else {}))

    def _text_chunk(self, text: str, **more: Any) -> Sequence[bytes]:
        self._length += len(text)
        self._has_text = self._has_text or bool(text)
        return self._chunk({"content": text}, **more)

    def on_text_done(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Send text that did not arrive in pieces."""
        item, text = self._item(event, "message"), event.get("text")
        if item.sent or not text:
            return _NOTHING
        item.begin()
        return self._text_chunk(text)

    def on_annotation(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Add an annotation."""
        annotation = event.get("annotation")
        if type(annotation) is not dict:
            return _NOTHING
        return self._chunk({"annotations": [annotation_of(annotation, self._item(event, "message").start)]})

    def on_refusal_delta(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Send a piece of a refusal."""
        self._item(event, "message").begin()
        return self._chunk({"refusal": event.get("delta") or ""})

    def on_refusal_done(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Send a refusal that did not arrive in pieces."""
        item = self._item(event, "message")
        if item.sent or not event.get("refusal"):
            return _NOTHING
        item.begin()
        return self._chunk({"refusal": event["refusal"]})

    def on_arguments_delta(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Send a piece of the arguments or the input of a call."""
        item, piece = self._open.get(event.get("output_index")), event.get("delta")
        if item is None or not item.given or not piece:
            return _NOTHING
        item.sent = True
        return self._arguments(item, piece)

    def _arguments(self, item: _Item, piece: str) -> Sequence[bytes]:
        return self._chunk({"tool_calls": [{"index": item.call, item.kind: {item.given: piece}}]})

    def on_thought_delta(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Send a piece of the readable reasoning."""
        self._item(event, "reasoning").sent = True
        return self._thought(event.get("delta") or "")

    def _thought(self, text: str) -> Sequence[bytes]:
        self._has_thought = self._has_thought or bool(text)
        return self._chunk({"reasoning_content": text})

    def on_summary_added(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Begin another part of a summary."""
        return self._thought(PARAGRAPH) if self._has_thought else _NOTHING

    def on_item_done(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Close an item. Send content that did not arrive in pieces, and encrypted reasoning."""
        done = event.get("item") or {}
        opened: Sequence[bytes] = _NOTHING
        if event.get("output_index") not in self._open:
            opened = self.on_item_added(event)
        item = self._open.pop(event.get("output_index"))
        if done.get("type") == "reasoning":
            return (*opened, *self._reasoning(item, done))
        if done.get("type") == "message" and not item.has_content:
            return (*opened, *self._whole_message(done))
        rest = done.get(item.given) if item.given and not item.sent else None
        return (*opened, *self._arguments(item, rest)) if rest else opened

    def _whole_message(self, done: dict[str, Any]) -> Sequence[bytes]:
        """Return the chunks for a message of which nothing has been sent."""
        chunks: list[bytes] = []
        for part in done.get("content") or ():
            if part.get("type") == "refusal" and part.get("refusal"):
                chunks += self._chunk({"refusal": part["refusal"]})
            elif part.get("type") == "output_text" and part.get("text"):
                start, logprobs = self._length, part.get("logprobs")
                probabilities = {"logprobs": {"content": logprobs, "refusal": None}} if logprobs else {}
                chunks += self._text_chunk(part["text"], **probabilities)
                annotations = [annotation_of(each, start) for each in part.get("annotations") or ()]
                chunks += self._chunk({"annotations": annotations}) if annotations else ()
        return chunks

    def _reasoning(self, item: _Item, done: dict[str, Any]) -> Sequence[bytes]:
        text = "" if item.sent else text_of(done)
        first: Sequence[bytes] = (*self.on_summary_added(done), *self._thought(text)) if text else _NOTHING
        detail = detail_of(done, self._origin, self._details, self._calls + self._has_message)
        if detail is None:
            return first
        self._details += 1
        return (*first, *self._chunk({"reasoning_details": [detail]}))

    def on_end(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Send the finish reason, usage and [DONE]."""
        response = self._identify(event)
        status = "incomplete" if event.get("type") == "response.incomplete" else response.get("status")
        reason = finish_of({**response, "status": status}, calls=self._calls > 0)
        chunks = [*self._chunk({}, reason)]
        usage = usage_of(response)
        if usage is not None:
            tier = {"service_tier": response["service_tier"]} if response.get("service_tier") is not None else {}
            chunks.append(_encode({**self._frame, "choices": [], "usage": usage, **tier}))
        return (*chunks, b"[DONE]")

    def on_failed(self, event: dict[str, Any]) -> Sequence[bytes]:
        """Raise the failure that the response or the event reports."""
        response = event.get("response")
        raise StreamFailure(failure_of(response if type(response) is dict else event, self._read))


_EVENTS = {
    "response.created": ResponseStream.on_created,
    "response.queued": ResponseStream.on_created,
    "response.in_progress": ResponseStream.on_created,
    "response.output_item.added": ResponseStream.on_item_added,
    "response.output_item.done": ResponseStream.on_item_done,
    "response.content_part.added": ResponseStream.on_part_added,
    "response.output_text.delta": ResponseStream.on_text_delta,
    "response.output_text.done": ResponseStream.on_text_done,
    "response.output_text.annotation.added": ResponseStream.on_annotation,
    "response.refusal.delta": ResponseStream.on_refusal_delta,
    "response.refusal.done": ResponseStream.on_refusal_done,
    "response.function_call_arguments.delta": ResponseStream.on_arguments_delta,
    "response.custom_tool_call_input.delta": ResponseStream.on_arguments_delta,
    "response.reasoning_text.delta": ResponseStream.on_thought_delta,
    "response.reasoning_summary_text.delta": ResponseStream.on_thought_delta,
    "response.reasoning_summary_part.added": ResponseStream.on_summary_added,
    "response.completed": ResponseStream.on_end,
    "response.incomplete": ResponseStream.on_end,
    "response.failed": ResponseStream.on_failed,
    "error": ResponseStream.on_failed,
}
"""The other events of openai 3.57.0 belong to hosted tools and audio, or repeat the content of deltas."""
