"""Views of a text: without the escapes of JSON, and in one form of Unicode. Each view maps its places to those of the text.

A long text is read in windows, because one search of a regular expression holds the interpreter lock until it ends. Windows
overlap: a match belongs to the window that owns its first character.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from gateway.hooks.background import check_stop

WINDOW_CHARS = 32_768
AHEAD_CHARS = 16_384
"""Maximum length of a value that is found, in characters of the text."""
BEHIND_CHARS = 4_352
"""Number of characters that a window has as context before the first one that it owns."""
MAX_LEVELS = 3
"""Maximum number of times that escapes are resolved, for JSON in JSON."""
MAX_CLUSTER_CHARS = 32
ESCAPES_PER_CHECK = 4096
"""Number of escapes after which a search in a thread ends if its result is no longer awaited."""

UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3100-\u318f\u31f0-\u31ff\u3400-\u4dbf"
    r"\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff"
)
"""Characters, for a class of a regular expression, of scripts in which a word may touch the next one or its particles."""

_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE = re.compile(r'\\(?:(["\\/bfnrt])|u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4}))')
_OPEN_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_HIGH_SURROGATES = range(0xD800, 0xDC00)
_INVISIBLE = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff"
_IGNORED = re.compile(f"[{_INVISIBLE}]+")
_IGNORED_END = re.compile(f"[{_INVISIBLE}]{{1,64}}\\Z")


class View(NamedTuple):
    """A view of a text. `starts` has the place in the source of each character, then the place where the view ends."""

    text: str
    starts: Sequence[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the place in the source of the characters from `start` to `end`."""
        last = self.starts[end - 1]
        while self.starts[end] == last and end < len(self.text):  # a character of the source may be several in the view
            end += 1
        return self.starts[start], self.starts[end]


class Window(NamedTuple):
    """A part of a text. `base` is its place. It owns the matches that begin at or after `first` and before `last` in its text."""

    base: int
    text: str
    first: int
    last: int


def windows(text: str) -> Iterator[Window]:
    """Return the windows of a text in order. Raise TimeoutError in a thread whose result is no longer awaited."""
    check_stop()
    if len(text) <= WINDOW_CHARS + AHEAD_CHARS:
        yield Window(0, text, 0, len(text))
        return
    for at in range(0, len(text), WINDOW_CHARS):
        check_stop()
        base = max(0, at - BEHIND_CHARS)
        end = min(at + WINDOW_CHARS, len(text))
        yield Window(base, text[base : end + AHEAD_CHARS], at - base, end - base)


def readings(text: str, *, is_open: bool = False) -> tuple[list[View], int]:
    """Return views of the text: first as it is, then each with one more level of escapes resolved, up to MAX_LEVELS.

    Also return the length of the text or, if `is_open`, the place of an escape at its end that may be incomplete: the views without
    escapes end there.
    """
    found, limit = [View(text, range(len(text) + 1))], len(text)
    while len(found) <= MAX_LEVELS and "\\" in found[-1].text:
        inner, end = _unescaped(found[-1], is_open=is_open)
        limit = min(limit, end)
        if inner is None:
            break
        found.append(inner)
    return found, limit


def unit_places(text: str) -> Sequence[int]:
    """Return the places in a text at which a character or a whole escape of JSON begins, and the length of the text."""
    whole = View(text, range(len(text) + 1))
    inner = _unescaped(whole, is_open=False)[0] if "\\" in text else None
    return (inner or whole).starts


def _unescaped(view: View, *, is_open: bool) -> tuple[View | None, int]:
    """Return the view without one level of escapes, or None if there are none, and the place at which it ends.

    If `is_open`, it ends before an escape that may be incomplete.
    """
    text, parts, starts, at, cut = view.text, [], array("q"), 0, len(view.text)
    pair_at = -1
    for count, match in enumerate(_ESCAPE.finditer(text)):
        if count % ESCAPES_PER_CHECK == 0:
            check_stop()
        parts += [text[at : match.start()], _resolved(match)]
        starts.extend(view.starts[at : match.start() + 1])
        at = match.end()
        pair_at = match.start() if match[4] and int(match[4], 16) in _HIGH_SURROGATES else -1
    if is_open:
        if (rest := _OPEN_ESCAPE.search(text, max(at, len(text) - 12))) is not None:
            cut = rest.start()
        if pair_at >= 0 and cut == at:  # the second half of the pair may follow
            cut = pair_at
    if not parts and cut == len(text):
        return None, view.starts[cut]
    if cut < at:
        parts.pop()
        starts.pop()
    else:
        parts.append(text[at:cut])
        starts.extend(view.starts[at:cut])
    starts.append(view.starts[cut])
    return View("".join(parts), starts), view.starts[cut]


def _resolved(match: re.Match[str]) -> str:
    simple, high, low, code = match.groups()
    if simple is not None:
        return _ESCAPES[simple]
    if high is not None:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    return chr(int(code, 16))


def shown(view: View) -> View:
    """Return the view without invisible characters."""
    if view.text.isascii() or _IGNORED.search(view.text) is None:
        return view
    parts, starts, at = [], array("q"), 0
    for match in _IGNORED.finditer(view.text):
        parts.append(view.text[at : match.start()])
        starts.extend(view.starts[at : match.start()])
        at = match.end()
    starts.extend(view.starts[at:])
    return View("".join([*parts, view.text[at:]]), starts)


def shown_end(text: str, start: int, end: int) -> int:
    """Return the end of a place in a text without the invisible characters at its end."""
    match = None if text[end - 1].isascii() else _IGNORED_END.search(text, max(start, end - 64), end)
    return match.start() if match is not None else end


def folded(view: View) -> View:
    """Return a view in which letters that differ only in case, width or composition are equal, without invisible characters."""
    text = view.text
    if text.isascii():
        return View(text.lower(), view.starts)
    plain = text.casefold()
    is_simple = len(plain) == len(text) and unicodedata.is_normalized("NFKC", text) and unicodedata.is_normalized("NFKC", plain)
    if is_simple and _IGNORED.search(text) is None:
        return View(plain, view.starts)
    parts, starts, at = [], array("q"), 0
    while at < len(text):
        end = at + 1
        while end < len(text) and end - at < MAX_CLUSTER_CHARS and text[end] > "\u02ff" and _extends(text[end]):
            end += 1
        part = folded_text(text[at:end])
        parts.append(part)
        starts.extend(view.starts[at:end] if len(part) == end - at else [view.starts[at]] * len(part))
        at = end
    starts.append(view.starts[at])
    return View("".join(parts), starts)


@lru_cache(maxsize=4096)
def folded_text(text: str) -> str:
    """Return a short text as `folded` shows it."""
    form = unicodedata.normalize("NFKC", text).casefold()
    return _IGNORED.sub("", unicodedata.normalize("NFKC", form))


@lru_cache(maxsize=4096)
def _extends(char: str) -> bool:
    """Return whether a character may combine with the one before it."""
    return unicodedata.category(char)[0] == "M" or "\u1160" <= char <= "\u11ff" or "\uff9e" <= char <= "\uffdc"
