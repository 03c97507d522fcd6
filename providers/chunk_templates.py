"""`ChunkTemplates`: chunks that differ from an earlier one only in values without effect are not decoded.

Most chunks of a stream differ in this way only. The first chunk of each form is decoded. In later chunks of the same form, the bytes around
the values are replaced with the bytes that were sent for the first chunk, or kept if the first chunk was sent unchanged. At first only the
texts of a chunk may vary. When a chunk also differs in other values, such as an id of its own, these values may vary from then on.
"""

from __future__ import annotations

from collections.abc import Sequence

from providers.chunk_leaves import TEXT, USAGE, Leaf, Path, leaves_of
from providers.chunk_template import (
    END,
    IDENTITY,
    START,
    CallTexts,
    ChunkTemplate,
    around_leaves,
    make_template,
    text_template,
)
from providers.chunk_values import is_text

_NEVER_REPAIRED = IDENTITY | {("obfuscation",)}
_ALWAYS_VARY = frozenset({"obfuscation", "logprobs"})
_MAX_TEMPLATES = 16
_MAX_SHAPES = 64
_PATIENCE = 3
"""After this number of unused templates in a row, plus one for each choice, no more are made for the stream."""


class ChunkTemplates:
    """The templates of one stream."""

    __slots__ = (
        "_any_values",
        "_newest",
        "_pending",
        "_shapes",
        "_templates",
        "_unused",
        "_usage_source",
        "_varying",
        "gave_up",
    )

    def __init__(self, *, any_values: bool = True) -> None:
        """Without `any_values`, only texts, identity and usage may vary, because a vendor's repair of chunks may depend on other values."""
        self._any_values = any_values
        self._shapes: dict[tuple[str, ...], tuple[list[str], ChunkTemplate | None]] = {}
        """By the text around the leaves of a chunk: the leaves of the newest chunk like it, and its template."""
        self._varying: frozenset[Path] = frozenset()
        self._templates: list[ChunkTemplate] = []
        self._newest: ChunkTemplate | None = None
        self._pending: list[tuple[bytes, ChunkTemplate]] = []
        """Chunks that are not yet in `_shapes`, and their templates."""
        self._unused = 0
        self._usage_source = ""
        self.gave_up = False
        """Whether templates are of no use for the stream, so that no more are made."""

    @property
    def frame(self) -> tuple[bytes, bytes] | None:
        """The bytes around the text of events like the latest one, if such events need no change and their text need not be stored."""
        newest = self._newest
        return newest.plain[:2] if newest is not None and newest.plain is not None and not newest.receivers else None

    def convert(self, events: bytes, *, hide_usage: bool = True) -> bytes | None:
        """Return the bytes to send for complete events, or None if one of them fits no template.

        With `hide_usage`, usage is left out of the events and kept for `take_usage`. Without `hide_usage`, events with usage fit no
        template.
        """
        newest = self._newest
        if newest is None:
            return None
        if newest.plain is not None and _is_plain(events, *newest.plain):
            if newest.receivers:
                prefix, suffix, between, _ = newest.plain
                newest.receive([[events[len(prefix) : -len(suffix)].replace(between, b"").decode()]])
            self._unused = 0
            return events
        try:
            source = events.decode()
        except UnicodeDecodeError:
            return None
        converted = newest.convert(source) if hide_usage or not newest.has_usage else None
        if converted is None:
            return self._convert_each(source, hide_usage)
        sent, columns = converted
        if newest.receivers:
            newest.receive(columns)
        if newest.has_usage:
            self._usage_source = source
        self._unused = 0
        return events if sent is source else sent.encode()

    def _convert_each(self, events: str, hide_usage: bool) -> bytes | None:
        """Return the bytes to send for events of several kinds, or None if they cannot be converted."""
        *lines, rest = events.split(END)
        if rest or len(self._templates) < 2:
            return None
        sent: list[str] = []
        received: list[tuple[ChunkTemplate, list[Sequence[str]]]] = []
        usage_source = self._usage_source
        for line in lines:
            event = line + END
            for template in self._templates:
                converted = template.convert(event)
                if converted is not None:
                    break
            else:
                return None
            if template.has_usage:
                if not hide_usage:
                    return None
                usage_source = event
            sent.append(converted[0])
            if template.receivers:
                received.append((template, converted[1]))
        self._newest = template
        self._usage_source = usage_source
        for template, columns in received:
            template.receive(columns)
        self._unused = 0
        return "".join(sent).encode()

    def take_usage(self) -> bytes | None:
        """Return the newest chunk whose usage was left out, as it was received, and forget the chunk."""
        source, self._usage_source = self._usage_source, ""
        return source[: -len(END)].rpartition(END)[2][len(START) :].encode() if source else None

    def would_hide_usage(self, data: bytes) -> bool:
        """Return whether `convert` would convert this chunk and leave out its usage."""
        newest = self._newest
        return newest is not None and newest.has_usage and newest.convert(_read_event(data) + END) is not None

    def gives_up(self, choices: int) -> bool:
        """Return whether to make no more templates for a stream with this number of choices. True is final."""
        if not self.gave_up and self._unused >= _PATIENCE + choices:
            self.gave_up = True
            self._templates, self._newest = [], None
            self._shapes.clear()
        return self.gave_up

    def miss(self) -> None:
        """Count a chunk that cannot become a template."""
        self._unused += 1

    def learn(
        self, given: bytes, sent: bytes, call_texts: CallTexts | None = None, *, names_calls: bool = False
    ) -> None:
        """Remember how a chunk was sent. `names_calls` is true if each piece of arguments comes with the name of its function."""
        self._unused += 1
        event = _read_event(given)
        texts = call_texts or {}
        is_new = not any(template.receivers for template in self._templates) if texts else not self._templates
        if is_new and sent is given and self._any_values and not names_calls:
            first = text_template(event, texts)
            if first is not None:
                self._pending.append((given, first))
                self._templates = [first, *self._templates[: _MAX_TEMPLATES - 1]]
                self._newest = first
                return
        for earlier, template in self._pending:
            shape, raws, _ = self._shape_of(_read_event(earlier))
            self._shapes.setdefault(shape, (raws, template))
        self._pending.clear()
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        around, raws, leaves = self._shape_of(event)
        if around not in self._shapes and sent is not given:
            self._shapes[around] = raws, None  # the next chunk of this shape shows what varies
            return
        old_raws, old = self._shapes.get(around, (raws, None))
        self._varying |= {leaf.path for leaf, new, known in zip(leaves, raws, old_raws, strict=True) if new != known}
        chosen = [leaf for leaf in leaves if _varies(leaf) or leaf.path in self._varying]
        is_unchanged = sent is given and not any(leaf.path in IDENTITY for leaf in chosen)
        made = make_template(event, chosen, None if is_unchanged else _read_event(sent), texts, names_calls)
        self._shapes[around] = raws, made
        if made is not None:
            self._newest = made
            self._templates = [made, *[other for other in self._templates if other is not old][: _MAX_TEMPLATES - 1]]

    def _shape_of(self, event: str) -> tuple[tuple[str, ...], list[str], list[Leaf]]:
        """Return the text around the leaves that may vary, the text of each of them, and the leaves."""
        leaves = [leaf for leaf in leaves_of(event, len(START)) or () if self._may_vary(leaf)] if event else []
        return tuple(around_leaves(event, leaves)), [event[leaf.start : leaf.end] for leaf in leaves], leaves

    def _may_vary(self, leaf: Leaf) -> bool:
        if leaf.kind == TEXT:
            return bool(leaf.value)
        return self._any_values or leaf.kind == USAGE or leaf.path in _NEVER_REPAIRED

    def forget_calls(self) -> None:
        """Forget the templates of tool calls, because another call began."""
        self._templates = [template for template in self._templates if not template.receivers]
        self._pending = [pending for pending in self._pending if not pending[1].receivers]
        self._newest = self._templates[0] if self._templates else None
        self._shapes = {
            around: (raws, template)
            for around, (raws, template) in self._shapes.items()
            if template is None or not template.receivers
        }


def _varies(leaf: Leaf) -> bool:
    """Return whether a leaf is assumed to vary, given only one chunk."""
    return leaf.kind in (TEXT, USAGE) or (leaf.path[-1] in _ALWAYS_VARY and leaf.value is not None)


def _read_event(data: bytes) -> str:
    """Return a chunk as an event without its end. The result is empty if the chunk is not one line of text."""
    try:
        return "" if data.find(b"\n") >= 0 else START + data.decode()
    except UnicodeDecodeError:
        return ""


def _is_plain(events: bytes, prefix: bytes, suffix: bytes, between: bytes, size: int) -> bool:
    """Return whether there are only texts between these bytes, which is the common case."""
    if not events.startswith(prefix) or not events.endswith(suffix) or len(events) < size:
        return False
    try:
        joined = events[len(prefix) : -len(suffix)].replace(between, b" ").decode()
    except UnicodeDecodeError:
        return False
    return ('"' not in joined and "\\" not in joined and joined.isprintable()) or is_text(joined) is not None
