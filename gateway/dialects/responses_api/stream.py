"""Translates the chunks of a chat stream to the events of a response, numbered and in OpenAI's order.

    response.created, response.in_progress
    response.output_item.added, its parts and deltas, response.output_item.done    for each item
    response.completed | response.incomplete | response.failed

If the stream breaks, open items get no `done` events, so that no client uses incomplete arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.dialects.responses_api import output, reasoning
from gateway.dialects.responses_api.answer import from_parts, list_of, tokens_of
from gateway.dialects.responses_api.conversation import callers_receipt
from gateway.dialects.responses_api.open_items import OpenCall, OpenMessage, OpenReasoning, Text
from gateway.dialects.responses_api.request import RequestReader
from gateway.dialects.responses_api.values import ABSENT, Raw, encode, is_absent


class _Delta(msgspec.Struct, gc=False):
    content: Raw = ABSENT
    reasoning_content: Raw = ABSENT
    reasoning: Raw = ABSENT
    refusal: Raw = ABSENT
    tool_calls: Raw = ABSENT
    thinking_blocks: Raw = ABSENT
    reasoning_details: Raw = ABSENT
    annotations: Raw = ABSENT
    extra_content: Raw = ABSENT


class _Choice(msgspec.Struct, gc=False):
    index: Any = 0
    delta: _Delta | None = None
    finish_reason: Any = None
    logprobs: Raw = ABSENT


class _Chunk(msgspec.Struct, gc=False):
    id: Any = None
    created: Any = None
    model: Raw = ABSENT
    choices: list[_Choice] | None = None
    usage: Raw = ABSENT
    service_tier: Raw = ABSENT
    gateway: Raw = ABSENT
    error: Raw = ABSENT


_DELTA_FIELDS = _Delta.__struct_fields__
_TEXT_FIELDS = ("content", *reasoning.TEXT_FIELDS)


class Frame(NamedTuple):
    """The bytes around the text of a chunk. A later chunk with the same bytes around its text need not be decoded."""

    prefix: bytes
    suffix: bytes
    text: Text

    def text_of(self, event: bytes) -> bytes:
        """Return the text of an event in this frame, or b"" if the event has another frame or the text has escapes."""
        if not event.startswith(self.prefix) or not event.endswith(self.suffix):
            return b""
        text = event[len(self.prefix) : -len(self.suffix)]
        return b"" if b'"' in text or b"\\" in text else text


def frame_of(data: bytes, text: Text, piece: Raw) -> Frame | None:
    """Return the frame of a chunk, or None if the place of its text is uncertain."""
    whole = bytes(piece)
    if data.count(whole) != 1:
        return None
    before, _, after = data.partition(whole)
    return Frame(b"data:" + before + b'"', b'"' + after, text)


_RATE_LIMIT = ("rate_limit_exceeded",)
"""The codes of the gateway that are also codes of this API. All others become `server_error`."""

_decode = msgspec.json.Decoder(_Chunk).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_any = msgspec.json.Decoder().decode


class ResponseStream:
    """Translates one stream."""

    __slots__ = (
        "_calls", "_done", "_ended", "_error", "_frame", "_more", "_open", "_out", "_reason", "_request", "_response",
        "_sequence", "_usage",
    )  # fmt: skip

    def __init__(self, request: RequestReader) -> None:
        self._request = request
        self._response: output.Response | None = None
        self._sequence = 0
        self._out: list[bytes] = []
        self._done: list[Raw | None] = []
        self._open: OpenMessage | OpenReasoning | None = None
        self._calls: dict[int, OpenCall] = {}
        self._reason: Any = None
        self._usage: Raw = ABSENT
        self._more: dict[str, Any] = {}
        self._error: Raw = ABSENT
        self._ended = False
        self._frame: Frame | None = None

    def feed(self, events: bytes) -> bytes:
        """Return the events for complete events of a chat stream. A comment stays as it is."""
        for event in events.split(b"\n\n"):
            frame = self._frame
            if frame is not None and (text := frame.text_of(event)):
                self._write(frame.text, text)
            elif event.startswith(b"data:"):
                data = event[5:]
                if not self._ended and data.strip() != b"[DONE]":
                    self._frame = self._chunk(data)
            elif event:
                self._out.append(event + b"\n\n")
        return self._take()

    def end(self, events: bytes) -> bytes:
        """Return the last events."""
        out = self.feed(events)
        if not self._ended:
            self._finish()
        return out + self._take()

    def _take(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _emit(self, kind: str, members: Mapping[str, Any]) -> None:
        data = encode({"type": kind, "sequence_number": self._sequence, **members})
        self._sequence += 1
        self._out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))

    def _write(self, text: Text, piece: bytes) -> None:
        text.pieces.append(piece)
        self._out.append(b'%b%b","sequence_number":%d}\n\n' % (text.head, piece, self._sequence))
        self._sequence += 1

    def _chunk(self, data: bytes) -> Frame | None:
        """Translate a chunk. Return the chunk's frame if the chunk has one text and nothing else."""
        chunk = _decode(data)
        if self._response is None:
            self._begin(chunk)
        if len(chunk.usage) and not is_absent(chunk.usage):
            self._usage = chunk.usage
        if len(chunk.service_tier):
            self._more["service_tier"] = chunk.service_tier
        if len(chunk.gateway):
            self._more["gateway"] = callers_receipt(chunk.gateway, self._request.conversation.origins)
        if not is_absent(chunk.error):
            self._error = chunk.error
            return None
        choices = chunk.choices or ()
        for choice in choices:
            if choice.index != 0:
                continue  # a response is one answer
            opened = self._delta(choice.delta, choice.logprobs) if choice.delta is not None else None
            if choice.finish_reason is not None:
                self._reason = choice.finish_reason
            elif opened is not None and len(choices) == 1 and not len(chunk.usage):
                return frame_of(data, *opened)
        return None

    def _begin(self, chunk: _Chunk) -> None:
        model = self._request.model if is_absent(chunk.model) else chunk.model
        identity = output.identify(self._request.base or chunk.id, chunk.created, model)
        self._response = output.Response(identity, self._request.echo)
        response = Raw(self._response.encode("in_progress"))
        for kind in ("response.created", "response.in_progress"):
            self._emit(kind, {"response": response})

    def _delta(self, delta: _Delta, logprobs: Raw) -> tuple[Text, Raw] | None:
        """Translate a delta. If the delta has only one piece of text, return the open text and that piece."""
        if (only := _only_text(delta)) is not None and is_absent(logprobs):
            field, text = only
            if field == "content":
                return self._message().add_text(text, []), text
            return self._reasoning().add_text(text, field), text
        self._any_delta(delta, logprobs)
        return None

    def _any_delta(self, delta: _Delta, logprobs: Raw) -> None:
        for field in reasoning.TEXT_FIELDS:
            if output.is_text(text := getattr(delta, field)):
                self._reasoning().add_text(text, field)
                break
        for name in reasoning.OPAQUE:
            if values := list_of(getattr(delta, name)):
                self._reasoning().add_opaque(name, values)
        content = delta.content
        if output.is_text(content):
            self._text(content, logprobs)
        elif len(content) and not is_absent(content):
            text, thoughts = from_parts(content)
            if output.is_text(thoughts):
                self._reasoning().add_text(thoughts, "")
            if output.is_text(text):
                self._text(text, logprobs)
        if output.is_text(delta.refusal):
            self._message().add_refusal(delta.refusal)
        for annotation in list_of(delta.annotations):
            self._message().add_annotation(output.annotation_of(annotation))
        if len(delta.extra_content) and not is_absent(delta.extra_content):
            self._message().extra = delta.extra_content
        for call in list_of(delta.tool_calls):
            self._call(_decode_fields(call))

    def _text(self, text: Raw, logprobs: Raw) -> None:
        tokens = tokens_of(logprobs)
        self._message().add_text(text, tokens)

    def _call(self, members: dict[str, Raw]) -> None:
        """Add a piece of a call."""
        index = _decode_any(members.get("index", b"0"))
        read = output.called(members)
        opened = self._calls.get(index)
        if opened is None:
            opened = self._calls[index] = self._open_call(read)
        if "extra_content" in members:
            opened.call.extra = members["extra_content"]
        if output.is_text(given := read.called.get("input" if read.custom else "arguments", ABSENT)):
            opened.add(given)

    def _open_call(self, read: output.Called) -> OpenCall:
        self._close_open("completed")
        self._close_calls("completed", only_whole=True)
        identity, index = self._identity, len(self._done)
        self._done.append(None)
        return OpenCall(self._emit, identity, index, read.call(identity, index, self._request.tools.members))

    @property
    def _identity(self) -> output.Identity:
        assert self._response is not None
        return self._response.identity

    def _message(self) -> OpenMessage:
        """Return the open message. Begin a message if none is open."""
        if type(self._open) is OpenMessage:
            return self._open
        self._close_open("completed")
        self._close_calls("completed", only_whole=True)
        self._open = opened = OpenMessage(self._emit, self._write, self._identity, len(self._done))
        self._done.append(None)
        return opened

    def _reasoning(self) -> OpenReasoning:
        """Return the open reasoning. Begin a reasoning item if none is open."""
        if type(self._open) is OpenReasoning:
            return self._open
        self._close_open("completed")
        self._close_calls("completed", only_whole=True)
        self._open = opened = OpenReasoning(
            self._emit, self._write, self._identity, len(self._done), summary=self._request.summary
        )
        self._done.append(None)
        return opened

    def _close(self, item: OpenMessage | OpenReasoning | OpenCall, status: str) -> None:
        self._done[item.index] = item.close(status)

    def _close_open(self, status: str) -> None:
        if self._open is not None:
            self._close(self._open, status)
            self._open = None

    def _close_calls(self, status: str, *, only_whole: bool) -> None:
        """Close the open calls, or only those to which nothing can be added."""
        for call in self._calls.values():
            if not call.closed and (not only_whole or call.is_whole):
                self._close(call, status)

    def _still_open(self) -> list[OpenMessage | OpenReasoning | OpenCall]:
        """Return the open items in their order."""
        items = [
            *([self._open] if self._open is not None else []),
            *(call for call in self._calls.values() if not call.closed),
        ]
        return sorted(items, key=lambda item: item.index)

    def _finish(self) -> None:
        """Close the open items, and write the last event."""
        if self._response is None:
            self._begin(_Chunk())
        assert self._response is not None
        self._ended = True
        if not is_absent(self._error):
            self._fail(self._response)
            return
        reason = output.INCOMPLETE.get(str(self._reason))
        status = "incomplete" if reason else "completed"
        if not self._done:
            self._message()
        still_open = self._still_open()
        for item in still_open:
            self._close(item, status if item.index == len(self._done) - 1 else "completed")
        items = [item for item in self._done if item is not None]
        response = self._response.encode(status, items, reason=reason, usage=self._usage, more=self._more)
        self._emit(f"response.{status}", {"response": Raw(response)})

    def _fail(self, response: output.Response) -> None:
        for item in self._still_open():
            self._done[item.index] = Raw(encode(item.item("incomplete")))
        error = _decode_any(self._error)
        error = error if type(error) is dict else {"message": str(error)}
        code = error.get("code")
        said = {
            "code": code if code in _RATE_LIMIT else "server_error",
            "message": error.get("message") or "The stream broke.",
            "gateway_code": code,
        }
        items = [item for item in self._done if item is not None]
        body = response.encode("failed", items, error=said, usage=self._usage, more=self._more)
        self._emit("response.failed", {"response": Raw(body)})


def _only_text(delta: _Delta) -> tuple[str, Raw] | None:
    """Return the name and the value of the only field of a delta if it is a text, else None."""
    found = None
    for name in _DELTA_FIELDS:
        value: Raw = getattr(delta, name)
        if is_absent(value) or (value == output.EMPTY_TEXT and name in _TEXT_FIELDS):
            continue
        if found is not None or name not in _TEXT_FIELDS or not output.is_text(value):
            return None
        found = (name, value)
    return found
