"""`ChunkTemplates` converts chunks that differ from an earlier one in a text alone, without decoding them.

Most chunks of a stream are of this kind. The first one of each kind is decoded. In the later ones, the bytes around the text are
replaced with those that were sent for the first one, or kept if those were unchanged.
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
_OBFUSCATION = re.compile(r'"obfuscation":\s?"([A-Za-z0-9]+)"')
"""OpenAI pads chunks with a random word."""
_LOGPROBS = re.compile(r'"logprobs":\s?\{"content":\s?(?=\[)')
_is_text = re.compile(_TEXT).fullmatch
_decode = msgspec.json.Decoder().decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_raw_decode = json.JSONDecoder().raw_decode
_START, _END = "data: ", "\n\n"
_MAX_TEMPLATES = 16
_MAX_UNUSED = 32
"""After this number of unused templates in a row, no more are made for the stream."""


def _are_texts(values: list[str]) -> bool:
    joined = "".join(values)
    if '"' not in joined and "\\" not in joined and joined.isprintable():
        return True
    return all(_is_text(value) for value in values)


def _are_words(values: list[str]) -> bool:
    return "".join(values).isalnum()


def _are_lists(values: list[str]) -> bool:
    try:
        for value in values:
            _decode_list(value)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


_Check = Callable[[list[str]], bool]


class _Parts(NamedTuple):
    """A chunk split into constant parts (`literals`) and the varying parts between them (`values`), each with a check."""

    literals: list[str]
    values: list[str]
    checks: list[_Check]


class _Template:
    """A chunk whose text varies, as it arrived and as it was sent."""

    __slots__ = ("_between", "_checks", "_middle", "_prefix", "_sent", "_sent_between", "_start", "_suffix", "call_text", "plain")

    def __init__(self, given: _Parts, sent: list[str], call_text: list[str] | None) -> None:
        self._prefix, *self._middle, suffix = given.literals
        self._suffix = suffix + _END
        self._start = len(self._prefix)
        self._between = self._suffix + self._prefix
        self._checks = given.checks
        self._sent = None if sent == given.literals else sent
        self._sent_between = sent[-1] + _END + sent[0]
        self.call_text = call_text
        """The arguments so far of the tool call that the text belongs to."""
        self.plain: tuple[bytes, bytes, bytes, int] | None = None
        """The bytes around a text and their number, if nothing else varies and nothing changes."""
        if not self._middle and self._sent is None:
            ends = (self._prefix.encode(), self._suffix.encode(), self._between.encode())
            self.plain = (*ends, len(ends[0]) + len(ends[1]))

    def convert(self, events: str) -> tuple[str, list[str]] | None:
        """Return the events to send and the texts in them, or None if an event does not fit."""
        prefix, suffix = self._prefix, self._suffix
        if not events.startswith(prefix) or not events.endswith(suffix) or len(events) < self._start + len(suffix):
            return None
        rows = events[self._start : -len(suffix)].split(self._between)
        columns = [rows]
        for literal in self._middle:
            pairs = [row.partition(literal) for row in columns[-1]]
            if not all(found for _, found, _ in pairs):
                return None
            columns[-1:] = [[value for value, _, _ in pairs], [rest for _, _, rest in pairs]]
        for check, values in zip(self._checks, columns, strict=True):
            if not check(values):
                return None
        if self._sent is None:
            return events, columns[0]
        for literal, values in zip(self._sent[-2:0:-1], columns[-2::-1], strict=True):
            columns[-1] = [value + literal + rest for value, rest in zip(values, columns[-1], strict=True)]
        return f"{self._sent[0]}{self._sent_between.join(columns[-1])}{self._sent[-1]}{_END}", columns[0]


class ChunkTemplates:
    """The templates of one stream."""

    __slots__ = ("_newest", "_templates", "_unused")

    def __init__(self) -> None:
        self._templates: list[_Template] = []
        self._newest: _Template | None = None
        self._unused = 0

    @property
    def frame(self) -> tuple[bytes, bytes] | None:
        """The bytes around the text of events like the latest one, if such events need no change and their text need not be stored."""
        newest = self._newest
        return newest.plain[:2] if newest is not None and newest.plain is not None and newest.call_text is None else None

    def convert(self, events: bytes) -> bytes | None:
        """Return the bytes to send for complete events, or None if one of them fits no template."""
        newest = self._newest
        if newest is None:
            return None
        if newest.plain is not None and (plain := _read_plain(events, *newest.plain)) is not None:
            if newest.call_text is not None:
                _receive(newest.call_text, [plain.replace(newest.plain[2], b"").decode()])
            self._unused = 0
            return events
        try:
            source = events.decode()
        except UnicodeDecodeError:
            return None
        converted = newest.convert(source)
        if converted is None:
            return self._convert_each(source)
        sent, texts = converted
        if newest.call_text is not None:
            _receive(newest.call_text, texts)
        self._unused = 0
        return events if sent is source else sent.encode()

    def _convert_each(self, events: str) -> bytes | None:
        """Convert events of several kinds, or return None if one of them fits no template."""
        *lines, rest = events.split(_END)
        if rest:
            return None
        sent: list[str] = []
        received: list[tuple[list[str], list[str]]] = []
        for line in lines:
            for template in self._templates:
                converted = template.convert(line + _END)
                if converted is not None:
                    break
            else:
                return None
            sent.append(converted[0])
            self._newest = template
            if template.call_text is not None:
                received.append((template.call_text, converted[1]))
        for call_text, texts in received:
            _receive(call_text, texts)
        self._unused = 0
        return "".join(sent).encode()

    def learn(self, given: bytes, sent: bytes, text: str, call_text: list[str] | None = None) -> None:
        """Remember how a chunk with this text was sent."""
        if self._unused >= _MAX_UNUSED:
            return
        before, after = _split(given, text), _split(sent, text)
        if before is None or after is None or before.checks != after.checks:
            return
        if call_text is not None and _NAME.search(before.literals[0]):
            return  # a name may begin another call, depending on the arguments
        self._unused += 1
        self._newest = _Template(before, after.literals, call_text)
        self._templates = [self._newest, *self._templates[: _MAX_TEMPLATES - 1]]

    def forget_calls(self) -> None:
        """Forget the templates of tool calls, because another call began."""
        self._templates = [template for template in self._templates if template.call_text is None]
        self._newest = self._templates[0] if self._templates else None


def _read_plain(events: bytes, prefix: bytes, suffix: bytes, between: bytes, size: int) -> bytes | None:
    """Return the texts between these bytes, or None if anything else varies. This is the common case."""
    if not events.startswith(prefix) or not events.endswith(suffix) or len(events) < size:
        return None
    texts = events[len(prefix) : -len(suffix)]
    try:
        joined = texts.replace(between, b" ").decode()
    except UnicodeDecodeError:
        return None
    if ('"' in joined or "\\" in joined or not joined.isprintable()) and _is_text(joined) is None:
        return None
    return texts


def _receive(call_text: list[str], texts: list[str]) -> None:
    call_text += [_decode(f'"{text}"') if "\\" in text else text for text in texts]


def _split(data: bytes, text: str) -> _Parts | None:
    """Return the parts of a chunk; the first value is the text. Return None if the text does not occur exactly once."""
    if b"\n" in data:
        return None
    try:
        event = _START + data.decode()
        matches = [match for match in _TEXTS.finditer(event) if _decode(f'"{match[1]}"') == text]
    except (UnicodeDecodeError, msgspec.DecodeError):
        return None
    if len(matches) != 1:
        return None
    spans: list[tuple[int, int, _Check]] = [(*matches[0].span(1), _are_texts)]
    obfuscation = _OBFUSCATION.search(event, spans[0][1])
    if obfuscation is not None:
        spans.append((*obfuscation.span(1), _are_words))
    logprobs = _LOGPROBS.search(event, spans[0][1])
    if logprobs is not None:
        try:
            spans.append((logprobs.end(), _raw_decode(event, logprobs.end())[1], _are_lists))
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
