"""Server-sent events, bytes in and events out, for any chunking and any of the three line ends.

The parser is a pure state machine. Lines end at CR, LF or CRLF and nowhere else (U+2028, U+2029 and U+0085 are ordinary text
inside JSON). What OpenAI's clients choke on (`id:`, `retry:`, empty data, a byte order mark) is counted and left out.
"""

from __future__ import annotations

Event = tuple[str, bytes]
"""The `event:` name ("" if none) and the data, several data lines joined by LF."""

MAX_EVENT = 1 << 20
"""Bytes that one event may take before the stream is given up."""


class EventTooLarge(ValueError):
    """An event grew past MAX_EVENT without ending."""


class EventParser:
    """Events of one stream. `feed` returns the events that a piece completes; `end` what an unterminated last event held."""

    __slots__ = ("_data", "_data_size", "_name", "_pending", "_start", "normalised", "plain")

    def __init__(self) -> None:
        self._pending = b""
        self._data: list[bytes] = []
        self._data_size = 0
        self._name = ""
        self._start = True
        self.normalised = 0
        """How many things were left out or rewritten on the way."""
        self.plain: bytes | None = None
        """The bytes of the last feed's events, when they are already in the form `data: ...`, blank line; else None."""

    def feed(self, piece: bytes) -> list[Event]:
        """The events completed by `piece`; EventTooLarge when one passes MAX_EVENT."""
        if self._pending:
            piece = self._pending + piece
            self._pending = b""
        if self._start and piece:
            self._start = piece == b"\xef\xbb" or piece == b"\xef"
            if self._start:
                self._pending = piece
                return []
            if piece.startswith(b"\xef\xbb\xbf"):
                self.normalised += 1
                piece = piece[3:]
        if not self._data and not self._name and b"\r" not in piece:
            events = self._feed_plain(piece)
            if events is not None:
                return events
        return self._feed_lines(piece)

    def _feed_plain(self, piece: bytes) -> list[Event] | None:
        """The common case without a loop over lines: every event is one `data: ` line. None when it is not."""
        end = piece.rfind(b"\n\n") + 2
        if end < 2:
            return self._hold(piece)
        whole = piece if end == len(piece) else piece[:end]
        events: list[Event] = []
        for event in whole[:-2].split(b"\n\n"):
            if event[:6] != b"data: " or b"\n" in event or len(event) == 6:
                return None
            events.append(("", event[6:]))
        if end != len(piece):
            self._hold(piece[end:])
        self.plain = whole
        return events

    def _hold(self, rest: bytes) -> list[Event]:
        if len(rest) > MAX_EVENT:
            raise EventTooLarge
        self._pending = rest
        self.plain = None
        return []

    def _feed_lines(self, piece: bytes) -> list[Event]:
        """Any input, line by line. A CR at the very end waits, as an LF may follow it."""
        self.plain = None
        held = b""
        if piece.endswith(b"\r"):
            piece, held = piece[:-1], b"\r"
        if b"\r" in piece:
            self.normalised += 1
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = piece.split(b"\n")
        events: list[Event] = []
        for line in lines:
            if line:
                self._line(line)
            else:
                self._dispatch(events)
        if len(rest) + self._data_size > MAX_EVENT:
            raise EventTooLarge
        self._pending = rest + held
        return events

    def _line(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if field == b"data":
            self._data.append(value)
            self._data_size += len(value)
            if self._data_size > MAX_EVENT:
                raise EventTooLarge
        elif field == b"event":
            self._name = value.decode(errors="replace")
        elif field:
            self.normalised += 1

    def _dispatch(self, events: list[Event]) -> None:
        data = b"\n".join(self._data)
        if data:
            events.append((self._name, data))
        elif self._data:
            self.normalised += 1
        self._data.clear()
        self._data_size = 0
        self._name = ""

    def end(self) -> list[Event]:
        """The last event, when the stream ended without the blank line after it."""
        pending, self._pending = self._pending, b""
        return self._feed_lines(pending.rstrip(b"\r") + b"\n\n")
