"""The output items of a stream while they are open: each writes its own events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.dialects.responses_api import output, reasoning
from gateway.dialects.responses_api.answer import joined
from gateway.dialects.responses_api.values import ABSENT, Raw, encode

Emit = Callable[[str, dict[str, Any]], None]
"""Writes one event: its type and its members."""

_decode = msgspec.json.Decoder().decode


class OpenMessage:
    """A message: parts of text or refusal, one after the other."""

    __slots__ = (
        "_annotations",
        "_content",
        "_emit",
        "_identity",
        "_kind",
        "_logprobs",
        "_texts",
        "extra",
        "head",
        "index",
    )

    def __init__(self, emit: Emit, identity: output.Identity, index: int) -> None:
        self._emit = emit
        self._identity = identity.item_id("msg", index)
        self.index = index
        self._content: list[dict[str, Any]] = []
        self._kind = ""
        self._texts: list[Raw] = []
        self._annotations: list[dict[str, Any]] = []
        self._logprobs: list[Raw] = []
        self.extra: Raw = ABSENT
        self.head = b""
        """The first bytes of a text event of the open part, up to its text."""
        emit(
            "response.output_item.added",
            {"output_index": index, "item": output.message_item(self._identity, "in_progress", [])},
        )

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._identity, "output_index": self.index, "content_index": len(self._content)}

    def _part(self) -> dict[str, Any]:
        if self._kind == "refusal":
            return output.refusal_part(joined(self._texts) if self._texts else output.EMPTY_TEXT)
        return output.text_part(
            joined(self._texts) if self._texts else output.EMPTY_TEXT, self._annotations, self._logprobs
        )

    def _open_part(self, kind: str) -> None:
        if self._kind == kind:
            return
        self._close_part()
        self._kind = kind
        self._emit("response.content_part.added", {**self._place(), "part": self._part()})

    def add_text(self, text: Raw, logprobs: list[Raw]) -> None:
        """Add text."""
        self._open_part("text")
        self._texts.append(text)
        self._logprobs += logprobs
        self._emit("response.output_text.delta", {**self._place(), "delta": text, "logprobs": logprobs})

    def add_plain(self, text: Raw) -> bytes | None:
        """Add text whose event the stream writes itself. Return the members of the event up to its text, or None."""
        if self._kind != "text":
            return None
        if not self.head:
            place = encode({"type": "response.output_text.delta", **self._place(), "logprobs": []})
            self.head = b"event: response.output_text.delta\ndata: " + place[:-1] + b',"delta":'
        self._texts.append(text)
        return self.head

    def add_refusal(self, text: Raw) -> None:
        """Add text of a refusal."""
        self._open_part("refusal")
        self._texts.append(text)
        self._emit("response.refusal.delta", {**self._place(), "delta": text})

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
        self._kind, self._texts, self._annotations, self._logprobs, self.head = "", [], [], [], b""

    def item(self, status: str) -> dict[str, Any]:
        """Return the item with what it has so far."""
        content = [*self._content, self._part()] if self._kind else self._content
        return output.message_item(self._identity, status, content, self.extra)

    def close(self, status: str) -> None:
        """Write the last events."""
        if not self._content:
            self._open_part(self._kind or "text")
        self._close_part()
        self._emit("response.output_item.done", {"output_index": self.index, "item": self.item(status)})


class OpenReasoning:
    """Reasoning: its text, or a summary if the caller asked for one, and what only its provider can read."""

    __slots__ = ("_details", "_emit", "_field", "_identity", "_opaque", "_summary", "_texts", "index")

    def __init__(self, emit: Emit, identity: output.Identity, index: int, *, summary: bool) -> None:
        self._emit = emit
        self._identity = identity.item_id("rs", index)
        self.index = index
        self._summary = summary
        self._texts: list[Raw] = []
        self._field = ""
        self._opaque: dict[str, list[Raw]] = {}
        self._details: list[Any] = []
        emit("response.output_item.added", {"output_index": index, "item": self.item("in_progress")})

    def _place(self) -> dict[str, Any]:
        return {
            "item_id": self._identity,
            "output_index": self.index,
            "summary_index" if self._summary else "content_index": 0,
        }

    def add_text(self, text: Raw, field: str) -> None:
        """Add text from this field of the chat message."""
        if not self._texts:
            self._field = field
            part = {"type": "summary_text" if self._summary else "reasoning_text", "text": ""}
            added = "response.reasoning_summary_part.added" if self._summary else "response.content_part.added"
            self._emit(added, {**self._place(), "part": part})
        self._texts.append(text)
        kind = "response.reasoning_summary_text.delta" if self._summary else "response.reasoning_text.delta"
        self._emit(kind, {**self._place(), "delta": text})

    def add_opaque(self, name: str, values: list[Raw]) -> None:
        """Add elements of a list that goes back to the provider."""
        if name == "reasoning_details":
            for value in values:
                reasoning.add_detail(self._details, _decode(value))
        else:
            self._opaque.setdefault(name, []).extend(values)

    def item(self, status: str) -> dict[str, Any]:
        """Return the item with what it has so far."""
        opaque = {name: Raw(encode(values)) for name, values in self._opaque.items()}
        if self._details:
            opaque["reasoning_details"] = Raw(encode(self._details))
        text = joined(self._texts) if self._texts else output.EMPTY_TEXT
        return output.reasoning_item(
            self._identity, status, text, reasoning.seal(self._field, opaque), summary=self._summary
        )

    def close(self, status: str) -> None:
        """Write the last events."""
        if self._texts:
            text, place = joined(self._texts), self._place()
            if self._summary:
                self._emit("response.reasoning_summary_text.done", {**place, "text": text})
                self._emit(
                    "response.reasoning_summary_part.done", {**place, "part": {"type": "summary_text", "text": text}}
                )
            else:
                self._emit("response.reasoning_text.done", {**place, "text": text})
                self._emit("response.content_part.done", {**place, "part": {"type": "reasoning_text", "text": text}})
        self._emit("response.output_item.done", {"output_index": self.index, "item": self.item(status)})


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
        """Add a piece of the arguments or of the input. Only white space can follow complete arguments."""
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
        """Return the item with what it has so far."""
        return output.call_item(self._identity, status, self.call, self._given())

    def close(self, status: str) -> None:
        """Write the last events."""
        self.closed, given = True, self._given()
        place = {"item_id": self._identity, "output_index": self.index}
        done = {"input": given} if self.call.custom else {"arguments": given, "name": self.call.name}
        self._emit(f"{self._event}.done", {**place, **done})
        self._emit("response.output_item.done", {"output_index": self.index, "item": self.item(status)})
