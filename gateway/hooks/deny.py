"""The deny list: refuses or replaces words and patterns, in requests and answers.

Words are literals, and patterns run in RE2, so the time grows linearly with the text. In a stream, the end of a piece
is held back while it may be the beginning of a word, and at least `window` characters are held back for patterns.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Iterator
from typing import Any, Protocol

from gateway.config.hook import DenyConfig
from gateway.hooks.api import Change, Chunk, Emit, Hook, Refuse, Request

REMOVED = "[removed]"


Span = tuple[int, int]


class Match(Protocol):
    """A match of `re` or of RE2."""

    def span(self) -> Span:
        """Return the start and the end of the match."""
        ...


class Pattern(Protocol):
    """A compiled pattern of RE2."""

    def finditer(self, text: str) -> Iterator[Match]:
        """Return all matches in order."""
        ...


class DenyList(Hook):
    """Refuses or replaces the words and patterns of its configuration."""

    def __init__(self, config: DenyConfig) -> None:
        self._config = config
        self._patterns = [re2_pattern(each) for each in config.patterns]
        words = sorted(config.words, key=len, reverse=True)
        self._words = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)", re.IGNORECASE) if words else None
        self._starts = {word[:end].lower() for word in words for end in range(1, len(word) + 1)}
        self._longest = max(map(len, words), default=0)

    def request(self, request: Request) -> Change | Refuse | Awaitable[Change | Refuse | None] | None:
        """Return the texts with denied texts replaced, or refuse the request."""
        if "input" not in self._config.checks:
            return None
        return asyncio.to_thread(self._check, request) if request.is_large else self._check(request)

    def _check(self, request: Request) -> Change | Refuse | None:
        changed = {each.path: _removed(each.text, 0, spans) for each in request.texts if (spans := self._spans(each.text))}
        if not changed:
            return None
        if self._config.action == "refuse":
            return Refuse(f"'{next(iter(changed))}' contains a text that this gateway does not allow. Remove it.", code="content_denied")
        return Change(changed, "removed denied texts")

    def follows(self, state: dict[str, Any]) -> bool:
        """Return whether answers are checked."""
        return "output" in self._config.checks

    def chunk(self, chunk: Chunk) -> Emit | Refuse | None:
        """Return the text with denied texts replaced, or refuse the answer. Hold back what may be the beginning of a match."""
        before = chunk.before[-1:]  # determines whether a word begins here
        text = before + chunk.text
        spans = self._spans(text, len(before), is_open=not chunk.is_last)
        if spans and self._config.action == "refuse":
            return Refuse("The answer contains a text that this gateway does not allow.", code="content_denied")
        cut = len(text) if chunk.is_last else len(text) - self._open_chars(chunk.text)
        cut = min([cut, *(start for start, end in spans if start < cut < end)])
        ready = [span for span in spans if span[1] <= cut]
        return Emit(_removed(text[:cut], len(before), ready), text[cut:], "removed denied texts" if ready else "")

    def _spans(self, text: str, start: int = 0, *, is_open: bool = False) -> list[Span]:
        """Return the places of denied texts from `start` on. If the text `is_open`, a word at its end may not be complete."""
        found: list[Span] = []
        if self._words is not None:
            found += [match.span() for match in self._words.finditer(text, start) if not is_open or match.end() < len(text)]
        for pattern in self._patterns:
            found += [(first + start, last + start) for first, last in (match.span() for match in pattern.finditer(text[start:]))]
        merged: list[Span] = []
        for first, last in sorted(found):
            if merged and first < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return merged

    def _open_chars(self, text: str) -> int:
        """Return the number of characters at the end of a text that may belong to a match that is not complete."""
        window = min(len(text), self._config.window) if self._patterns else 0
        for size in range(min(self._longest, len(text)), window, -1):
            if text[-size:].lower() in self._starts:
                return size
        return window


def _removed(text: str, start: int, spans: list[Span]) -> str:
    """Return the text from `start` on, with each span replaced by REMOVED."""
    parts: list[str] = []
    for first, last in spans:
        parts += [text[start:first], REMOVED]
        start = last
    return "".join([*parts, text[start:]])


def re2_pattern(source: str) -> Pattern:
    """Compile a pattern in RE2. Raise ValueError if it is invalid, and ImportError if RE2 is not installed."""
    import re2  # type: ignore[import-not-found, import-untyped, unused-ignore]

    options = re2.Options()
    options.log_errors = False
    try:
        compiled: Pattern = re2.compile(source, options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None
    return compiled
