"""The grammar of docs/streams.md: the guarantees for every caller's stream, whatever the upstream sends."""

from __future__ import annotations

import json
from typing import Any

import msgspec

_decode = msgspec.json.Decoder(dict[str, Any]).decode
REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})


class Message:
    """The message that a client assembles from the deltas of one choice."""

    def __init__(self) -> None:
        self.text = self.reasoning = ""
        self.calls: list[list[str]] = []
        """Id, name and arguments of each call."""
        self.finish: str | None = None
        self.has_role = False

    def add(self, choice: dict[str, Any]) -> None:
        """Add a delta. Raise AssertionError if it breaks the grammar."""
        delta, reason = choice["delta"], choice.get("finish_reason")
        assert type(delta) is dict
        assert ("role" in delta) is not self.has_role, "a choice has its role once, in its first delta"
        if not self.has_role:
            assert delta["role"] == "assistant"
            self.has_role = True
        content = delta.get("content")
        if content is not None:
            assert type(content) is str
            self.text += content
        self.reasoning += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls") or ():
            self._add_call(call)
        if reason is not None:
            assert reason in REASONS
            assert self.finish is None, "a choice ends once"
            self.finish = reason
        else:
            assert self.finish is None or not any(delta.values()), "nothing follows the end of a choice"

    def _add_call(self, call: dict[str, Any]) -> None:
        index, function = call["index"], call["function"]
        if index == len(self.calls):
            assert call["id"]
            assert call["type"] == "function"
            assert function["name"]
            self.calls.append([call["id"], function["name"], function["arguments"]])
        else:
            assert 0 <= index < len(self.calls), "calls are numbered from 0 in their order"
            assert not call.get("id"), "a call opens once"
            assert not function.get("name")
            self.calls[index][2] += function["arguments"]

    def parsed_calls(self) -> tuple[tuple[str, Any], ...]:
        """Return name and arguments of each call."""
        assert len({call_id for call_id, _, _ in self.calls}) == len(self.calls)
        return tuple((name, json.loads(arguments)) for _, name, arguments in self.calls)


def read_stream(sent: bytes) -> tuple[dict[int, Message], dict[str, Any] | None]:
    """Return the messages by choice and the usage of the events before [DONE]. Raise AssertionError if they break the grammar."""
    messages: dict[int, Message] = {}
    usage: dict[str, Any] | None = None
    identity: tuple[Any, ...] | None = None
    assert sent.endswith(b"\n\n")
    for event in sent[:-2].split(b"\n\n"):
        assert event[:6] == b"data: "
        assert b"\n" not in event
        chunk = _decode(event[6:])
        found = chunk["id"], chunk["object"], chunk["created"], chunk["model"]
        identity = identity or found
        assert found == identity, "all chunks have one identity"
        assert usage is None, "the usage is last"
        usage = chunk.get("usage")
        assert usage is None or chunk["choices"] == [], "the usage has a chunk of its own"
        for choice in chunk["choices"]:
            index = choice["index"]
            message = messages.get(index)
            if message is None:
                message = messages[index] = Message()
            message.add(choice)
    assert identity is not None
    assert identity[0]
    assert identity[1] == "chat.completion.chunk"
    assert type(identity[2]) is int
    assert type(identity[3]) is str
    return messages, usage
