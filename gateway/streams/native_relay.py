"""Relays a stream in the caller's own format: the bytes of the upstream, in pieces of any size.

After the first content, a piece is searched for the marks of the events that matter (the beginning, the usage, an
error, the end). It is split into events only if it contains such a mark, and only the events with a mark are read. The
rules are those of `gateway.streams.relay`: up to MAX_HELD_BYTES are held before the first content; a stream succeeds if it has
a finish reason; events that arrived before a failure are sent.

`end` returns the event with the finish reason and all later events, so that a receipt can be added to them. All events are
rewritten if lines end with CR or CRLF, if events lack the names that Anthropic's clients need, or if a text contains half a
character.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

import msgspec

from gateway.streams.chunks import UNREADABLE_ERRORS, OpeningChunk
from gateway.streams.mended_json import EventMender, has_escaped_half, mended
from gateway.streams.relay import MAX_HELD_BYTES
from gateway.streams.sse import MAX_EVENT_BYTES, Event, EventParser, EventTooLargeError
from providers.base import Failure, StreamFailure, Usage

EventKind = Literal["frame", "content", "finish", "end"]
"""The role of an event: no content yet, content, the finish reason, or the last event."""
_MARK = b"\xef\xbb\xbf"


class EventReader(Protocol):
    """Reads the events of one stream that matter to the gateway."""

    marks: tuple[bytes, ...]
    """Byte strings: each event that must be read after the first content contains one. All other events are content."""
    content_mark: bytes
    """A byte string that occurs once in each event with content. Its occurrences are counted to estimate missing usage."""
    finish_reasons: tuple[str | None, ...]
    stop: str | None
    """The stop string that ended the answer."""

    @property
    def usage(self) -> Usage | None:
        """The usage reported so far."""
        ...

    def read(self, name: str, data: bytes) -> EventKind:
        """Read an event, given its name ("" if it has none) and its data. Raise StreamFailure if the event is an error."""
        ...

    def ending(self) -> bytes:
        """Return the event that ends a stream."""
        ...

    def with_receipt(self, events: bytes, receipt: bytes) -> bytes:
        """Return the last events of a stream with a receipt, which is JSON."""
        ...


class NativeRelay:
    """The state machine of one stream. It has the interface of `Relay`."""

    __slots__ = (
        "_failure", "_held", "_held_size", "_mender", "_most", "_parser", "_pending", "_sent", "_surplus", "_tail",
        "chunks", "done", "opening", "reader", "started",
    )  # fmt: skip

    def __init__(self, reader: EventReader, *, max_events: float = float("inf")) -> None:
        """A stream with more than `max_events` content events is ended."""
        self.reader = reader
        self._most = max_events
        self._parser: EventParser | None = None
        """Parses the lines of a stream whose events are rewritten."""
        self._mender: EventMender | None = None
        self._pending = b""
        self._held: list[bytes] = []
        self._held_size = 0
        self._tail: list[bytes] = []
        """The event with the finish reason, and the events after it."""
        self._failure: StreamFailure | None = None
        self._sent = False
        self._surplus = 0
        self.started = False
        """Whether events were released."""
        self.done = False
        """Whether the last event or a failure arrived."""
        self.chunks = 0
        self.opening = OpeningChunk()
        """The identity of chat chunks, which a stream of another API lacks."""

    @property
    def usage(self) -> Usage | None:
        """The usage reported so far; None before the first content, when the answer may still come from another target."""
        return self.reader.usage if self.started else None

    @property
    def usage_event(self) -> bytes:
        """Return nothing: the usage is in the events that are passed on."""
        return b""

    @property
    def finish_reasons(self) -> tuple[str | None, ...]:
        """The finish reason, as a chat completion names it."""
        return self.reader.finish_reasons

    @property
    def finished(self) -> bool:
        """Whether the answer is complete."""
        return bool(self.reader.finish_reasons) and self._failure is None

    @property
    def normalised(self) -> int:
        """Number of irregularities that were removed from the stream."""
        return self._surplus + (self._parser.normalised if self._parser is not None else 0)

    def discard(self, rest: bytes) -> bool:
        """Discard data after the end. Return whether any data besides blank lines has followed the end so far.

        Data other than blank lines counts as an irregularity.
        """
        self._surplus += bool(rest.strip())
        return self._surplus > 0

    def feed(self, piece: bytes) -> bytes:
        """Return the bytes to send for a piece of the body, possibly b"".

        Raise StreamFailure if an event is too large, or if the stream fails before anything was sent.
        """
        if self._pending:
            piece, self._pending = self._pending + piece, b""
        whole = self._unify(piece) if self._parser is not None or piece.find(b"\r") >= 0 else self._cut(piece)
        return self._count(self._pass(whole)) if whole else b""

    def _cut(self, piece: bytes) -> bytes:
        """Return the complete events in a piece, and keep the rest."""
        end = piece.rfind(b"\n\n") + 2
        if end == len(piece) > 1:
            return piece
        end = 0 if end < 2 else end
        self._pending = piece[end:]
        if len(self._pending) > MAX_EVENT_BYTES:
            raise _too_large()
        return piece[:end]

    def _unify(self, piece: bytes) -> bytes:
        """Return the complete events in a piece, rewritten with LF as the line end."""
        try:
            events = self._parse_lines().feed(piece)
        except EventTooLargeError:
            raise _too_large() from None
        return self._rewrite(events)

    def _parse_lines(self) -> EventParser:
        """Return the parser, through which all following pieces pass."""
        if self._parser is None:
            self._parser = EventParser()
            self._parser.plain = False
        return self._parser

    def _rewrite(self, events: Iterable[Event]) -> bytes:
        """Return the bytes of events with their names. Events that wait for the other half of a character are held."""
        if self._mender is not None:
            events = [ready for name, data in events for ready in self._mender.feed(name, data)]
        return b"".join([_written(name or _type_of(data), data) for name, data in events])

    def _begin_mending(self, whole: bytes) -> bytes:
        """Repair these events and all that follow. Return the bytes of the events that need no further half character."""
        self._parse_lines()
        self._mender = EventMender()
        return self._rewrite([event for event in map(_parsed, whole[:-2].split(b"\n\n")) if event[1]])

    def _count(self, out: bytes) -> bytes:
        """Count the events that are sent, and end a stream that is far longer than its output limit."""
        if out:
            self._sent = True
            self.chunks += out.count(self.reader.content_mark)
            if self.chunks > self._most and not self.done:
                self.done = True
                message = f"the stream continued after {self.chunks} events, far beyond its output limit"
                self._failure = StreamFailure(Failure("limit", message))
        return out

    def _pass(self, whole: bytes) -> bytes:
        """Return the bytes to send for complete events."""
        if whole.find(b"\\u") >= 0 and self._mender is None and has_escaped_half(whole):
            whole = self._begin_mending(whole)
            if not whole:
                return b""
        if self.started and not self._tail:
            for mark in self.reader.marks:
                if mark in whole:
                    break
            else:
                return whole
        out: list[bytes] = []
        try:
            self._read(whole, out)
        except StreamFailure as failure:
            if not self._sent:
                raise
            self._failure, self.done = failure, True
        sent = b"".join(out)
        if not self.started:
            return self._hold(sent)
        return self._release() + sent if self._held else sent

    def _read(self, whole: bytes, out: list[bytes]) -> None:
        """Read complete events. Append to `out` the events to send now."""
        events = whole[:-2].split(b"\n\n")
        for at, event in enumerate(events):
            if self.started and not self._tail and self._parser is None:
                for mark in self.reader.marks:
                    if mark in event:
                        break
                else:
                    out.append(event + b"\n\n")
                    continue
            name, data = _parsed(event)
            kind: EventKind = "frame"
            if data:
                if not name and (name := _type_of(data)):
                    self._parse_lines()
                    event = _written(name, data)[:-2]
                kind, read = self._kind(name, data)
                event = event if read is data else _written(name, read)[:-2]
            if kind in ("finish", "end") or self._tail:
                self.started = True
                self._tail.append(event + b"\n\n")
            else:
                self.started = self.started or kind == "content"
                out.append(event + b"\n\n")
            if kind == "end":
                self.done = True
                self._surplus += sum(1 for rest in events[at + 1 :] if rest.strip()) + bool(self._pending.strip())
                return

    def _kind(self, name: str, data: bytes) -> tuple[EventKind, bytes]:
        """Return the kind of an event, and its data, repaired if it was not valid JSON."""
        try:
            return self.reader.read(name, data), data
        except UNREADABLE_ERRORS as error:
            reason = type(error).__name__
        try:
            if (repaired := mended(data)) is not None:
                return self.reader.read(name, repaired), repaired
        except UNREADABLE_ERRORS:
            pass
        raise StreamFailure(Failure("bad_event", f"an event of the stream cannot be read: {reason}"))

    def _hold(self, out: bytes) -> bytes:
        if out:
            self._held.append(out)
            self._held_size += len(out)
        if self._held_size <= MAX_HELD_BYTES:
            return b""
        self.started = True
        return self._release()

    def _release(self) -> bytes:
        held, self._held = b"".join(self._held), []
        return held

    def end(self) -> bytes:
        """Return the last bytes to send: held events, and the events from the finish reason on.

        Raise StreamFailure if the stream failed, or if it ended before it had a finish reason.
        """
        out = b""
        if not self.done and (self._pending.strip() or self._parser is not None):
            out = self._last_event()
        if self._mender is not None and not self.done:
            out += self._count(self._pass(rest)) if (rest := self._flush(self._mender)) else b""
        if self._failure is not None:
            raise self._failure
        if not self.finished:
            raise StreamFailure(Failure("truncated" if self.started else "closed_pre", "the stream ended without a finish reason"))
        self.started = True
        if not self.done:
            self._tail.append(self.reader.ending())
        return self._release() + out + b"".join(self._tail)

    def _flush(self, mender: EventMender) -> bytes:
        return b"".join([_written(name or _type_of(data), data) for name, data in mender.flush()])

    def _last_event(self) -> bytes:
        """Return the bytes to send for an event without a blank line after it. A fragment after a complete answer is ignored."""
        try:
            out = self.feed(b"\n\n")
            if self._failure is None:
                return out
            raise self._failure
        except StreamFailure as failure:
            if failure.failure.kind != "bad_event":
                raise
        self._failure, self.done = None, False
        if not self.finished:
            raise StreamFailure(Failure("truncated", "the stream ended inside an event"))
        return b""


class _Typed(msgspec.Struct):
    type: str = ""


_read_typed = msgspec.json.Decoder(_Typed).decode


def _type_of(data: bytes) -> str:
    """Return the type of an event, which is also its name, or "" if it has none."""
    try:
        return _read_typed(data).type
    except (msgspec.DecodeError, RecursionError):
        return ""


def _too_large() -> StreamFailure:
    return StreamFailure(Failure("too_large", "an event of the stream exceeds 1 MiB"))


def _written(name: str, data: bytes) -> bytes:
    head = b"event: %b\n" % name.encode() if name else b""
    return head + b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"


def _parsed(event: bytes) -> tuple[str, bytes]:
    """Return the name and the data of an event whose lines end with LF."""
    name, data = "", []
    for line in event.removeprefix(_MARK).split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ").decode(errors="replace")
    return name, b"\n".join(data)
