"""Parses server-sent events: converts bytes, in pieces of any size and with any of the three line ends, to events.

The parser is a pure state machine. Lines end at CR, LF or CRLF and nowhere else (U+2028, U+2029 and U+0085 are ordinary
text in JSON). The parser removes what OpenAI's clients reject: a byte order mark, other fields (`id:`, `retry:`) and
empty data. Such fields and empty data count as irregularities; a byte order mark, comments and other line ends do not.
"""

from __future__ import annotations

from gateway.streams.line_ends import with_lf

Event = tuple[str, bytes]
"""The `event:` name ("" if there is none) and the data. Several data lines are joined by LF."""

MAX_EVENT_BYTES = 1 << 20
"""Maximum size of one event."""


class EventTooLargeError(ValueError):
    """An event exceeds MAX_EVENT_BYTES."""


class EventParser:
    """The parser of one stream. `feed` returns the events that a piece completes, and `end` returns an unterminated last event."""

    __slots__ = ("_after_cr", "_data", "_data_size", "_name", "_start", "normalised", "pending", "plain")

    def __init__(self) -> None:
        self.pending = b""
        """Bytes of an incomplete event, or events that were put back."""
        self._data: list[bytes] = []
        self._data_size = 0
        self._name = ""
        self._start = True
        self._after_cr = False
        self.plain = True
        """Whether every event so far was one `data: ` line and a blank line. Such bytes may be passed on unchanged."""
        self.normalised = 0
        """Number of fields and empty events that were removed."""

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that `piece` completes. Raise EventTooLargeError if one exceeds MAX_EVENT_BYTES."""
        whole = self.cut(piece)
        return self.split(whole) if whole else []

    def cut(self, piece: bytes) -> bytes:
        """If `plain`, return the bytes of the events that `piece` completes and keep the rest. Otherwise return everything."""
        if self.pending:
            piece = self.pending + piece
            self.pending = b""
        if self._start:
            piece = self._skip_mark(piece)
            if self._start:
                return b""
        if not self.plain:
            return piece
        if piece.find(b"\r") >= 0:
            self.plain = False
            return piece
        end = piece.rfind(b"\n\n") + 2
        if end == len(piece) > 1:
            return piece
        if end < 2:
            end = 0
        self._hold(piece[end:])
        return piece[:end]

    def unread(self, rest: bytes) -> None:
        """Put back events that `cut` returned. The next `cut` returns them again."""
        self.pending = rest + self.pending

    def _skip_mark(self, piece: bytes) -> bytes:
        """Remove a byte order mark at the start."""
        if piece in (b"", b"\xef", b"\xef\xbb"):
            self.pending = piece
            return b""
        self._start = False
        if piece.startswith(b"\xef\xbb\xbf"):
            return piece[3:]
        return piece

    def split(self, whole: bytes) -> list[Event]:
        """Return the events in the result of `cut`. The common case needs no loop over lines."""
        if not self.plain:
            return self._feed_lines(whole)
        events: list[Event] = []
        for event in whole[:-2].split(b"\n\n"):
            if event[:6] != b"data: " or event.find(b"\n") >= 0 or len(event) == 6 or event[-1:].isspace():
                self.plain = False
                rest, self.pending = self.pending, b""
                return self._feed_lines(whole + rest)
            events.append(("", event[6:]))
        return events

    def _hold(self, rest: bytes) -> None:
        if len(rest) > MAX_EVENT_BYTES:
            raise EventTooLargeError
        self.pending = rest

    def _feed_lines(self, piece: bytes) -> list[Event]:
        """Parse any input line by line. A CR ends its line at once, even if the next piece begins with the LF that belongs to it."""
        if self._after_cr or b"\r" in piece:
            piece, self._after_cr = with_lf(piece, self._after_cr)
        *lines, rest = piece.split(b"\n")
        events: list[Event] = []
        for line in lines:
            if line:
                self._line(line)
            else:
                self._dispatch(events)
        if len(rest) + self._data_size > MAX_EVENT_BYTES:
            raise EventTooLargeError
        self.pending = rest
        return events

    def _line(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if field == b"data":
            self._data.append(value)
            self._data_size += len(value)
            if self._data_size > MAX_EVENT_BYTES:
                raise EventTooLargeError
        elif field == b"event":
            self._name = value.decode(errors="replace")
        elif field:
            self.normalised += 1

    def _dispatch(self, events: list[Event]) -> None:
        data = b"\n".join(self._data)
        if data.startswith(b"[DONE]"):
            data = data.rstrip()  # openai's client accepts white space after it
        if data:
            events.append((self._name, data))
        elif self._data:
            self.normalised += 1
        self._data.clear()
        self._data_size = 0
        self._name = ""

    def end(self) -> list[Event]:
        """Return the last event if the stream ended without a blank line after it."""
        pending, self.pending = self.pending, b""
        self.plain = False
        return self._feed_lines(pending + b"\n\n")


def first_end(whole: bytes, count: int) -> int:
    """Return the position at which the first `count` events end."""
    at = 0
    for _ in range(count):
        at = whole.find(b"\n\n", at) + 2
        if at < 2:
            return len(whole)
    return at


def last_three_start(whole: bytes) -> int:
    """Return the position at which the last three events begin: usually the finish reason, the usage and [DONE].

    Return 0 if there are no more than three.
    """
    at = len(whole) - 2
    for _ in range(3):
        at = whole.rfind(b"\n\n", 0, at)
        if at < 0:
            return 0
    return at + 2
