"""Splits a stream into its events, and keeps the fields that hooks do not change.

A stream consists of server-sent events, or of lines with one JSON value each (NDJSON).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from gateway.errors import GatewayError
from gateway.streams.line_ends import with_lf

MAX_EVENT_BYTES = 4 << 20
_MARK = b"\xef\xbb\xbf"
_decode = msgspec.json.Decoder().decode


class Frame(NamedTuple):
    """One event. `head` has its lines other than those of the data: `event`, `id`, `retry` and comments."""

    head: bytes
    name: bytes
    data: bytes

    @property
    def object(self) -> dict[str, Any] | None:
        """The JSON object that is the data of the event, or None if the data is not one."""
        if self.data.lstrip()[:1] != b"{":
            return None
        try:
            value: Any = _decode(self.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return value if type(value) is dict else None


class Framer:
    """Splits bytes, in pieces of any size and with any of the three line ends, into events."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._is_after_cr = False
        self._mark: bytes | None = b""
        """The beginning of the stream while it may be a part of a byte order mark, then None."""

    @property
    def is_in_event(self) -> bool:
        """Whether a part of an event has arrived, but not its end."""
        return bool(self._rest.strip(b"\n"))

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that a piece completes, with LF as the line end and without the empty line after each.

        Raise GatewayError if an event is too large.
        """
        if self._mark is not None:
            self._mark += data
            if len(self._mark) < len(_MARK) and _MARK.startswith(self._mark):
                return []
            data, self._mark = self._mark.removeprefix(_MARK), None
        if self._is_after_cr or b"\r" in data:
            data, self._is_after_cr = with_lf(data, self._is_after_cr)
        searched = max(0, len(self._rest) - 1)
        self._rest += data
        end = self._rest.rfind(b"\n\n", searched)
        if len(self._rest) - max(0, end) > MAX_EVENT_BYTES:
            raise _too_large("an event")
        if end < 0:
            return []
        whole = bytes(self._rest[:end])
        del self._rest[: end + 2]
        return [event.strip(b"\n") for event in whole.split(b"\n\n") if event.strip(b"\n")]

    def read(self, event: bytes) -> Frame:
        """Return the fields of an event."""
        return read_frame(event)

    def written(self, head: bytes, data: bytes) -> bytes:
        """Return the bytes of an event with this data. `head` has the lines before the data."""
        return head + b"data: " + data + b"\n\n"

    def passed(self, event: bytes) -> bytes:
        """Return an event that `feed` returned, with the blank line that ends it."""
        return event + b"\n\n"


class LineFramer:
    """Splits bytes, in pieces of any size, into lines, each of which is an event."""

    def __init__(self) -> None:
        self._rest = bytearray()

    @property
    def is_in_event(self) -> bool:
        """Whether a part of a line has arrived, but not its end."""
        return bool(self._rest.strip())

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that a piece completes, without their line ends and without blank lines.

        Raise GatewayError if a line is too large.
        """
        searched = len(self._rest)
        self._rest += data
        end = self._rest.rfind(b"\n", searched)
        if len(self._rest) - max(0, end) > MAX_EVENT_BYTES:
            raise _too_large("a line")
        if end < 0:
            return []
        whole = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return [line.strip() for line in whole.split(b"\n") if line.strip()]

    def read(self, event: bytes) -> Frame:
        """Return the fields of an event."""
        return Frame(b"", b"", event)

    def written(self, head: bytes, data: bytes) -> bytes:
        """Return the bytes of an event with this data. A line has no `head`."""
        return data + b"\n"

    def passed(self, event: bytes) -> bytes:
        """Return an event that `feed` returned, with its line end."""
        return event + b"\n"


def _too_large(what: str) -> GatewayError:
    return GatewayError(f"The provider sent {what} that is too large for hooks.", status=502, code="upstream_bad_response")


def read_frame(event: bytes) -> Frame:
    """Return the fields of an event."""
    head, name, data = [], b"", []
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
            continue
        head.append(line + b"\n")
        if field == b"event":
            name = value.removeprefix(b" ")
    return Frame(b"".join(head), name, b"\n".join(data))
