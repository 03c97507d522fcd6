"""Reads a stream of Cohere's chat API and checks its order. Source: docs.cohere.com on streaming."""

from __future__ import annotations

import json
from typing import Any


def read_stream(stream: bytes) -> dict[str, Any]:
    """Return the answer of a stream: its id, finish reason, message and usage. Fail if an event is out of order."""
    *lines, done = [event for event in stream.split(b"\n\n") if event and not event.startswith(b":")]
    assert done == b"data: [DONE]"
    events = []
    for line in lines:
        name, _, data = line.partition(b"\n")
        event = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        events.append(event)
    start, *middle, end = events
    assert (start["type"], end["type"]) == ("message-start", "message-end")
    message: dict[str, Any] = {"content": [], "tool_calls": []}
    open_: tuple[str, int] | None = None
    for event in middle:
        kind, _, phase = event["type"].rpartition("-")
        listed = message["content" if kind == "content" else "tool_calls"]
        delta = (event.get("delta") or {}).get("message") or {}
        if phase == "start":
            assert open_ is None
            assert event["index"] == len(listed)
            open_ = (kind, event["index"])
            listed.append(delta["content" if kind == "content" else "tool_calls"])
        elif phase == "delta":
            assert open_ == (kind, event["index"])
            _extend(listed[-1], delta)
        else:
            assert (phase, open_) == ("end", (kind, event["index"]))
            open_ = None
    if end["delta"]["finish_reason"] == "ERROR" and open_ is not None and open_[0] == "tool-call":
        message["tool_calls"].pop()  # without complete arguments, so that no client runs it
    else:
        assert open_ is None
    return {"id": start["id"], "message": message, **end["delta"], **{key: end[key] for key in end if key == "gateway"}}


def _extend(whole: dict[str, Any], delta: dict[str, Any]) -> None:
    if "content" in delta:
        for name, text in delta["content"].items():
            assert text
            whole[name] += text
    else:
        whole["function"]["arguments"] += delta["tool_calls"]["function"]["arguments"]
