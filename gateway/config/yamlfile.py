"""A YAML file as a tree of scalars, lists and mappings, each with the line and column where it stands.

Written for one file that an operator edits: one document, no tags, no repeated keys, and no way to make a small file
grow large (aliases are counted by what they expand to). Scalars stay text: what they mean is for the reader who
knows the type wanted there, so `no` and `1e3` are never turned into something else on the way.
"""

from __future__ import annotations

import re

import msgspec
import yaml
from yaml.reader import Reader as _Characters

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 50_000

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"


class Place(msgspec.Struct, frozen=True):
    """A line and a column, both counted from 1."""

    line: int
    column: int


class YamlError(Exception):
    """The text is no YAML that we read. `place` is where reading stopped."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.message = message
        self.place = place


class Scalar(msgspec.Struct, frozen=True):
    """One value as it is written; `plain` without quotes, `null` when there is nothing."""

    place: Place
    text: str
    plain: bool
    null: bool


class Sequence(msgspec.Struct, frozen=True):
    """A list."""

    place: Place
    items: tuple[Node, ...]


class Entry(msgspec.Struct, frozen=True):
    """One key of a mapping, where it is written, and its value."""

    place: Place
    value: Node


class Mapping(msgspec.Struct, frozen=True):
    """A mapping; `repeated` are keys that were written more than once, with the place of the later one and the earlier line."""

    place: Place
    entries: dict[str, Entry]
    repeated: tuple[tuple[str, Place, int], ...] = ()


Node = Scalar | Sequence | Mapping


def parse(data: bytes) -> Node:
    """The tree of one YAML document; YamlError when it is not one, or too large."""
    if len(data) > MAX_BYTES:
        raise YamlError(f"the file is larger than {MAX_BYTES >> 20} MiB, which no configuration needs", Place(1, 1))
    text = _decode(data)
    try:
        _check_events(text)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _friendly(error, text) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise YamlError(f"not valid YAML: {error}", Place(1, 1)) from None
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.style and root.tag == _NULL):
        raise YamlError("the file is empty", Place(1, 1))
    return _Tree().node(root, 0)


def _decode(data: bytes) -> str:
    """UTF-8 text without characters that YAML forbids."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        raise YamlError(f"not UTF-8 text (byte 0x{data[error.start]:02x})", _place_after(before)) from None
    forbidden = _Characters.NON_PRINTABLE.search(text)
    if forbidden is not None:
        raise YamlError(f"the character U+{ord(forbidden.group()):04X} is not allowed in YAML", _place_after(text[: forbidden.start()]))
    return text


def _place_after(text: str) -> Place:
    """The place right behind `text`."""
    return Place(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


def _check_events(text: str) -> None:
    """Refuse what must not even be built: too deep, too much, tagged, several documents."""
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
        if count > 2 * MAX_NODES:
            raise YamlError(f"more than {MAX_NODES} values, which no configuration needs", place)
        if documents > 1:
            raise YamlError("a second document ('---'): one file has one", place)
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise YamlError(f"the tag {tag[:60]!r}: tags are not used here", place)


class _Tree:
    """Turns PyYAML's nodes into ours, counting what aliases expand to."""

    def __init__(self) -> None:
        self._count = 0

    def node(self, node: yaml.Node, depth: int) -> Node:
        """One node with everything below it."""
        place = _place(node)
        self._count += 1
        if self._count > MAX_NODES:
            raise YamlError(f"aliases expand to more than {MAX_NODES} values", place)
        if depth > MAX_DEPTH:
            raise YamlError("an alias contains itself, or is nested too deep", place)
        if isinstance(node, yaml.ScalarNode):
            plain = not node.style  # None or "", by the loader
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
        """What `<<:` brings in: a mapping, or several with the first winning."""
        found = self.node(value, depth)
        parts = found.items if isinstance(found, Sequence) else (found,)
        if not all(isinstance(part, Mapping) for part in parts):
            raise YamlError("'<<' takes the alias of a mapping", _place(value))
        return [part for part in parts if isinstance(part, Mapping)]


def _place(node: yaml.Node | yaml.Event) -> Place:
    mark = node.start_mark
    return Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)


def _friendly(error: yaml.MarkedYAMLError, text: str) -> YamlError:
    """PyYAML's error in one line, with the fix for the mistakes that are made most."""
    mark = error.problem_mark or error.context_mark
    place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
    lines = text.splitlines()
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    said = " ".join(f"{error.context or ''} {error.problem or ''}".split())
    if "\t" in line[: place.column] and not line[: place.column].replace("\t", " ").strip():
        return YamlError("a tab: YAML is indented with spaces", place)
    if re.search(r"(?<![\"'])\$\{", line):
        return YamlError('not valid YAML: inside { } and [ ] a variable needs quotes: "${NAME}"', place)
    if "alias" in said and "undefined" not in said:
        return YamlError('not valid YAML: a name that starts with * needs quotes: "*"', place)
    return YamlError(f"not valid YAML: {said}", place)
