"""A scripted upstream that makes an agent call tools: write a file, run a command, read the file, then answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.behaviours import canned, chat_chunk
from tests.faults.upstream_server import Exchange

TASK = "Task 4711: write note.txt, run the command, then read note.txt."
WRITTEN = "written by a tool"
COMMAND = 'echo "sum $((40 + 2))" >> note.txt'
"""The sum is in the answer only if a shell ran the command and the agent sent the file back."""
ANSWER = "Finished: the file has sum 42."
USAGE = {
    "prompt_tokens": 90,
    "completion_tokens": 5,
    "total_tokens": 95,
    "prompt_tokens_details": {"cached_tokens": 40},
}
_SUM = re.compile(r"sum \d+")


def sum_in(value: Any) -> str:
    """Return the last sum in a JSON value, or `no sum`."""
    found = _SUM.findall(json.dumps(value))
    return str(found[-1]) if found else "no sum"


@dataclass(frozen=True)
class Step:
    """One call of a tool. `custom` tools get their input as text."""

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    custom: str | None = None

    def call(self, number: int) -> dict[str, Any]:
        """Return the tool call of a chat completion."""
        id = f"call_{number}"
        if self.custom is not None:
            return {"id": id, "type": "custom", "custom": {"name": self.tool, "input": self.custom}}
        return {"id": id, "type": "function", "function": {"name": self.tool, "arguments": json.dumps(self.arguments)}}


class AgentScript:
    """Answers the requests of one agent: a conversation about the task gets one step after another."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        fields = exchange.request.json
        messages = fields["messages"]
        results = [message for message in messages if message["role"] == "tool"]
        if TASK not in json.dumps(messages) or not fields.get("tools"):
            await _send(exchange, "A task", None)  # agents also ask for titles and summaries
        elif len(results) < len(self._steps):
            await _send(exchange, "Working.", self._steps[len(results)].call(len(results)))
        else:
            await _send(exchange, f"Finished: the file has {sum_in(results[-1]['content'])}.", None)


class AiderScript:
    """Answers with an edit of a file until the request contains the output of the command, then with this output."""

    def __init__(self, edit: str) -> None:
        self._edit = edit

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        asked = exchange.request.json["messages"][-1]["content"]
        found = _SUM.search(json.dumps(asked))
        await _send(exchange, f"Finished: the file has {found[0]}." if found else self._edit, None)


async def _send(exchange: Exchange, text: str, call: dict[str, Any] | None) -> None:
    finish = "tool_calls" if call else "stop"
    if not exchange.request.json.get("stream"):
        message = {"role": "assistant", "content": text, **({"tool_calls": [call]} if call else {})}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        whole = {
            "id": "chatcmpl-s",
            "object": "chat.completion",
            "created": 1,
            "model": "mock",
            "choices": [choice],
            "usage": USAGE,
        }
        await canned(json.dumps(whole).encode())(exchange)
        return
    await exchange.start_stream()
    await exchange.event(chat_chunk("", role="assistant"))
    for word in re.findall(r"\S*\s*", text)[:-1]:
        await exchange.event(chat_chunk(word))
    if call:
        for piece in _pieces(call):
            await exchange.event(chat_chunk(tool_calls=[{"index": 0, **piece}]))
    await exchange.event(chat_chunk(finish=finish))
    await exchange.event({**chat_chunk(), "choices": [], "usage": USAGE})
    await exchange.event(b"[DONE]")
    await exchange.chunk(b"")


def _pieces(call: dict[str, Any]) -> list[dict[str, Any]]:
    """Split the arguments of a call in two."""
    kind = call["type"]
    name = "arguments" if kind == "function" else "input"
    text = call[kind][name]
    half = len(text) // 2
    return [{**call, kind: {**call[kind], name: text[:half]}}, {kind: {name: text[half:]}}]
