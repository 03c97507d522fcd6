"""The text that the caller of a stream has received, and the target that sent each part of it.

Another target continues a broken stream from this record. The transcript is pure state: `append` reads events, and nothing is
sent from here.
"""

from __future__ import annotations

from typing import Any

import msgspec

EMPTY_VALUES: tuple[Any, ...] = (None, "", [], {})
"""Values of a delta's fields that carry no content."""


class _ReadChoice(msgspec.Struct):
    index: int = 0
    delta: dict[str, Any] | None = None
    finish_reason: str | None = None


class _ReadChunk(msgspec.Struct):
    id: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[_ReadChoice] = []


_decode = msgspec.json.Decoder(_ReadChunk).decode


class Handover(msgspec.Struct, frozen=True):
    """The position, in characters, from which `target` continues the answer."""

    at: int
    target: str


class Transcript:
    """The text of one stream so far."""

    __slots__ = ("_text", "handovers", "identity", "is_plain")

    def __init__(self) -> None:
        self._text: list[str] = []
        self.is_plain = True
        """Whether every event was text of the only choice, so that another model can continue the text."""
        self.identity: dict[str, Any] = {}
        """`id`, `created` and `model` of the first chunk, which every later chunk repeats."""
        self.handovers: list[Handover] = []

    @property
    def text(self) -> str:
        """The text sent to the caller, up to the first event that is not plain, and including the text of that event."""
        if len(self._text) > 1:
            self._text = ["".join(self._text)]
        return self._text[0] if self._text else ""

    @property
    def size(self) -> int:
        """The number of characters in `text`."""
        return len(self.text)

    def append(self, events: bytes) -> None:
        """Record events that are sent to the caller."""
        for event in events.split(b"\n\n"):
            if not event or not self.is_plain:
                continue
            try:
                chunk = _decode(event[len(b"data: ") :])
            except msgspec.DecodeError:
                self.is_plain = False
                return
            if not self.identity and chunk.choices:
                self.identity = {"id": chunk.id, "created": chunk.created, "model": chunk.model}
            for choice in chunk.choices:
                self._append_choice(choice)

    def _append_choice(self, choice: _ReadChoice) -> None:
        delta = choice.delta or {}
        content = delta.get("content")
        if isinstance(content, str) and content:
            self._text.append(content)
        has_more = any(value not in EMPTY_VALUES for name, value in delta.items() if name not in ("role", "content"))
        if has_more or choice.index or choice.finish_reason:
            self.is_plain = False

    def hand_over(self, target: str) -> int:
        """Record that `target` continues from here. Return the number of characters sent so far."""
        self.handovers.append(Handover(self.size, target))
        return self.size
