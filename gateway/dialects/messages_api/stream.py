"""Translates the events of a chat stream to those of a message, in Anthropic's order.

    message_start, then for each block: content_block_start, content_block_delta ..., content_block_stop,
    then message_delta with the stop reason and the usage, then message_stop. Heartbeats are pings.

The stop reason waits for the usage, which chat streams send last. Text or thinking that arrives while a tool call is
incomplete waits for the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.dialects.messages_api.answer import message_id
from gateway.dialects.messages_api.chat_message import (
    EMPTY,
    NO_USAGE,
    ChatMessage,
    Choice,
    Completion,
    read_completion,
    stop_of,
    text_of,
    usage_of,
)
from gateway.dialects.messages_api.citations import citation_of, read_annotations
from gateway.dialects.messages_api.errors import error_event
from gateway.dialects.messages_api.events import MESSAGE_STOP, PING, BlockWriter, message_delta, message_start
from gateway.dialects.messages_api.fields import ABSENT, Fields, encode, is_given, is_text
from gateway.dialects.messages_api.signatures import signature_of
from gateway.dialects.messages_api.tool_stream import ToolStream
from gateway.dialects.responses_api.reasoning import add_detail

_DATA = b"data: "
_DONE = b"[DONE]"


class MessageStream:
    """The state of one stream."""

    def __init__(self, model: str = "", stops: tuple[str, ...] = ()) -> None:
        """`model` and `stops` are those of the request."""
        self._model = model
        self._stops = stops
        self._blocks = BlockWriter()
        self._tools = ToolStream(self._blocks)
        self._held: list[ChatMessage] = []
        """Content that waits for an incomplete tool call."""
        self._started = False
        self._thinking_is_written = False
        """Whether the open thinking block has text."""
        self._details: list[Any] = []
        """Reasoning that only its provider can read. It becomes the signature that ends the thinking."""
        self._is_cited = False
        """Whether the open text block has citations, which belong to all of its text."""
        self._refused = False
        self._last = Choice()
        self._usage: dict[str, Any] | None = None
        self._tier: Any = None
        self._receipt = ABSENT
        self.request_id: str | None = None
        self.param: Callable[[str], str] = str
        """Returns the caller's name for a parameter."""
        self.receipt: Callable[[msgspec.Raw], Any] = msgspec.Raw
        """Returns a receipt with the caller's names."""

    def feed(self, events: bytes) -> bytes:
        """Return the events for complete events of a chat stream, or for a comment."""
        if events.startswith(b":"):
            return PING if self._started else events
        out: list[bytes] = []
        for event in events.split(b"\n\n"):
            if event.startswith(_DATA):
                out.append(self._event(event[len(_DATA) :]))
        return out[0] if len(out) == 1 else b"".join(out)

    def _event(self, data: bytes) -> bytes:
        if data == _DONE:
            return self._end()
        chunk = read_completion(data)
        if is_given(chunk.error):
            return self._blocks.take() + error_event(data, self.request_id, self.param)
        start = b"" if self._started else self._start(chunk)
        if chunk.choices:
            choice = chunk.choices[0]
            if choice.index == 0:
                if choice.delta is not None:
                    self._take(choice.delta)
                if choice.finish_reason is not None:
                    self._last = choice
        if len(chunk.usage):
            self._usage = usage_of(chunk.usage, None) or self._usage
        if chunk.service_tier is not None:
            self._tier = chunk.service_tier
        if len(chunk.gateway):
            self._receipt = chunk.gateway
        return start + self._blocks.take()

    def _start(self, chunk: Completion) -> bytes:
        self._started = True
        model = chunk.model if type(chunk.model) is str and chunk.model else self._model
        usage = usage_of(chunk.usage, chunk.service_tier)
        return message_start(message_id(chunk.id), model, usage or NO_USAGE)

    def _take(self, delta: ChatMessage) -> None:
        content = delta.content
        if (
            is_text(content)
            and delta.tool_calls is None
            and delta.thinking_blocks is None
            and not len(delta.reasoning_details)
            and not self._details
            and not len(delta.reasoning_content)
            and not len(delta.reasoning)
            and not len(delta.refusal)
            and not len(delta.annotations)
            and self._blocks.kind == "text"
            and not self._is_cited
        ):
            if bytes(content) != EMPTY:
                self._blocks.text(bytes(content))
            return
        self._take_all(delta)

    def _take_all(self, delta: ChatMessage) -> None:
        """Write the content of a delta block by block. Content other than tool calls waits while a tool call is incomplete."""
        if _has_text(delta):
            if self._held or not self._tools.can_pause():
                self._held.append(delta)
            else:
                self._tools.finish()
                self._write(delta)
        if delta.tool_calls:
            self._seal()
        for call in delta.tool_calls or ():
            self._tools.feed(call)
        if self._held and self._tools.can_pause():
            self._release()

    def _release(self) -> None:
        """Write the content that waited for a tool call."""
        self._tools.finish()
        held, self._held = self._held, []
        for delta in held:
            self._write(delta)
        self._seal()

    def _write(self, delta: ChatMessage) -> None:
        thoughts = delta.thinking()
        if thoughts:
            self._think(thoughts)
        for block in delta.blocks_of_thinking():
            self._thinking_block(block, has_text=bool(thoughts))
        for detail in delta.details():
            add_detail(self._details, detail)
        text, refusal = text_of(delta.content), text_of(delta.refusal)
        if text or refusal or is_given(delta.annotations):
            self._seal()
        if text:
            self._text(text)
        if refusal:
            self._refused = True
            self._text(refusal)
        if len(delta.annotations):
            self._cite(delta)

    def _seal(self) -> None:
        """End the block of thinking with a signature: the reasoning that only its provider can read."""
        if not self._details:
            return
        if self._blocks.kind != "thinking":
            self._open_thinking()
        self._blocks.delta(b"signature_delta", b"signature", encode(signature_of(self._details)))
        self._blocks.close()
        self._details = []

    def _text(self, text: msgspec.Raw) -> None:
        blocks = self._blocks
        if self._is_cited:
            blocks.close()
            self._is_cited = False
        blocks.text(bytes(text))

    def _think(self, thoughts: msgspec.Raw) -> None:
        if self._blocks.kind != "thinking":
            self._open_thinking()
        self._thinking_is_written = True
        self._blocks.delta(b"thinking_delta", b"thinking", bytes(thoughts))

    def _open_thinking(self) -> None:
        self._is_cited = False
        self._blocks.open("thinking", {"thinking": "", "signature": ""})
        self._thinking_is_written = False

    def _thinking_block(self, block: Fields, *, has_text: bool) -> None:
        """Write a block of thinking: its text, unless the text was streamed, and its signature, which ends the block."""
        blocks = self._blocks
        if bytes(block["type"]) == b'"redacted_thinking"':
            blocks.open("redacted_thinking", {name: raw for name, raw in block.items() if name != "type"})
            blocks.close()
            return
        signature, thoughts = block["signature"], block["thinking"]
        signed = bytes(signature) != EMPTY
        new = bytes(thoughts) != EMPTY and not has_text
        if blocks.kind != "thinking" and (signed or new):
            self._open_thinking()
        if new and not (signed and self._thinking_is_written):
            self._think(thoughts)
        if signed:
            blocks.delta(b"signature_delta", b"signature", bytes(signature))
            blocks.close()

    def _cite(self, delta: ChatMessage) -> None:
        """Add citations to the open text block. A block with citations takes no more text."""
        for annotation in read_annotations(delta.annotations):
            citation = citation_of(annotation)
            if citation is None:
                continue
            if self._blocks.kind != "text":
                self._blocks.open("text", {"text": ""})
            self._blocks.delta(b"citations_delta", b"citation", encode(citation))
            self._is_cited = True

    def _end(self) -> bytes:
        """Return the last events: the content that waits, the stop reason with the usage, and message_stop."""
        start = b"" if self._started else self._start(Completion())
        self._release()
        self._blocks.close()
        stop = stop_of(self._last, self._stops, has_tools=self._tools.has_calls, refused=self._refused)
        usage = dict(self._usage or NO_USAGE)
        more: dict[str, Any] = {"gateway": self.receipt(self._receipt)} if is_given(self._receipt) else {}
        delta = {"stop_reason": stop.reason, "stop_sequence": stop.sequence}
        return start + self._blocks.take() + message_delta(delta, usage, more) + MESSAGE_STOP


def _has_text(delta: ChatMessage) -> bool:
    """Return whether a delta has anything other than tool calls."""
    thought = delta.thinking() or delta.thinking_blocks or delta.details()
    return bool(text_of(delta.content) or thought or text_of(delta.refusal) or len(delta.annotations))
