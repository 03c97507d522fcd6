"""Removes the code fence around an answer in emulated JSON mode: models write it although the instruction forbids it."""

from __future__ import annotations

import re

_OPENING = re.compile(r"\s*```[ \t]*(?:json)?[ \t]*\r?\n", re.IGNORECASE)
_MAX_OPENING_CHARS = 64
"""Maximum length of a beginning that may still become an opening fence."""
_START_OF_OPENING = re.compile(r"\s*(?:`{0,2}|```[ \t]*[jsonJSON]{0,4}[ \t]*\r?)")
_CLOSING = re.compile(r"\s*```\s*")
_START_OF_CLOSING = re.compile(r"\s*`{0,3}\s*$")


def without_fence(text: str) -> str | None:
    """Return the content of a fenced text, or None for a text that does not begin with a fence."""
    remover = FenceRemover()
    inner = remover.feed(text) + remover.finish()
    return inner if remover.is_removed else None


class FenceRemover:
    """Removes the fence around the text of a stream, whose pieces may end anywhere."""

    __slots__ = ("_held", "_state", "is_removed")

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"
        self.is_removed = False

    def feed(self, text: str) -> str:
        """Return the part of the text that is certainly inside the fence, or all text if there is no fence."""
        if self._state == "plain":
            return text
        self._held += text
        if self._state == "start" and not self._open():
            return ""
        if self._state == "plain":
            return self._release(len(self._held))
        match = _START_OF_CLOSING.search(self._held)
        return self._release(len(self._held) if match is None else match.start())

    def finish(self) -> str:
        """Return the text that is still held, without the closing fence."""
        if self._state == "fenced" and _CLOSING.fullmatch(self._held):
            self._held = ""
        return self._release(len(self._held))

    def _open(self) -> bool:
        """Find out whether the text begins with a fence. Return False if more text is needed to decide."""
        match = _OPENING.match(self._held)
        if match is not None:
            self._held = self._held[match.end() :]
            self._state, self.is_removed = "fenced", True
            return True
        if len(self._held) <= _MAX_OPENING_CHARS and _START_OF_OPENING.fullmatch(self._held):
            return False
        self._state = "plain"
        return True

    def _release(self, size: int) -> str:
        released, self._held = self._held[:size], self._held[size:]
        return released
