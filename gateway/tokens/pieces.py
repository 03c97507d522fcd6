"""Splits a text into the pieces that an encoding merges separately, with the same result as the regular expressions of the encodings.

Python's expressions have no classes such as `\\p{Lu}`. A text that is not ASCII is therefore translated first: each character
becomes an ASCII character of its class. The expressions then need only ASCII, and the lengths of the matches give the pieces.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate, pairwise

from gateway.tokens.vocabulary import FOLDER, NUMBER_BYTES

UPPER, LOWER, CASELESS, MARK, NUMBER, SPACE, OTHER = "A", "a", "\x01", "\x02", "0", "\t", "!"
"""The character that represents each class of characters beyond ASCII. The letters are not those of contractions."""
CLASSES_FILE = FOLDER / "classes.bin"
MAX_KNOWN_CHARACTERS = 20_000

_SPACE = r"[ \t-\r]"
"""Unlike `\\s` in Python, without the control characters 0x1c to 0x1f."""
_CONTRACTION = r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
_SPACES = rf"{_SPACE}*[\r\n]+|{_SPACE}+(?![^ \t-\r])|{_SPACE}+"


def _o200k(caseless: str, mark: str) -> str:
    start = rf"[^\r\n0-9A-Za-z{caseless}]?"
    upper, lower = f"[A-Z{caseless}{mark}]", f"[a-z{caseless}{mark}]"
    words = rf"{start}{upper}*{lower}+(?:{_CONTRACTION})?|{start}{upper}+{lower}*(?:{_CONTRACTION})?"
    return rf"{words}|[0-9]{{1,3}}| ?[^ \t-\r0-9A-Za-z{caseless}]+[\r\n/]*|{_SPACES}"


def _cl100k(caseless: str, _mark: str) -> str:
    words = rf"{_CONTRACTION}|[^\r\n0-9A-Za-z{caseless}]?[A-Za-z{caseless}]+"
    return rf"{words}|[0-9]{{1,3}}| ?[^ \t-\r0-9A-Za-z{caseless}]+[\r\n]*|{_SPACES}"


PATTERNS = {"o200k_base": _o200k, "cl100k_base": _cl100k}
"""For each encoding, the function that returns its expression, given the characters for two classes."""


class SlowTextError(Exception):
    """The texts need more steps than a count on the event loop may take."""


class Classes(dict[int, str]):
    """For each character, as `str.translate` needs it, the character of its class. Classes are looked up once per character."""

    def __init__(self) -> None:
        """Read the file of classes. Raise OSError if it is missing."""
        self.steps = 0
        """Maximum number of characters that may still be looked up. `str.translate` raises SlowTextError beyond it."""
        contents = CLASSES_FILE.read_bytes()
        count = len(contents) // (NUMBER_BYTES + 1)
        self._first = array("I", contents[: count * NUMBER_BYTES])
        self._class = contents[count * NUMBER_BYTES :].decode()

    def __missing__(self, code: int) -> str:
        if self.steps <= 0:
            raise SlowTextError
        self.steps -= 1
        found = self._class[bisect_right(self._first, code) - 1]
        if code < 0x80 and chr(code) not in (CASELESS, MARK):
            found = chr(code)  # the expressions handle ASCII
        if len(self) >= MAX_KNOWN_CHARACTERS:
            self.clear()
        self[code] = found
        return found


def splitter(name: str, classes: Classes) -> Callable[[str, int], tuple[list[str], int]]:
    """Return the function that splits texts for an encoding.

    The function takes a text and a number of steps. It returns the pieces and the remaining steps, or raises SlowTextError. In a
    text that is not ASCII, each character whose class is not known takes one step.
    """
    in_ascii = re.compile(PATTERNS[name]("", "")).findall
    in_classes = re.compile(PATTERNS[name](CASELESS, MARK)).findall

    def split(text: str, steps: int) -> tuple[list[str], int]:
        if text.isascii():
            return in_ascii(text), steps
        classes.steps = steps
        ends = accumulate(map(len, in_classes(text.translate(classes))), initial=0)
        return [text[start:end] for start, end in pairwise(ends)], classes.steps

    return split
