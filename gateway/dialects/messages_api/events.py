"""Writes the events of a Messages stream: content blocks in sequence, each opened and closed, with one type per index."""

from __future__ import annotations

from typing import Any

from gateway.dialects.messages_api.fields import encode

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":%b}}\n\n'
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'


class BlockWriter:
    """The content blocks of one stream. At most one is open."""

    __slots__ = ("_index", "kind", "out")

    def __init__(self) -> None:
        self._index = -1
        self.kind = ""
        """The type of the open block, "" if none is open."""
        self.out: list[bytes] = []
        """The events that have not been taken yet."""

    def take(self) -> bytes:
        """Return the events written since the last call."""
        written = b"".join(self.out)
        self.out.clear()
        return written

    def open(self, kind: str, block: dict[str, Any]) -> None:
        """Open a block, after closing the open one."""
        self.close()
        self._index += 1
        self.kind = kind
        self.out.append(_START % (self._index, encode({"type": kind, **block})))

    def delta(self, kind: bytes, field: bytes, value: bytes) -> None:
        """Add a delta to the open block. `value` is JSON."""
        self.out.append(_DELTA % (self._index, kind, field, value))

    def close(self) -> None:
        """Close the open block, if there is one."""
        if self.kind:
            self.out.append(_STOP % self._index)
            self.kind = ""

    def text(self, value: bytes) -> None:
        """Add text. `value` is a JSON string."""
        if self.kind != "text":
            self.open("text", {"text": ""})
        self.out.append(_DELTA % (self._index, b"text_delta", b"text", value))


def message_start(id: str, model: str, usage: dict[str, Any]) -> bytes:
    """Return the first event of a stream."""
    message: dict[str, Any] = {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    return b"event: message_start\ndata: " + encode({"type": "message_start", "message": message}) + b"\n\n"


def message_delta(delta: dict[str, Any], usage: dict[str, Any], more: dict[str, Any]) -> bytes:
    """Return the event with the stop reason and the usage."""
    event = {"type": "message_delta", "delta": delta, "usage": usage, **more}
    return b"event: message_delta\ndata: " + encode(event) + b"\n\n"
