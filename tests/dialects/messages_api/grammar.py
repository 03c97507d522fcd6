"""Reads a Messages stream as clients do, and checks its order: one block after the other, each opened and closed."""

from __future__ import annotations

import json
from typing import Any

DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
}


def read_events(stream: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream. The name of each is the type of its data."""
    assert stream.endswith(b"\n\n")
    events = []
    for event in stream[:-2].split(b"\n\n"):
        if event.startswith(b":"):
            continue
        name, data = event.split(b"\n")
        decoded = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + decoded["type"].encode()
        events.append(decoded)
    return events


def read_message(stream: bytes) -> dict[str, Any]:
    """Check the grammar of a complete stream, and return its message as clients assemble it."""
    events = [event for event in read_events(stream) if event["type"] != "ping"]
    first, *blocks, delta, stop = events
    assert first["type"] == "message_start"
    message: dict[str, Any] = first["message"]
    assert message["content"] == []
    assert (message["type"], message["role"], message["stop_reason"]) == ("message", "assistant", None)
    assert (delta["type"], stop) == ("message_delta", {"type": "message_stop"})
    opened: dict[str, Any] | None = None
    arguments = ""
    for event in blocks:
        if event["type"] == "content_block_start":
            assert opened is None, "a block is open"
            opened, arguments = event["content_block"], ""
            assert event["index"] == len(message["content"])
            message["content"].append(opened)
            continue
        assert opened is not None, "no block is open"
        assert event["index"] == len(message["content"]) - 1
        if event["type"] == "content_block_stop":
            if opened["type"] == "tool_use":
                opened["arguments"] = arguments
            opened = None
            continue
        assert event["type"] == "content_block_delta"
        piece = event["delta"]
        assert piece["type"] in DELTAS[opened["type"]]
        if piece["type"] == "input_json_delta":
            arguments += piece["partial_json"]
        else:
            _add(opened, piece)
    assert opened is None, "the last block is open"
    message |= delta["delta"]
    message["usage"] |= delta["usage"]
    return message


def _add(block: dict[str, Any], piece: dict[str, Any]) -> None:
    kind = piece["type"].removesuffix("_delta")
    if kind == "citations":
        block.setdefault("citations", []).append(piece["citation"])
    else:
        block[kind] += piece[kind]
