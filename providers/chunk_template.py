"""`ChunkTemplate`: a chunk in which some values vary, as it was received and as it was sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from providers.chunk_leaves import TEXT, USAGE, VALUE, Leaf, leaves_of
from providers.chunk_values import are_filled_texts, are_texts, are_usages, are_values, continue_arguments

START, END = "data: ", "\n\n"
"""The text before and after the chunk of an event."""
IDENTITY = frozenset({("id",), ("created",), ("model",)})
"""Paths of values that are the same in all chunks that are sent."""

CallTexts = Mapping[tuple[int, int], list[str]]
"""For each tool call in a sent chunk, the pieces of its arguments so far, by the positions of choice and tool call."""
_decode = msgspec.json.Decoder().decode
_find_texts = re.compile(r'"(content|reasoning_content|text|arguments)":\s?"((?:[^"\\\x00-\x1f]|\\.)+)"').finditer
_Check = Callable[[Sequence[str]], bool]


_CHECKS: Mapping[str, _Check] = {TEXT: are_texts, VALUE: are_values, USAGE: are_usages}


class ChunkTemplate:
    """A chunk in which some values vary, as it was received and as it was sent."""

    __slots__ = (
        "_between", "_checks", "_form", "_middle", "_prefix", "_sent_between", "_sent_ends", "_slots", "_start", "_suffix",
        "has_usage", "plain", "receivers",
    )  # fmt: skip

    def __init__(
        self,
        literals: list[str],
        checks: list[_Check],
        sent: tuple[list[str], list[int]] | None,
        receivers: list[tuple[int, list[str]]],
        *,
        has_usage: bool,
    ) -> None:
        """Create a template. `literals` are the texts around the values; `sent` has the texts to send, and the values' indexes."""
        self._prefix, *self._middle, suffix = literals
        self._suffix = suffix + END
        self._start = len(self._prefix)
        self._between = self._suffix + self._prefix
        self._checks = checks
        self._form: str | None = None
        self._slots: list[int] = []
        if sent is not None:
            pieces, self._slots = sent
            self._form = "%s".join([piece.replace("%", "%%") for piece in pieces]) + END
            self._sent_ends = (pieces[0], pieces[-1] + END)
            self._sent_between = pieces[-1] + END + pieces[0]
        self.receivers = receivers
        """For each value that is an argument text of a tool call: its index, and the arguments of the call so far."""
        self.has_usage = has_usage
        """Whether one of the values is a usage, which is not sent."""
        self.plain: tuple[bytes, bytes, bytes, int] | None = None
        """If only one text varies and nothing changes: the bytes before, after and between texts, and the size of the first two."""
        if sent is None and checks == [are_texts]:
            ends = (self._prefix.encode(), self._suffix.encode(), self._between.encode())
            self.plain = (*ends, len(ends[0]) + len(ends[1]))

    def convert(self, events: str) -> tuple[str, list[Sequence[str]]] | None:
        """Return the events to send and the values in `events`, or None if an event does not fit."""
        prefix, suffix = self._prefix, self._suffix
        if not events.startswith(prefix) or not events.endswith(suffix) or len(events) < self._start + len(suffix):
            return None
        columns: list[Sequence[str]] = [events[self._start : -len(suffix)].split(self._between)]
        for literal in self._middle:
            column, found, rest = zip(*[row.partition(literal) for row in columns.pop()], strict=True)
            if "" in found:
                return None
            columns += (column, rest)
        for check, values in zip(self._checks, columns, strict=True):
            if not check(values):
                return None
        form, slots = self._form, self._slots
        if form is None:
            return events, columns
        if not slots:
            return form % () * len(columns[-1]), columns
        if len(slots) == 1:
            return f"{self._sent_ends[0]}{self._sent_between.join(columns[slots[0]])}{self._sent_ends[1]}", columns
        return "".join([form % values for values in zip(*[columns[slot] for slot in slots], strict=True)]), columns

    def receive(self, columns: list[Sequence[str]]) -> None:
        """Add the arguments of tool calls to those already received."""
        for column, call_text in self.receivers:
            call_text += [_unescaped(text) if "\\" in text else text for text in columns[column]]


def around_leaves(event: str, leaves: Sequence[Leaf]) -> list[str]:
    """Return the texts around the leaves."""
    ends = [0, *[leaf.end for leaf in leaves]]
    starts = [*[leaf.start for leaf in leaves], len(event)]
    return [event[end:start] for end, start in zip(ends, starts, strict=True)]


def text_template(event: str, call_texts: CallTexts) -> ChunkTemplate | None:
    """Return the template of a chunk that is sent unchanged, or None if a text search does not find exactly one text in the chunk."""
    if '"obfuscation"' in event or '"logprobs":{' in event or len(call_texts) != ('"tool_calls"' in event):
        return None
    texts = list(_find_texts(event))
    if len(texts) != 1 or (texts[0][1] == "arguments") is not bool(call_texts):
        return None
    start, end = texts[0].span(2)
    receivers = [(0, call_text) for call_text in call_texts.values()]
    return ChunkTemplate([event[:start], event[end:]], [are_texts], None, receivers, has_usage=False)


def make_template(
    event: str, leaves: list[Leaf], sent: str | None, call_texts: CallTexts, names_calls: bool
) -> ChunkTemplate | None:
    """Return the template of an event in which these leaves vary. `sent` is the event that was sent, if it differs.

    Return None if there are no leaves, or if their values are not found in the event that was sent.
    """
    sent_leaves = None if sent is None else leaves_of(sent, len(START)) or []
    checks: list[_Check] = []
    slots: list[tuple[Leaf, int]] = []
    receivers: list[tuple[int, list[str]]] = []
    for column, leaf in enumerate(leaves):
        check = _CHECKS[leaf.kind]
        targets = [leaf] if sent_leaves is None else _targets(leaf, leaves, sent_leaves)
        if targets is None:
            return None
        for target in targets:
            if "tool_calls" in target.path:
                call_text = call_texts.get((target.path[1], target.path[4]))  # type: ignore[arg-type]
                if call_text is None:
                    return None
                receivers.append((column, call_text))
                check = continue_arguments if names_calls else are_texts
            elif target.path != leaf.path:
                check = are_filled_texts
        slots += [(target, column) for target in targets]
        checks.append(check)
    changed = None
    if sent is not None:
        slots.sort(key=lambda slot: slot[0].start)
        changed = around_leaves(sent, [target for target, _ in slots]), [column for _, column in slots]
    has_usage = any(leaf.kind == USAGE for leaf in leaves)
    return (
        ChunkTemplate(around_leaves(event, leaves), checks, changed, receivers, has_usage=has_usage) if leaves else None
    )


def _targets(leaf: Leaf, leaves: list[Leaf], sent: list[Leaf]) -> list[Leaf] | None:
    """Return the places of a leaf's value in the chunk that was sent, or None if they are uncertain. Usage and identity have no places."""
    if leaf.kind == USAGE or leaf.path in IDENTITY:
        return []
    if leaf.kind != TEXT:
        return [other for other in sent if other.path == leaf.path and other.value == leaf.value] or None

    def equals(other: Leaf) -> bool:
        return other.kind == TEXT and other.path[:2] == leaf.path[:2] and other.value == leaf.value

    if any(other is not leaf and equals(other) for other in leaves):
        return None
    return [other for other in sent if equals(other)] or None


def _unescaped(text: str) -> str:
    """Return the inside of a JSON string as text, or unchanged if it has half a surrogate pair."""
    try:
        result: str = _decode(f'"{text}"')
    except msgspec.DecodeError:
        return text
    return result
