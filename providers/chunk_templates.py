"""`ChunkTemplates`: chunks that differ from an earlier one in a text alone are converted without decoding them.

Most chunks of a stream are of this sort. What was done to the first of them is done to the others: the bytes around the text are
replaced by those that were sent then, or kept if they were kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

_TEXT = r'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*'
_TEXTS = re.compile(rf'"(?:content|text|reasoning_content|reasoning|thinking|arguments)":\s?"({_TEXT})"')
_NAME = re.compile(r'"name":\s?"[^"]')
_OBFUSCATION = re.compile(r'"obfuscation":\s?"([A-Za-z0-9]*)"')
"""OpenAI pads chunks with a random word."""
_LOGPROBS = re.compile(r'"logprobs":\s?\{"content":\s?(?=\[)')
_is_text = re.compile(_TEXT).fullmatch
_decode = msgspec.json.Decoder().decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_raw_decode = json.JSONDecoder().raw_decode
_START = "data: "
_MAX_TEMPLATES = 16
_MAX_UNUSED = 32
"""A stream that gets no use from so many templates gets no more."""


def _is_json_text(value: str) -> bool:
    return ('"' not in value and "\\" not in value and value.isprintable()) or _is_text(value) is not None


def _is_word(value: str) -> bool:
    return not value or value.isalnum()


def _is_list(value: str) -> bool:
    try:
        _decode_list(value)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


_Check = Callable[[str], bool]


class _Parts(NamedTuple):
    """A chunk as what stays the same (`literals`) and what varies between it (`values`), each with its check."""

    literals: list[str]
    values: list[str]
    checks: list[_Check]


class _Template:
    """A chunk whose text varies, as it came and as it was sent."""

    __slots__ = ("_checks", "_literals", "_size", "_tail", "call_text", "is_changed", "prefix", "sent", "suffix")

    def __init__(self, given: _Parts, sent: list[str], call_text: list[str] | None) -> None:
        self.prefix, *self._literals = given.literals
        self.suffix = self._literals.pop()
        self._checks = given.checks
        self._size = len(self.prefix) + len(self.suffix)
        self._tail = len(self.suffix)
        self.sent = sent
        self.is_changed = sent != given.literals
        self.call_text = call_text
        """The arguments so far of the tool call that the text belongs to."""

    def read(self, event: str) -> list[str] | None:
        """Return what varies in an event. None if the event does not fit."""
        if not event.startswith(self.prefix) or not event.endswith(self.suffix) or len(event) < self._size:
            return None
        if not self._literals:
            text = event[len(self.prefix) : -self._tail]
            if ('"' in text or "\\" in text or not text.isprintable()) and _is_text(text) is None:
                return None
            return [text]
        values = []
        start = len(self.prefix)
        for literal in self._literals:
            end = event.find(literal, start)
            if end < 0:
                return None
            values.append(event[start:end])
            start = end + len(literal)
        if start > len(event) - self._tail:
            return None
        values.append(event[start : -self._tail])
        return values if all(check(value) for check, value in zip(self._checks, values, strict=True)) else None

    def write(self, values: list[str]) -> str:
        """Return the event to send."""
        first, *others = self.sent
        return first + "".join([value + literal for value, literal in zip(values, others, strict=True)])


class ChunkTemplates:
    """The templates of one stream."""

    __slots__ = ("_newest", "_templates", "_unused")

    def __init__(self) -> None:
        self._templates: list[_Template] = []
        self._newest: _Template | None = None
        self._unused = 0

    def convert(self, events: bytes) -> bytes | None:
        """Return the bytes to send for complete events. None if one of them fits no template."""
        template = self._newest
        if template is None:
            return None
        try:
            lines = events.decode().split("\n\n")
        except UnicodeDecodeError:
            return None
        if lines.pop():
            return None
        sent = lines
        pieces: list[tuple[list[str], str]] = []
        for position, line in enumerate(lines):
            values = template.read(line)
            if values is None:
                for template in self._templates:
                    values = template.read(line)
                    if values is not None:
                        break
                else:
                    return None
            if template.is_changed:
                if sent is lines:
                    sent = lines.copy()
                sent[position] = template.write(values)
            if template.call_text is not None:
                pieces.append((template.call_text, values[0]))
        for call_text, raw in pieces:
            call_text.append(_decode(f'"{raw}"') if "\\" in raw else raw)
        self._newest = template
        self._unused = 0
        return events if sent is lines else ("\n\n".join(sent) + "\n\n").encode()

    def learn(self, given: bytes, sent: bytes, text: str, call_text: list[str] | None = None) -> None:
        """Remember how a chunk with this text was sent."""
        if self._unused >= _MAX_UNUSED:
            return
        before, after = _split(given, text), _split(sent, text)
        if before is None or after is None or before.checks != after.checks:
            return
        if call_text is not None and _NAME.search(before.literals[0]):
            return  # its meaning depends on the arguments
        self._unused += 1
        self._newest = _Template(before, after.literals, call_text)
        self._templates = [self._newest, *self._templates[: _MAX_TEMPLATES - 1]]

    def forget_calls(self) -> None:
        """Forget the templates of tool calls, because another call began."""
        self._templates = [template for template in self._templates if template.call_text is None]
        self._newest = self._templates[0] if self._templates else None


def _split(data: bytes, text: str) -> _Parts | None:
    """Return a chunk as an event in parts, the text in the first value. None if the text is not found exactly once."""
    if b"\n" in data:
        return None
    try:
        event = _START + data.decode()
        matches = [match for match in _TEXTS.finditer(event) if _decode(f'"{match[1]}"') == text]
    except (UnicodeDecodeError, msgspec.DecodeError):
        return None
    if len(matches) != 1:
        return None
    spans: list[tuple[int, int, _Check]] = [(*matches[0].span(1), _is_json_text)]
    obfuscation = _OBFUSCATION.search(event, spans[0][1])
    if obfuscation is not None:
        spans.append((*obfuscation.span(1), _is_word))
    logprobs = _LOGPROBS.search(event, spans[0][1])
    if logprobs is not None:
        try:
            spans.append((logprobs.end(), _raw_decode(event, logprobs.end())[1], _is_list))
        except ValueError:
            return None
    spans.sort(key=lambda span: span[0])
    parts = _Parts([], [], [])
    start = 0
    for first, end, check in spans:
        parts.literals.append(event[start:first])
        parts.values.append(event[first:end])
        parts.checks.append(check)
        start = end
    parts.literals.append(event[start:])
    return parts
