"""A strict fake of Cohere's chat API (v2). It checks each request, and answers with content that a chat completion lacks.

Sources: cohere 7.3.1 (ClientV2.chat, V2ChatResponse, V2ChatStreamResponse), docs.cohere.com on streaming.
"""

from __future__ import annotations

import json
from typing import Any

from tests.faults.behaviours import canned, play
from tests.faults.upstream_wire import Exchange, Request, Script
from tests.faults.upstream_wire import Step as Ending

KEY = "co-upstream"
_NAMES = (
    "model messages stream tools strict_tools documents citation_options response_format safety_mode max_tokens stop_sequences "
    "temperature seed frequency_penalty presence_penalty k p logprobs tool_choice thinking priority"
)
FIELDS = frozenset(_NAMES.split())
BILLED, TOKENS = {"input_tokens": 5.0, "output_tokens": 8.0}, {"input_tokens": 213.0, "output_tokens": 9.0}
USAGE: dict[str, Any] = {"billed_units": BILLED, "tokens": TOKENS, "cached_tokens": 4.0}
TEXT = 'Bern is the "capital". Zürich is not.'
CITATION = {
    "start": 0, "end": 4, "text": "Bern", "content_index": 1, "type": "TEXT_CONTENT",
    "sources": [{"type": "document", "id": "doc:0", "document": {"id": "doc:0", "text": "Bern."}}],
}  # fmt: skip
CALL = {"id": "f_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
MESSAGE: dict[str, Any] = {
    "role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": TEXT}], "citations": [CITATION],
}  # fmt: skip
PLAN: dict[str, Any] = {"role": "assistant", "tool_plan": "I will call f.", "tool_calls": [CALL]}


def answer_of(message: dict[str, Any], reason: str = "COMPLETE") -> dict[str, Any]:
    """Return an answer with this message."""
    return {"id": "c1", "message": message, "finish_reason": reason, "usage": USAGE}


ANSWER = json.dumps(answer_of(MESSAGE), indent=1).encode()
"""An answer as no translation would write it."""
CALLED = json.dumps(answer_of(PLAN, "TOOL_CALL")).encode()


def event(kind: str, **fields: Any) -> bytes:
    """Return one event as Cohere writes it."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def piece(kind: str, index: int, **message: Any) -> bytes:
    """Return an event with a part of the message."""
    return event(kind, index=index, delta={"message": message})


START = event("message-start", id="c1", delta={"message": {"role": "assistant", "content": [], "tool_plan": "", "citations": []}})
DONE = b"data: [DONE]\n\n"


def end(reason: str = "COMPLETE", **more: Any) -> bytes:
    """Return the event with the finish reason."""
    return event("message-end", id="c1", delta={"finish_reason": reason, "usage": USAGE, **more})


def words(text: str, size: int = 4) -> list[str]:
    """Return a text in pieces."""
    return [text[at : at + size] for at in range(0, len(text), size)]


EVENTS = (
    START,
    piece("content-start", 0, content={"type": "thinking", "thinking": ""}),
    piece("content-delta", 0, content={"thinking": "Hm."}),
    event("content-end", index=0),
    piece("content-start", 1, content={"type": "text", "text": ""}),
    *(piece("content-delta", 1, content={"text": each}) for each in words(TEXT)),
    piece("citation-start", 0, citations=CITATION),
    event("citation-end", index=0),
    event("content-end", index=1),
    end(),
    DONE,
)
STREAM = b"".join(EVENTS)
CALL_EVENTS = (
    START,
    *(event("tool-plan-delta", delta={"message": {"tool_plan": each}}) for each in words(PLAN["tool_plan"])),
    piece("tool-call-start", 0, tool_calls={**CALL, "function": {"name": "f", "arguments": ""}}),
    *(piece("tool-call-delta", 0, tool_calls={"function": {"arguments": each}}) for each in words('{"a": 1}')),
    event("tool-call-end", index=0),
    end("TOOL_CALL"),
    DONE,
)
ERROR = end("ERROR", error="Boom")


def problem(request: Request) -> str | None:
    """Return why Cohere would refuse a request, or None."""
    body = request.json
    if dict(request.headers).get("authorization") != f"Bearer {KEY}":
        return "invalid api token"
    if unknown := body.keys() - FIELDS:
        return f"unknown field: parameter '{min(unknown)}' is not a valid field"
    if len(body.get("stop_sequences") or ()) > 5:
        return "too many stop sequences"
    for name, low, high in (("k", 0, 500), ("p", 0.01, 0.99), ("frequency_penalty", 0, 1), ("presence_penalty", 0, 1)):
        if not low <= body.get(name, low) <= high:
            return f"invalid {name}"
    roles = {message["role"] for message in body["messages"]}
    return "invalid role" if roles - {"system", "user", "assistant", "tool"} else None


def refused(message: str, status: int) -> Script:
    """Return a script that sends one of Cohere's errors."""
    return canned(json.dumps({"id": "e1", "message": message}).encode(), status)


def speaks_cohere(answer: bytes = ANSWER, events: tuple[bytes, ...] = EVENTS, ending: Ending | None = None) -> Script:
    """Return a script that checks the request, and sends `answer` or streams `events`."""

    async def script(exchange: Exchange) -> None:
        wrong = problem(exchange.request)
        if wrong is not None:
            await refused(wrong, 400)(exchange)
        elif exchange.request.json.get("stream"):
            await exchange.start_stream()
            for each in events:
                await exchange.chunk(each)
            await (exchange.chunk(b"") if ending is None else play(ending)(exchange))
        else:
            await canned(answer)(exchange)

    return script
