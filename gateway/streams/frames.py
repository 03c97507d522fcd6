"""WebSocket frames (RFC 6455), without I/O: the ends of frames, the messages that contain a mark, and close frames."""

from __future__ import annotations

import os
from collections.abc import Callable

MAX_MESSAGE_BYTES = 1 << 20
"""Maximum size of a message that arrives in pieces and is searched for a mark. A longer one is not searched."""
GOING_AWAY = 1001
POLICY_VIOLATION = 1008
SERVICE_RESTART = 1012
_FINAL = 0x80
_MASKED = 0x80
_OPCODE = 0x0F
_CONTINUATION, _TEXT, _CLOSE = 0x0, 0x1, 0x8
_FIRST_CONTROL = 0x8
_MAX_HEAD_BYTES = 14


class FrameReader:
    """Follows the frames of one direction. Payloads are not decoded, and frames may arrive in pieces of any size."""

    __slots__ = ("_head", "_in_head", "_left", "first", "is_closed", "is_masked")

    def __init__(self) -> None:
        self.is_closed = False
        """Whether a close frame has passed completely."""
        self.first = 0
        """The first byte of the current frame: the final flag and the opcode."""
        self.is_masked = False
        self._head = b""
        self._in_head = True
        self._left = 0

    @property
    def is_between_frames(self) -> bool:
        """Whether the last frame is complete, so that another frame may be inserted."""
        return self._in_head and not self._head

    def feed(self, data: bytes) -> None:
        """Read a piece of the direction's bytes."""
        at, end = 0, len(data)
        while at < end:
            at = self.read_frame(data, at)

    def read_frame(self, data: bytes, at: int) -> int:
        """Read from an offset to the end of the current frame, or of the data. Return the offset reached."""
        if self._in_head:
            head = self._head + data[at : at + _MAX_HEAD_BYTES - len(self._head)]
            size = _head_size(head)
            if len(head) < size:
                self._head = head
                return len(data)
            at += size - len(self._head)
            self._head, self._in_head = b"", False
            self.first, self.is_masked, self._left = head[0], bool(head[1] & _MASKED), _payload_size(head)
            self._begin()
        end = min(at + self._left, len(data))
        self._left -= end - at
        self._add(data, at, end)
        if not self._left:
            self._in_head = True
            if self.first & _OPCODE == _CLOSE:
                self.is_closed = True
        return end

    def _begin(self) -> None:
        """Handle the head of a frame."""

    def _add(self, data: bytes, start: int, end: int) -> None:
        """Handle a part of the payload. `_left` is 0 for the last part of a frame."""


class MessageReader(FrameReader):
    """Follows the frames, and passes each unmasked text message that contains a mark to a callback."""

    __slots__ = ("_is_text", "_mark", "_on_message", "_pieces", "_size")

    def __init__(self, mark: bytes, on_message: Callable[[bytes], None]) -> None:
        super().__init__()
        self._mark = mark
        self._on_message = on_message
        self._is_text = False
        """Whether the current data message is a text whose pieces are being kept."""
        self._pieces: list[bytes] = []
        self._size = 0

    def _begin(self) -> None:
        opcode = self.first & _OPCODE
        if _CONTINUATION < opcode < _FIRST_CONTROL:
            self._is_text = opcode == _TEXT
            self._pieces, self._size = [], 0
        if opcode < _FIRST_CONTROL and self.is_masked:
            self._is_text = False

    def _add(self, data: bytes, start: int, end: int) -> None:
        if not self._is_text or self.first & _OPCODE >= _FIRST_CONTROL:
            return
        is_complete = not self._left and bool(self.first & _FINAL)
        if is_complete and not self._pieces:  # the usual case: the message is within `data`
            if data.find(self._mark, start, end) >= 0:
                self._on_message(data[start:end])
            return
        self._pieces.append(data[start:end])
        self._size += end - start
        if self._size > MAX_MESSAGE_BYTES:
            self._is_text, self._pieces = False, []
        elif is_complete:
            message, self._pieces = b"".join(self._pieces), []
            if self._mark in message:
                self._on_message(message)


def close_frame(code: int, reason: str, *, masked: bool) -> bytes:
    """Return a close frame. Frames of a client, and only those, are masked."""
    payload = code.to_bytes(2, "big") + reason.encode()[:123].decode(errors="ignore").encode()  # at most 125 bytes of UTF-8
    if not masked:
        return bytes((_FINAL | _CLOSE, len(payload))) + payload
    mask = os.urandom(4)
    body = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((_FINAL | _CLOSE, _MASKED | len(payload))) + mask + body


def _head_size(head: bytes) -> int:
    """Return the size of a frame's head, or 2 if fewer than two of its bytes are known."""
    if len(head) < 2:
        return 2
    length = head[1] & 0x7F
    extended = {126: 2, 127: 8}.get(length, 0)
    return 2 + extended + (4 if head[1] & _MASKED else 0)


def _payload_size(head: bytes) -> int:
    length = head[1] & 0x7F
    if length < 126:
        return length
    return int.from_bytes(head[2:4] if length == 126 else head[2:10], "big")
