"""The open output items of a stream. Each item writes its own events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.dialects.responses_api import output, reasoning
from gateway.dialects.responses_api.answer import joined
from gateway.dialects.responses_api.values import ABSENT, Raw, encode

Emit = Callable[[str, dict[str, Any]], None]
"""Writes one event: its type and its members."""
Write = Callable[["Text", bytes], None]
"""Writes the event of one more piece of a text."""

_decode = msgspec.json.Decoder().decode


class Text:
    """A text that arrives in pieces, and the bytes that the events of the text have in common."""

    __slots__ = ("head", "pieces")

    def __init__(self, kind: str, place: dict[str, Any]) -> None:
        data = encode({"type": kind, **place})
        self.head = b"event: " + kind.encode() + b"\ndata: " + data[:-1] + b',"delta":"'
        """The bytes of an event before its text. A quote and the number of the event follow the text."""
        self.pieces: list[bytes] = []
        """The text as JSON, without quotes."""

    @property
    def whole(self) -> Raw:
        """The text so far."""
        return Raw(b'"%b"' % b"".join(self.pieces))


class OpenMessage:
    """A message: parts of text or refusal, one after the other."""

    __slots__ = (
        "_annotations",
        "_content",
        "_emit",
        "_identity",
        "_kind",
        "_logprobs",
        "_text",
        "_write",
        "extra",
        "index",
    )

    def __init__(self, emit: Emit, write: Write, identity: output.Identity, index: int) -> None:
        self._emit = emit
        self._write = write
        self._identity = identity.item_id("msg", index)
        self.index = index
        self._content: list[dict[str, Any]] = []
        self._kind = ""
        self._text: Text | None = None
        self._annotations: list[dict[str, Any]] = []
        self._logprobs: list[Raw] = []
        self.extra: Raw = ABSENT
        emit(
            "response.output_item.added",
            {"output_index": index, "item": output.message_item(self._identity, "in_progress", [])},
        )

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._identity, "output_index": self.index, "content_index": len(self._content)}

    def _part(self) -> dict[str, Any]:
        text = self._text.whole if self._text is not None else output.EMPTY_TEXT
        if self._kind == "refusal":
            return output.refusal_part(text)
        return output.text_part(text, self._annotations, self._logprobs)

    def _open_part(self, kind: str) -> Text:
        if self._kind == kind and self._text is not None:
            return self._text
        self._close_part()
        self._kind, place = kind, self._place()
        self._emit("response.content_part.added", {**place, "part": self._part()})
        if kind == "refusal":
            self._text = Text("response.refusal.delta", place)
        else:
            self._text = Text("response.output_text.delta", {**place, "logprobs": []})
        return self._text

    def add_text(self, text: Raw, logprobs: list[Raw]) -> Text:
        """Add text. Return the open text."""
        opened = self._open_part("text")
        if logprobs:
            opened.pieces.append(bytes(text)[1:-1])
            self._logprobs += logprobs
            self._emit("response.output_text.delta", {**self._place(), "delta": text, "logprobs": logprobs})
        else:
            self._write(opened, bytes(text)[1:-1])
        return opened

    def add_refusal(self, text: Raw) -> None:
        """Add text of a refusal."""
        self._write(self._open_part("refusal"), bytes(text)[1:-1])

    def add_annotation(self, annotation: dict[str, Any]) -> None:
        """Add an annotation of the text."""
        self._open_part("text")
        self._annotations.append(annotation)
        place = {**self._place(), "annotation_index": len(self._annotations) - 1}
        self._emit("response.output_text.annotation.added", {**place, "annotation": annotation})

    def _close_part(self) -> None:
        if not self._kind:
            return
        place, part = self._place(), self._part()
        if self._kind == "text":
            self._emit("response.output_text.done", {**place, "text": part["text"], "logprobs": self._logprobs})
        else:
            self._emit("response.refusal.done", {**place, "refusal": part["refusal"]})
        self._emit("response.content_part.done", {**place, "part": part})
        self._content.append(part)
        self._kind, self._text, self._annotations, self._logprobs = "", None, [], []

    def item(self, status: str) -> dict[str, Any]:
        """Return the item with its content so far."""
        content = [*self._content, self._part()] if self._kind else self._content
        return output.message_item(self._identity, status, content, self.extra)

    def close(self, status: str) -> Raw:
        """Write the last events. Return the item."""
        if not self._content:
            self._open_part(self._kind or "text")
        self._close_part()
        return _done(self, self._emit, status)


class OpenReasoning:
    """Reasoning: its text, or a summary if the caller asked for one, and the content that only its provider can read."""

    __slots__ = ("_details", "_emit", "_field", "_identity", "_opaque", "_summary", "_text", "_write", "index")

    def __init__(self, emit: Emit, write: Write, identity: output.Identity, index: int, *, summary: bool) -> None:
        self._emit = emit
        self._write = write
        self._identity = identity.item_id("rs", index)
        self.index = index
        self._summary = summary
        self._text: Text | None = None
        self._field = ""
        self._opaque: dict[str, list[Raw]] = {}
        self._details: list[Any] = []
        emit("response.output_item.added", {"output_index": index, "item": self.item("in_progress")})

    def _place(self) -> dict[str, Any]:
        number = "summary_index" if self._summary else "content_index"
        return {"item_id": self._identity, "output_index": self.index, number: 0}

    def add_text(self, text: Raw, field: str) -> Text:
        """Add text from a field of the chat message. Return the open text."""
        if self._text is None:
            self._field, place = field, self._place()
            part = {"type": "summary_text" if self._summary else "reasoning_text", "text": ""}
            added = "response.reasoning_summary_part.added" if self._summary else "response.content_part.added"
            self._emit(added, {**place, "part": part})
            kind = "response.reasoning_summary_text.delta" if self._summary else "response.reasoning_text.delta"
            self._text = Text(kind, place)
        self._write(self._text, bytes(text)[1:-1])
        return self._text

    def add_opaque(self, name: str, values: list[Raw]) -> None:
        """Add elements of a list that goes back to the provider."""
        if name == "reasoning_details":
            for value in values:
                reasoning.add_detail(self._details, _decode(value))
        else:
            self._opaque.setdefault(name, []).extend(values)

    def item(self, status: str) -> dict[str, Any]:
        """Return the item with its content so far."""
        opaque = {name: Raw(encode(values)) for name, values in self._opaque.items()}
        if self._details:
            opaque["reasoning_details"] = Raw(encode(self._details))
        text = self._text.whole if self._text is not None else output.EMPTY_TEXT
        sealed = reasoning.seal(self._field, opaque)
        return output.reasoning_item(self._identity, status, text, sealed, summary=self._summary)

    def close(self, status: str) -> Raw:
        """Write the last events. Return the item."""
        if self._text is not None:
            text, place = self._text.whole, self._place()
            if self._summary:
                part = {"type": "summary_text", "text": text}
                self._emit("response.reasoning_summary_text.done", {**place, "text": text})
                self._emit("response.reasoning_summary_part.done", {**place, "part": part})
            else:
                part = {"type": "reasoning_text", "text": text}
                self._emit("response.reasoning_text.done", {**place, "text": text})
                self._emit("response.content_part.done", {**place, "part": part})
        return _done(self, self._emit, status)


class OpenCall:
    """A call of a function or of a custom tool."""

    __slots__ = ("_emit", "_identity", "_texts", "call", "closed", "index")

    def __init__(self, emit: Emit, identity: output.Identity, index: int, call: output.Call) -> None:
        self._emit = emit
        self._identity = identity.item_id(call.prefix, index)
        self.index = index
        self._texts: list[Raw] = []
        self.call = call
        self.closed = False
        emit("response.output_item.added", {"output_index": index, "item": self.item("in_progress")})

    @property
    def _event(self) -> str:
        return "response.custom_tool_call_input" if self.call.custom else "response.function_call_arguments"

    def add(self, text: Raw) -> None:
        """Add a piece of the arguments or of the input. A piece of a closed call is left out: it can only be white space."""
        if self.closed:
            return
        self._texts.append(text)
        self._emit(f"{self._event}.delta", {"item_id": self._identity, "output_index": self.index, "delta": text})

    def _given(self) -> Raw:
        return joined(self._texts) if self._texts else output.EMPTY_TEXT

    @property
    def is_whole(self) -> bool:
        """Whether the arguments are complete JSON, so that nothing can follow."""
        if self.call.custom:
            return False
        try:
            _decode(_decode(self._given()).encode())
        except (msgspec.DecodeError, RecursionError):
            return False
        return True

    def item(self, status: str) -> dict[str, Any]:
        """Return the item with its content so far."""
        return output.call_item(self._identity, status, self.call, self._given())

    def close(self, status: str) -> Raw:
        """Write the last events. Return the item."""
        self.closed, given = True, self._given()
        place = {"item_id": self._identity, "output_index": self.index}
        done = {"input": given} if self.call.custom else {"arguments": given, "name": self.call.name}
        self._emit(f"{self._event}.done", {**place, **done})
        return _done(self, self._emit, status)


def _done(opened: OpenMessage | OpenReasoning | OpenCall, emit: Emit, status: str) -> Raw:
    item = Raw(encode(opened.item(status)))
    emit("response.output_item.done", {"output_index": opened.index, "item": item})
    return item
