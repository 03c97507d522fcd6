"""A strict fake of Anthropic's Messages API.

It checks each request, and answers with content that a chat completion cannot express.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.faults.behaviours import canned, play
from tests.faults.upstream_wire import Exchange, Request, Script
from tests.faults.upstream_wire import Step as Ending

KEY = "sk-ant-upstream"
_NAMES = (
    "model messages max_tokens system metadata stop_sequences stream temperature top_k top_p tools tool_choice thinking "
    "service_tier output_config cache_control container context_management inference_geo mcp_servers"
)
FIELDS = frozenset(_NAMES.split())
USAGE = {"input_tokens": 7, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 4, "output_tokens": 1}
CITATION = {
    "type": "char_location", "cited_text": "Bern", "document_index": 0, "document_title": None, "start_char_index": 0,
    "end_char_index": 4, "file_id": None,
}  # fmt: skip
CONTENT: list[dict[str, Any]] = [
    {"type": "text", "text": "I search."},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "Bern"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    {"type": "text", "text": "It is Bern.", "citations": [CITATION]},
]
MESSAGE: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-5", "content": CONTENT, "stop_reason": "pause_turn",
    "stop_sequence": None, "container": {"id": "container_1", "expires_at": "2026-12-01T00:00:00Z"},
    "usage": {**USAGE, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 3}, "service_tier": "standard"},
}  # fmt: skip
ANSWER = json.dumps(MESSAGE, indent=1).encode()
"""A message as no translation would write it."""


def event(kind: str, **fields: Any) -> bytes:
    """Return one event as Anthropic writes it."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


START = event("message_start", message={**MESSAGE, "content": [], "stop_reason": None, "usage": USAGE})
PING = event("ping")
FINISH = event("message_delta", delta={"stop_reason": "pause_turn", "stop_sequence": None}, usage=MESSAGE["usage"])
STOP = event("message_stop")
OVERLOADED = event("error", error={"type": "overloaded_error", "message": "Overloaded"})


def blocks(content: list[dict[str, Any]]) -> list[bytes]:
    """Return the events of content blocks, text in pieces of a few characters."""
    events = []
    for index, block in enumerate(content):
        text = block.get("text", "")
        opened = {**block, "text": "", "citations": []} if "text" in block else {**block}
        events.append(event("content_block_start", index=index, content_block=opened))
        pieces = [text[at : at + 4] for at in range(0, len(text), 4)]
        events += [event("content_block_delta", index=index, delta={"type": "text_delta", "text": each}) for each in pieces]
        for cited in block.get("citations") or ():
            events.append(event("content_block_delta", index=index, delta={"type": "citations_delta", "citation": cited}))
        events.append(event("content_block_stop", index=index))
    return events


EVENTS = (START, PING, *blocks(CONTENT), FINISH, STOP)
STREAM = b"".join(EVENTS)


def problem(request: Request) -> str | None:
    """Return why Anthropic would refuse a request, or None."""
    headers, body = dict(request.headers), request.json
    version = headers.get("anthropic-version")
    if version is None:
        return "anthropic-version: header is required"
    name, value = ("authorization", f"Bearer {KEY}") if version >= "2026-10-21" else ("x-api-key", KEY)
    if headers.get(name) != value or len({"authorization", "x-api-key"} & headers.keys()) != 1:
        return f"{version}: wrong credential"
    if unknown := body.keys() - FIELDS:
        return f"{min(unknown)}: Extra inputs are not permitted"
    if version >= "2026-10-21" and (old := {"temperature", "top_p", "top_k"} & body.keys()):
        return f"{min(old)}: removed"
    if type(body.get("max_tokens")) is not int:
        return "max_tokens: Field required"
    roles = [message["role"] for message in body["messages"]]
    return "messages: unknown role" if set(roles) - {"user", "assistant"} else problem_of_history(body["messages"])


def problem_of_history(messages: list[dict[str, Any]]) -> str | None:
    """Return why Anthropic would refuse the turns of a conversation, or None.

    Sources: claude-code#23440 (blank text), cc-switch#1181 (ids), litellm#21964 (ids used twice).
    """
    open_ids: set[str] = set()
    seen: set[str] = set()
    for index, message in enumerate(messages):
        content = message["content"]
        if not (content.strip() if isinstance(content, str) else content) and index < len(messages) - 1:
            return f"messages.{index}: all messages must have non-empty content except for the optional final assistant message"
        blocks = [{"type": "text", "text": content or "-"}] if isinstance(content, str) else content
        results = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if unknown := results - open_ids:
            return f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {min(unknown)}"
        open_ids = set()
        for block in blocks:
            if block["type"] == "text" and not block["text"].strip():
                return "messages: text content blocks must contain non-whitespace text"
            if block["type"] == "tool_use":
                if re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", block["id"]) is None:
                    return f"messages.{index}: tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
                if block["id"] in seen:
                    return "messages: `tool_use` ids must be unique"
                open_ids.add(block["id"])
                seen.add(block["id"])
    return None


def refused(kind: str, message: str, code: int, headers: Mapping[str, str] | None = None) -> Script:
    """Return a script that sends one of Anthropic's errors."""
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_up"}
    return canned(json.dumps(body).encode(), code, headers)


def speaks_messages(answer: bytes = ANSWER, events: tuple[bytes, ...] = EVENTS, ending: Ending | None = None) -> Script:
    """Return a script that checks the request, and sends `answer` or streams `events`."""

    async def script(exchange: Exchange) -> None:
        wrong = problem(exchange.request)
        if wrong is not None:
            await refused("invalid_request_error", wrong, 400)(exchange)
        elif exchange.request.json.get("stream"):
            await exchange.start_stream()
            for each in events:
                await exchange.chunk(each)
            await (exchange.chunk(b"") if ending is None else play(ending)(exchange))
        else:
            await canned(answer, headers={"request-id": "req_up", "anthropic-ratelimit-requests-remaining": "9"})(exchange)

    return script
