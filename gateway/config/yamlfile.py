"""A YAML file as a tree of scalars, lists and mappings, each with its line and column.

A file must be one document without tags or repeated keys. Aliases count by their expanded size, so that a small file
cannot grow large. Scalars stay text until their type is known, so `no` and `1e3` are not converted by accident.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import yaml
from yaml.composer import ComposerError
from yaml.reader import Reader as _Characters

MAX_BYTES = 16 << 20
"""Maximum size of a file. A file with 100,000 virtual keys has about 11 MiB."""
MAX_DEPTH = 32
MIN_MAX_NODES = 50_000
BYTES_PER_NODE = 8
"""A file may have one value for each BYTES_PER_NODE bytes of its size, or MIN_MAX_NODES values if that is more."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_NESTED_ALIAS = "an alias contains itself, or is nested too deeply"


class Place(msgspec.Struct, frozen=True, gc=False):
    """A line and a column, counted from 1."""

    line: int
    column: int


class YamlError(Exception):
    """The text is not YAML, is too large, or uses a feature that is not supported.

    `place` is the position of the problem, or the beginning of the text if the position is unknown.
    """

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.message = message
        self.place = place


class _TreeError(YamlError):
    """A problem of a key, merge or alias. It is reported at the end: the text may have a problem further on that explains it."""


class Scalar(msgspec.Struct, frozen=True, gc=False):
    """One value as text. `plain` means without quotes, and `null` means without a value."""

    place: Place
    text: str
    plain: bool
    null: bool


class Sequence(msgspec.Struct, frozen=True, gc=False):
    """A list."""

    place: Place
    items: tuple[Node, ...]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One key of a mapping: its place and its value."""

    place: Place
    value: Node


class Mapping(msgspec.Struct, frozen=True, gc=False):
    """A mapping. `repeated` has each duplicate key with its place and the line of the first entry with that key."""

    place: Place
    entries: dict[str, Entry]
    repeated: tuple[tuple[str, Place, int], ...] = ()


Node = Scalar | Sequence | Mapping


def parse(data: bytes) -> Node:
    """Return the tree of one YAML document. Raise YamlError if it is invalid or too large."""
    if len(data) > MAX_BYTES:
        raise YamlError(f"the file is larger than {MAX_BYTES >> 20} MiB", Place(1, 1))
    text = _decode(data)
    max_nodes = max(MIN_MAX_NODES, len(data) // BYTES_PER_NODE)
    try:
        root = _Tree(max_nodes).read(text)
    except yaml.MarkedYAMLError as error:
        raise _friendly(error, text) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise YamlError(f"not valid YAML: {error}", Place(1, 1)) from None
    if root is None or (isinstance(root, Scalar) and root.null):
        raise YamlError("the file is empty", Place(1, 1))
    return root


def _decode(data: bytes) -> str:
    """Decode UTF-8. Raise YamlError for bytes that are not UTF-8 and for characters that YAML forbids."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        raise YamlError(f"not UTF-8 text (byte 0x{data[error.start]:02x})", _place_after(before)) from None
    forbidden = _Characters.NON_PRINTABLE.search(text)
    if forbidden is not None:
        raise YamlError(
            f"the character U+{ord(forbidden.group()):04X} is not allowed in YAML",
            _place_after(text[: forbidden.start()]),
        )
    return text


def _place_after(text: str) -> Place:
    """Return the place directly after `text`."""
    return Place(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


class _OpenSequence:
    """A list whose end has not been read."""

    def __init__(self, place: Place, anchor: str | None) -> None:
        self.place = place
        self.anchor = anchor
        self._items: list[Node] = []

    def add(self, node: Node) -> None:
        """Add the next value."""
        self._items.append(node)

    def closed(self) -> tuple[Node, int]:
        """Return the list and the number of its values."""
        return Sequence(self.place, tuple(self._items)), len(self._items)


class _OpenMapping:
    """A mapping whose end has not been read."""

    def __init__(self, place: Place, anchor: str | None) -> None:
        self.place = place
        self.anchor = anchor
        self.merged: list[Mapping] = []
        self._key: Node | None = None
        self._entries: dict[str, Entry] = {}
        self._repeated: list[tuple[str, Place, int]] = []

    def add(self, node: Node) -> None:
        """Add the next key, or the value of the last key. Raise _TreeError if it cannot be a key, or cannot be merged."""
        key = self._key
        if key is None:
            self._key = node
            if type(node) is not Scalar:
                raise _TreeError("a key must be text, not a list or a mapping", node.place)
            return
        self._key = None
        if type(key) is not Scalar:
            return
        text, entries = key.text, self._entries
        if text == "<<" and key.plain:
            self._merge(node)
        elif text in entries:
            self._repeated.append((text, key.place, entries[text].place.line))
        else:
            entries[text] = Entry(key.place, node)

    def _merge(self, node: Node) -> None:
        parts = node.items if isinstance(node, Sequence) else (node,)
        if not all(isinstance(part, Mapping) for part in parts):
            raise _TreeError("'<<' must be followed by the alias of a mapping", node.place)
        self.merged += [part for part in parts if isinstance(part, Mapping)]

    def closed(self) -> tuple[Node, int]:
        """Return the mapping and the number of its values. If it merges several mappings, the first has priority."""
        entries = self._entries
        for mapping in self.merged:
            entries = {**mapping.entries, **entries}
        return Mapping(self.place, entries, tuple(self._repeated)), len(entries)


class _Tree:
    """Reads one tree in one pass, counting aliases by their expanded size.

    Problems of the text, such as excessive depth or a tag, are raised at once. Those of anchors and of the tree follow at the end.
    """

    def __init__(self, max_nodes: int) -> None:
        self._max_nodes = max_nodes
        self._count = 1
        self._root: Node | None = None
        self._documents = 0
        self._open: list[_OpenSequence | _OpenMapping] = []
        self._anchors: dict[str, Node | Place] = {}
        """The value of each anchor, or its place while its end has not been read."""
        self._has_aliases = False
        self._anchor_error: yaml.MarkedYAMLError | None = None
        self._error: _TreeError | None = None

    def read(self, text: str) -> Node | None:
        """Return the tree, or None if the text has no document."""
        steps: dict[type, Callable[[Any], None]] = {
            yaml.ScalarEvent: self._scalar, yaml.AliasEvent: self._alias, yaml.DocumentStartEvent: self._document,
            yaml.MappingStartEvent: self._start, yaml.SequenceStartEvent: self._start,
            yaml.MappingEndEvent: self._end, yaml.SequenceEndEvent: self._end,
        }  # fmt: skip
        loader = _Loader(text)
        try:
            for count, event in enumerate(iter(loader.get_event, None)):
                if count > 2 * self._max_nodes:
                    raise YamlError(f"more than {self._max_nodes} values", _place(event))
                if (step := steps.get(type(event))) is None:
                    continue
                try:
                    step(event)
                except _TreeError as error:
                    self._error = self._error or error
        finally:
            loader.dispose()
        if problem := self._anchor_error or self._error:
            raise problem
        if self._root is not None and (self._has_aliases or self._count > self._max_nodes):
            self._count = 0
            self._check_size(self._root, 0)
        return self._root

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            raise YamlError("more than one document ('---'): a file must contain only one", _place(event))

    def _scalar(self, event: Any) -> None:
        if event.tag is not None:
            raise _tag_error(event)
        text, mark = event.value, event.start_mark
        plain = not event.style  # None or "", depending on the loader
        node = Scalar(Place(mark.line + 1, mark.column + 1), text, plain, plain and text in _NULLS)
        if event.anchor is not None:
            self._name(event.anchor, node, event)
        self._add(node)

    def _start(self, event: Any) -> None:
        place = _place(event)
        if len(self._open) >= MAX_DEPTH:
            raise YamlError(f"nested deeper than {MAX_DEPTH} levels", place)
        if event.tag is not None:
            raise _tag_error(event)
        if event.anchor is not None:
            self._name(event.anchor, place, event)
        self._open.append((_OpenMapping if type(event) is yaml.MappingStartEvent else _OpenSequence)(place, event.anchor))

    def _end(self, event: Any) -> None:
        opened = self._open.pop()
        if type(opened) is _OpenMapping and opened.merged:
            self._count += sum(len(mapping.entries) for mapping in opened.merged)
            if self._count > self._max_nodes:  # merging them all could take very long
                self._error = self._error or self._too_many(opened.place)
                opened.merged = []
        node, count = opened.closed()
        self._count += count
        if opened.anchor is not None:
            self._anchors[opened.anchor] = node
        self._add(node)

    def _alias(self, event: Any) -> None:
        self._has_aliases = True
        node = self._anchors.get(event.anchor)
        if node is None:
            self._anchor_error = self._anchor_error or ComposerError(None, None, "found undefined alias", event.start_mark)
        elif isinstance(node, Place):
            self._error = self._error or _TreeError(_NESTED_ALIAS, node)
        known = None if isinstance(node, Place) else node
        self._add(known or Scalar(_place(event), "", plain=True, null=True))

    def _name(self, anchor: str, node: Node | Place, event: Any) -> None:
        """Remember the value of an anchor."""
        if anchor in self._anchors and self._anchor_error is None:
            first = "found duplicate anchor; first occurrence"
            self._anchor_error = ComposerError(first, None, "second occurrence", event.start_mark)
        self._anchors[anchor] = node

    def _add(self, node: Node) -> None:
        if self._open:
            self._open[-1].add(node)
        else:
            self._root = node

    def _check_size(self, node: Node, depth: int) -> None:
        """Raise YamlError for the first value beyond the limits on the number and depth of values, with aliases expanded."""
        self._count += 1
        if self._count > self._max_nodes:
            raise self._too_many(node.place)
        if depth > MAX_DEPTH:
            raise _TreeError(_NESTED_ALIAS, node.place)
        if isinstance(node, Sequence):
            for item in node.items:
                self._check_size(item, depth + 1)
        elif isinstance(node, Mapping):
            for entry in node.entries.values():
                self._check_size(entry.value, depth + 1)

    def _too_many(self, place: Place) -> _TreeError:
        return _TreeError(f"aliases expand to more than {self._max_nodes} values", place)


def _tag_error(event: Any) -> YamlError:
    return YamlError(f"the tag {event.tag[:60]!r} is not supported: remove it", _place(event))


def _place(event: Any) -> Place:
    mark = event.start_mark
    return Place(mark.line + 1, mark.column + 1)


def _friendly(error: yaml.MarkedYAMLError, text: str) -> YamlError:
    """Return PyYAML's error as one line, with the fix for the most frequent mistakes."""
    mark = error.problem_mark or error.context_mark
    place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
    lines = text.splitlines()
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    reason = " ".join(f"{error.context or ''} {error.problem or ''}".split())
    if "\t" in line[: place.column] and not line[: place.column].replace("\t", " ").strip():
        return YamlError("a tab is not allowed here: indent with spaces", place)
    if re.search(r"(?<![\"'])\$\{", line):
        return YamlError('not valid YAML: inside { } and [ ] a variable needs quotes: "${NAME}"', place)
    if "alias" in reason and "undefined" not in reason:
        return YamlError('not valid YAML: a name that starts with * needs quotes: "*"', place)
    return YamlError(f"not valid YAML: {reason}", place)


def describe_node(node: Node) -> str:
    """Return the kind of a node, without its content, which may be a secret in the wrong place."""
    if isinstance(node, Scalar):
        return "nothing" if node.null else "text"
    return "a list" if isinstance(node, Sequence) else "a mapping"
