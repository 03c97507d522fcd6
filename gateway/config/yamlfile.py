"""A YAML file as a tree of scalars, lists and mappings, each with its line and column.

A file must be one document without tags or repeated keys. Aliases count by their expanded size, so that a small file
cannot grow large. Scalars stay text until their type is known, so `no` and `1e3` are not converted by accident.
"""

from __future__ import annotations

import re

import msgspec
import yaml
from yaml.reader import Reader as _Characters

MAX_BYTES = 16 << 20
"""Maximum size of a file. A file with 100,000 virtual keys has about 11 MiB."""
MAX_DEPTH = 32
MIN_MAX_NODES = 50_000
BYTES_PER_NODE = 8
"""A file may have one value for each BYTES_PER_NODE bytes of its size, or MIN_MAX_NODES values if that is more."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"


class Place(msgspec.Struct, frozen=True):
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


class Scalar(msgspec.Struct, frozen=True):
    """One value as text. `plain` means without quotes, and `null` means without a value."""

    place: Place
    text: str
    plain: bool
    null: bool


class Sequence(msgspec.Struct, frozen=True):
    """A list."""

    place: Place
    items: tuple[Node, ...]


class Entry(msgspec.Struct, frozen=True):
    """One key of a mapping: its place and its value."""

    place: Place
    value: Node


class Mapping(msgspec.Struct, frozen=True):
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
        _check_events(text, max_nodes)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _friendly(error, text) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise YamlError(f"not valid YAML: {error}", Place(1, 1)) from None
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.style and root.tag == _NULL):
        raise YamlError("the file is empty", Place(1, 1))
    return _Tree(max_nodes).node(root, 0)


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


def _check_events(text: str, max_nodes: int) -> None:
    """Refuse excessive depth, too many values, tags and several documents before a tree is built."""
    depth = documents = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        place = _place(event)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        if depth > MAX_DEPTH:
            raise YamlError(f"nested deeper than {MAX_DEPTH} levels", place)
        if count > 2 * max_nodes:
            raise YamlError(f"more than {max_nodes} values", place)
        if documents > 1:
            raise YamlError("more than one document ('---'): a file must contain only one", place)
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise YamlError(f"the tag {tag[:60]!r} is not supported: remove it", place)


class _Tree:
    """Converts PyYAML's nodes, counting aliases by their expanded size."""

    def __init__(self, max_nodes: int) -> None:
        self._count = 0
        self._max_nodes = max_nodes

    def node(self, node: yaml.Node, depth: int) -> Node:
        """Return one node, converted with everything below it."""
        place = _place(node)
        self._count += 1
        if self._count > self._max_nodes:
            raise YamlError(f"aliases expand to more than {self._max_nodes} values", place)
        if depth > MAX_DEPTH:
            raise YamlError("an alias contains itself, or is nested too deeply", place)
        if isinstance(node, yaml.ScalarNode):
            plain = not node.style  # None or "", depending on the loader
            return Scalar(place, node.value, plain, plain and node.tag == _NULL)
        if isinstance(node, yaml.SequenceNode):
            return Sequence(place, tuple(self.node(item, depth + 1) for item in node.value))
        return self._mapping(node, depth)

    def _mapping(self, node: yaml.Node, depth: int) -> Mapping:
        entries: dict[str, Entry] = {}
        repeated: list[tuple[str, Place, int]] = []
        merged: list[Mapping] = []
        for key, value in node.value:
            if key.tag == _MERGE:
                merged += self._merged(value, depth + 1)
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError("a key must be text, not a list or a mapping", _place(key))
            if key.value in entries:
                repeated.append((key.value, _place(key), entries[key.value].place.line))
                continue
            entries[key.value] = Entry(_place(key), self.node(value, depth + 1))
        for mapping in merged:
            entries = {**mapping.entries, **entries}
        return Mapping(_place(node), entries, tuple(repeated))

    def _merged(self, value: yaml.Node, depth: int) -> list[Mapping]:
        """Return the mappings that `<<:` merges. If there are several mappings, the first has priority."""
        merged = self.node(value, depth)
        parts = merged.items if isinstance(merged, Sequence) else (merged,)
        if not all(isinstance(part, Mapping) for part in parts):
            raise YamlError("'<<' must be followed by the alias of a mapping", _place(value))
        return [part for part in parts if isinstance(part, Mapping)]


def _place(node: yaml.Node | yaml.Event) -> Place:
    mark = node.start_mark
    return Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)


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
