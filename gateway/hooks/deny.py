"""The deny list: refuses or replaces words and patterns, in requests and answers.

Words are literals, and patterns run in RE2, so the time grows linearly with the text. In a stream, the end of a piece
is held back while it may be the beginning of a word, and at least `window` characters are held back for patterns.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from gateway.config.hook import DenyConfig
from gateway.hooks.api import MAX_BEFORE_CHARS, MAX_LOOP_CHARS, Change, Chunk, Emit, Hook, Refuse, Request
from gateway.hooks.background import in_thread
from gateway.hooks.views import UNSPACED, View, folded, folded_text, readings, unit_places, windows

REMOVED = "[removed]"
MAX_SPACES = 256
"""Maximum number of white-space characters between two words of a phrase."""
MAX_SOURCE_CHARS = 12
"""Maximum number of characters of a text for one character of a view, such as those of a JSON escape or of a composed letter."""
CONTEXT_CHARS = 64
"""Number of characters that have been sent and are read again, to determine whether a word begins after them."""
MAX_DEPTH = 40
"""Maximum nesting depth of the pattern of all words."""
_SPACES = rf"\s{{1,{MAX_SPACES}}}"
_LETTER = rf"[^\W{UNSPACED}]"
_CHARACTER = re.compile(_SPACES + r"|\S")


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
        self._words = WordList(config.words) if config.words else None

    def request(self, request: Request) -> Change | Refuse | Awaitable[Change | Refuse | None] | None:
        """Return the texts with denied texts replaced, or refuse the request."""
        if "input" not in self._config.checks:
            return None
        return in_thread(self._check, request) if request.is_large else self._check(request)

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

    def chunk(self, chunk: Chunk) -> Emit | Refuse | Awaitable[Emit | Refuse]:
        """Return the text with denied texts replaced, or refuse the answer. Hold back what may be the beginning of a match."""
        return in_thread(self._piece, chunk) if len(chunk.text) > MAX_LOOP_CHARS else self._piece(chunk)

    def _piece(self, chunk: Chunk) -> Emit | Refuse:
        contexts = chunk.state.setdefault("contexts", {})
        sent, before = contexts.pop(chunk.channel, ("", ""))  # as it arrived, because it determines whether a word begins here
        if sent != chunk.before:  # the context is that of another attempt of the call
            before = chunk.before[-CONTEXT_CHARS:]
        text, begin = before + chunk.text, len(before)
        spans = self._spans(text, begin, is_open=not chunk.is_last)
        if spans and self._config.action == "refuse":
            return Refuse("The answer contains a text that this gateway does not allow.", code="content_denied")
        cut = len(text) if chunk.is_last else self._open_from(text, begin)
        cut = min([cut, *(start for start, end in spans if start < cut < end)])
        ready = [span for span in spans if span[1] <= cut]
        out = _removed(text[:cut], begin, ready)
        if not chunk.is_last:
            contexts[chunk.channel] = (chunk.before + out)[-MAX_BEFORE_CHARS:], text[max(0, cut - CONTEXT_CHARS) : cut]
        return Emit(out, text[cut:], "removed denied texts" if ready else "")

    def _spans(self, text: str, start: int = 0, *, is_open: bool = False) -> list[Span]:
        """Return the places of denied texts from `start` on. If `is_open`, a word at the end of the text may be incomplete.

        A place includes whole escapes of JSON: the place of `text` in `\\text` begins at the `\\`, because half an escape is invalid.
        """
        found = self._of_patterns(text, start) if self._patterns else []
        if self._words is not None:
            found += [span for span in self._words.find(text, is_open=is_open) if span[0] >= start]
        units = unit_places(text) if found else ()
        merged: list[Span] = []
        for first, last in sorted((max(start, _unit_start(units, first)), units[bisect_left(units, last)]) for first, last in found):
            if merged and first < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return merged

    def _of_patterns(self, text: str, start: int) -> list[Span]:
        found: list[Span] = []
        for view in readings(text)[0]:
            at = bisect_left(view.starts, start)
            for pattern in self._patterns:
                matches = (match.span() for match in pattern.finditer(view.text[at:]))
                found += [view.span(first + at, last + at) for first, last in matches if last > first]
        return found

    def _open_from(self, text: str, begin: int) -> int:
        """Return the place, from `begin` on, from which a text may belong to an incomplete match."""
        places = [self._words.open_from(text, begin)] if self._words is not None else [len(text)]
        if self._patterns:  # the window counts characters without escapes, and does not begin inside an escape
            places += [view.starts[max(0, len(view.text) - self._config.window)] for view in readings(text)[0]]
        return max(begin, _unit_start(unit_places(text), min(places)))


class WordList:
    """Finds words and phrases, whatever their case, their width and their white space."""

    def __init__(self, words: Iterable[str]) -> None:
        phrases = {phrase for word in words if (phrase := _phrase(word))}
        bound = {phrase for phrase in phrases if _is_letter(phrase[-1])}
        self._patterns = [re.compile(_pattern(bound, f"(?!{_LETTER})"))] if bound else []
        self._patterns += [re.compile(_pattern(phrases - bound, ""))] if phrases - bound else []
        self._starts = {start for phrase in phrases for start in _beginnings(phrase)}
        self._longest = max(map(len, self._starts), default=0)
        spaces = MAX_SPACES * max((phrase.count(" ") for phrase in phrases), default=0)
        self._tail_chars = CONTEXT_CHARS + (self._longest + spaces) * MAX_SOURCE_CHARS

    def find(self, text: str, *, is_open: bool) -> Iterator[Span]:
        """Return the places of all words. If `is_open`, a word at the end of the text may be incomplete."""
        for window in windows(text):
            for view in readings(window.text, is_open=is_open)[0]:
                form = folded(view)
                for match in (match for pattern in self._patterns for match in pattern.finditer(form.text)):
                    if is_open and match.end() == len(form.text):
                        continue
                    first, last = form.span(*match.span())
                    if window.first <= first < window.last:
                        yield first + window.base, last + window.base

    def open_from(self, text: str, begin: int) -> int:
        """Return the place, from `begin` on, from which a text may be the beginning of a word, or the length of the text."""
        base = max(0, begin - CONTEXT_CHARS, len(text) - self._tail_chars)
        views, cut = readings(text[base:], is_open=True)
        for view in views:
            at = bisect_left(view.starts, begin - base)
            form = folded(View(view.text[at:], view.starts[at:]))
            places = [match.start() for match in _CHARACTER.finditer(form.text)]
            shown = "".join([" " if form.text[place].isspace() else form.text[place] for place in places])
            for start in range(max(0, len(shown) - self._longest), len(shown)):
                if shown[start:] in self._starts:
                    cut = min(cut, form.starts[places[start]])
                    break
        return cut + base


def _phrase(word: str) -> str:
    """Return a word or phrase as a view shows it, with one space between words."""
    return " ".join(folded_text(word).split())


def _is_letter(char: str) -> bool:
    """Return whether a word that begins or ends with this character must not be a part of a longer word."""
    return re.match(_LETTER, char) is not None


def _pattern(phrases: Iterable[str], after: str) -> str:
    """Return the pattern of phrases that the condition `after` follows.

    Each condition occurs once, or once for each first character, because conditions take long to compile.
    """
    by_char: dict[str, list[list[str]]] = {}
    for phrase in phrases:
        by_char.setdefault(phrase[0], []).append([*(_SPACES if char == " " else re.escape(char) for char in phrase[1:]), ""])
    firsts = {char: re.escape(char) for char in by_char}
    befores = {char: f"(?<!{_LETTER}{first})" if _is_letter(char) else "" for char, first in firsts.items()}
    return "(?:" + "|".join(firsts[char] + befores[char] + _choice(rests) for char, rests in by_char.items()) + ")" + after


def _choice(phrases: list[list[str]], at: int = 0, depth: int = MAX_DEPTH) -> str:
    """Return a pattern of the tokens from `at` on that reads a common beginning only once, and prefers longer phrases."""
    if len(phrases) == 1 or not depth:
        longest = sorted(phrases, key=len, reverse=True)
        return "(?:" + "|".join("".join(phrase[at:]) for phrase in longest) + ")"
    by_token: dict[str, list[list[str]]] = {}
    ended = []
    for phrase in phrases:
        if at == len(phrase) - 1:
            ended.append(phrase[at])
        else:
            by_token.setdefault(phrase[at], []).append(phrase)
    if len(by_token) == 1 and not ended:
        end = at
        while all(end < len(phrase) - 1 and phrase[end] == phrases[0][end] for phrase in phrases):
            end += 1
        return "".join(phrases[0][at:end]) + _choice(phrases, end, depth)
    return "(?:" + "|".join([*(token + _choice(group, at + 1, depth - 1) for token, group in by_token.items()), *ended]) + ")"


def _beginnings(phrase: str) -> Iterator[str]:
    """Return all beginnings of a phrase in a folded view, including those that end with a character that is not fully composed."""
    parts = unicodedata.normalize("NFKD", phrase)
    for end in range(1, len(parts) + 1):
        yield folded_text(parts[:end])
    for end in range(1, len(phrase) + 1):
        yield phrase[:end]


def _unit_start(units: Sequence[int], place: int) -> int:
    """Return the beginning of the character or the escape at a place."""
    return units[bisect_right(units, place) - 1]


def _removed(text: str, start: int, spans: list[Span]) -> str:
    """Return the text from `start` on, with each span replaced by REMOVED."""
    parts: list[str] = []
    for first, last in spans:
        parts += [text[start:first], REMOVED]
        start = last
    return "".join([*parts, text[start:]])


def re2_pattern(source: str) -> Pattern:
    """Return a pattern that RE2 has compiled. Raise ValueError if it is invalid, and ImportError if RE2 is not installed."""
    import re2  # type: ignore[import-not-found, import-untyped, unused-ignore]

    options = re2.Options()
    options.log_errors = False
    try:
        compiled: Pattern = re2.compile(source, options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None
    return compiled
