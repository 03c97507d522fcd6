"""Translates the events of a chat stream to Cohere's events, in Cohere's order.

    message-start
    content-start, content-delta ..., content-end                        for each text or thinking
    tool-call-start, tool-call-delta ..., tool-call-end                  for each tool call
    message-end with the finish reason and the usage, then [DONE]

A tool call that begins while the previous one is incomplete waits until the previous one is complete.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from gateway.dialects.cohere_api.answer import finish_of, logprob_of, pieces_in, text_in, thinking_in, usage_of
from gateway.dialects.cohere_api.request import encode
from providers.usage import read_usage

DONE = b"data: [DONE]\n\n"
_DELTA = b'event: content-delta\ndata: {"type":"content-delta","index":%d,"delta":{"message":{"content":{"%b":%b}}}}\n\n'
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_any = msgspec.json.Decoder().decode


class CohereStream:
    """The state of one stream."""

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        """`stops` are the request's stop strings."""
        self._stops = stops
        self._out: list[bytes] = []
        self._id = ""
        self._contents = 0
        self._kind = ""
        """The type of the open content, "" if none is open."""
        self._calls: dict[int, dict[str, Any]] = {}
        """The tool calls by their index in the chat stream, in the order in which they began."""
        self._open: int | None = None
        self._written: list[int] = []
        """The indexes of the calls whose `tool-call-start` was written."""
        self._held: list[tuple[str, str, dict[str, Any]]] = []
        """Content that waits until the open call is complete, because a call ends before content begins."""
        self._last: dict[str, Any] = {}
        self._usage: Any = None
        self._receipt: Any = None
        self._ended = False

    def feed(self, events: bytes) -> bytes:
        """Return Cohere's events for complete events of a chat stream. A comment stays as it is."""
        if events.startswith(b":"):
            return events
        for event in events.split(b"\n\n"):
            if event.startswith(b"data: "):
                self._take(event[6:])
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _take(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._end(None)
            return
        chunk = _decode(data)
        if chunk.get("error"):
            error = chunk["error"]
            self._receipt = chunk.get("gateway", self._receipt)
            self._end(str(error.get("message")) if type(error) is dict else str(error))
            return
        self._start(chunk)
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) == 0:
                self._take_delta(choice)
        self._usage = chunk.get("usage") or self._usage
        self._receipt = chunk.get("gateway", self._receipt)

    def _write(self, kind: str, **fields: Any) -> None:
        self._out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **fields})))

    def _start(self, chunk: dict[str, Any]) -> None:
        if not self._id:
            self._id = chunk.get("id") or str(uuid.uuid4())
            message = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
            self._write("message-start", id=self._id, delta={"message": message})

    def _take_delta(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or {}
        if thoughts := thinking_in(delta):
            self._content("thinking", thoughts, {})
        if text := text_in(delta.get("content")) + text_in(delta.get("refusal")):
            pieces = pieces_in(choice)
            self._content("text", text, {"logprobs": logprob_of(pieces)} if pieces else {})
        for call in delta.get("tool_calls") or ():
            self._take_call(call)
        if choice.get("finish_reason") is not None:
            self._last = choice

    def _content(self, kind: str, text: str, more: dict[str, Any]) -> None:
        if self._open is not None:
            self._held.append((kind, text, more))
            self._release()
            return
        if self._kind != kind:
            self._close_content()
            self._kind = kind
            self._write("content-start", index=self._contents, delta={"message": {"content": {"type": kind, kind: ""}}})
        if not more:
            self._out.append(_DELTA % (self._contents, kind.encode(), encode(text)))
            return
        self._write("content-delta", index=self._contents, delta={"message": {"content": {kind: text}}}, **more)

    def _release(self) -> None:
        """End the open call if its arguments are complete, and write the content that waited for it."""
        if self._open is not None and _is_object(self._calls[self._open]["arguments"]):
            self._end_call()
        if self._open is None:
            held, self._held = self._held, []
            for content in held:
                self._content(*content)

    def _end_call(self) -> None:
        self._write("tool-call-end", index=len(self._written) - 1)
        self._open = None

    def _close_content(self) -> None:
        if self._kind:
            self._write("content-end", index=self._contents)
            self._contents += 1
            self._kind = ""

    def _take_call(self, piece: dict[str, Any]) -> None:
        index, function = piece.get("index") or 0, piece.get("function") or {}
        call = self._calls.setdefault(index, {"id": None, "name": "", "arguments": "", "sent": 0})
        call["id"] = piece.get("id") or call["id"]
        call["name"] = function.get("name") or call["name"]
        arguments = function.get("arguments") or ""
        call["arguments"] += arguments if type(arguments) is str else encode(arguments).decode()
        self._write_calls(at_end=False)
        if self._held:
            self._release()

    def _write_calls(self, *, at_end: bool) -> None:
        """Write the part of the open call that has arrived. If that call is complete, begin the next call."""
        for index, call in self._calls.items():
            if index in self._written and index != self._open:
                continue
            if self._open is None:
                self._begin_call(index, call)
            if index != self._open:
                return
            if rest := call["arguments"][call["sent"] :]:
                call["sent"] = len(call["arguments"])
                self._write("tool-call-delta", index=len(self._written) - 1, delta=_call_delta({"function": {"arguments": rest}}))
            if not at_end and (index == next(reversed(self._calls)) or not _is_complete(call["arguments"])):
                return
            self._end_call()

    def _begin_call(self, index: int, call: dict[str, Any]) -> None:
        self._close_content()
        self._open = index
        self._written.append(index)
        begun = {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": ""}}
        self._write("tool-call-start", index=len(self._written) - 1, delta=_call_delta(begun))

    def _end(self, error: str | None) -> None:
        """End the stream, once. `error` is the message of an error that ended it.

        After an error, a tool call without complete arguments stays open: clients execute a call at its `tool-call-end`, and some
        of them read missing arguments as `{}`.
        """
        if self._ended:
            return
        self._ended = True
        self._close_content()
        if error is None:
            self._write_calls(at_end=True)
        self._release()
        self._close_content()
        delta: dict[str, Any] = {"finish_reason": finish_of(self._last, self._stops)}
        if error is not None:
            delta = {"finish_reason": "ERROR", "error": error}
        if (usage := read_usage(self._usage)) is not None and not usage.unsplit_tokens:
            delta["usage"] = usage_of(usage)
        more = {} if self._receipt is None else {"gateway": self._receipt}
        named = {"id": self._id} if self._id else {}  # an error that ends a native stream
        self._write("message-end", **named, delta=delta, **more)
        self._out.append(DONE)


def _call_delta(call: dict[str, Any]) -> dict[str, Any]:
    return {"message": {"tool_calls": call}}


def _is_object(arguments: str) -> bool:
    """Return whether the arguments are a complete JSON object, to which no more text can belong."""
    return arguments.lstrip().startswith("{") and _is_complete(arguments)


def _is_complete(arguments: str) -> bool:
    try:
        _decode_any(arguments)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False
    return True
