"""A strict fake of OpenAI's Responses API.

It checks each request, and answers with content that a chat completion cannot express.
"""

from __future__ import annotations

import json
from typing import Any

from tests.faults.behaviours import canned, play
from tests.faults.upstream_wire import Exchange, Request, Script
from tests.faults.upstream_wire import Step as Ending

KEY = "sk-openai-upstream"
_NAMES = (
    "client_metadata context_management include input instructions max_output_tokens max_tool_calls metadata model "
    "moderation parallel_tool_calls prompt prompt_cache_key prompt_cache_options prompt_cache_retention reasoning "
    "safety_identifier service_tier store stream stream_options temperature text tool_choice tools top_logprobs top_p truncation user"
)
FIELDS = frozenset(_NAMES.split())
USAGE = {
    "input_tokens": 13, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2}, "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 22,
}  # fmt: skip
ID = "resp_" + "0f" * 24
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAAAB-openai"}
SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "Bern"}}
TEXT = "It is Bern."
OUTPUT: list[dict[str, Any]] = [
    REASONING,
    SEARCH,
    {
        "id": "msg_1", "type": "message", "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": TEXT}],
    },
]  # fmt: skip
RESPONSE: dict[str, Any] = {
    "id": ID, "object": "response", "created_at": 1, "status": "completed", "background": False, "error": None,
    "incomplete_details": None, "instructions": None, "max_output_tokens": None, "metadata": {}, "model": "gpt-5.2", "output": OUTPUT,
    "parallel_tool_calls": True, "previous_response_id": None, "reasoning": {"effort": "low", "summary": None}, "store": False,
    "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
    "truncation": "disabled", "usage": USAGE,
}  # fmt: skip
ANSWER = json.dumps(RESPONSE, indent=1).encode()
"""A response as no translation would write it."""


def event(kind: str, number: int, **fields: Any) -> bytes:
    """Return one event as OpenAI writes it."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': number, **fields})}\n\n".encode()


BEGUN = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
START = event("response.created", 0, response=BEGUN) + event("response.in_progress", 1, response=BEGUN)
PLACE: dict[str, Any] = {"item_id": "msg_1", "output_index": 2, "content_index": 0}
DELTAS = tuple(
    event("response.output_text.delta", 9 + at, **PLACE, delta=TEXT[at : at + 4], logprobs=[]) for at in range(0, len(TEXT), 4)
)
_MESSAGE = OUTPUT[2]
_PART = _MESSAGE["content"][0]
END = event("response.completed", 40, response=RESPONSE)
EVENTS = (
    START,
    event("response.output_item.added", 2, output_index=0, item=REASONING),
    event("response.output_item.done", 3, output_index=0, item=REASONING),
    event("response.output_item.added", 4, output_index=1, item=SEARCH),
    event("response.web_search_call.searching", 5, item_id="ws_1", output_index=1),
    event("response.output_item.done", 6, output_index=1, item=SEARCH),
    event("response.output_item.added", 7, output_index=2, item={**_MESSAGE, "status": "in_progress", "content": []}),
    event("response.content_part.added", 8, **PLACE, part={**_PART, "text": ""}),
    *DELTAS,
    event("response.output_text.done", 30, **PLACE, text=TEXT, logprobs=[]),
    event("response.content_part.done", 31, **PLACE, part=_PART),
    event("response.output_item.done", 32, output_index=2, item=_MESSAGE),
    END,
)
STREAM = b"".join(EVENTS)
ERROR = {"code": "server_error", "message": "Boom"}
FAILED = event("response.failed", 41, response={**RESPONSE, "status": "failed", "error": ERROR})


def problem(request: Request) -> str | None:
    """Return why OpenAI would refuse a request, or None."""
    body = request.json
    if dict(request.headers).get("authorization") != f"Bearer {KEY}":
        return "wrong credential"
    if unknown := body.keys() - FIELDS:
        return f"Unknown parameter: '{min(unknown)}'."
    if body.get("store") is not False:
        return "the response would be stored"
    if "reasoning.encrypted_content" in body.get("include", []) and (body["model"].startswith("gpt-4") or "-chat" in body["model"]):
        return "Encrypted content is not supported with this model."
    for item in body["input"] if type(body["input"]) is list else []:
        if len(item.get("call_id", "")) > 64:
            return "Invalid 'input[0].call_id': string too long. Expected a string with maximum length 64."
        if "extra_content" in item:
            return "Unknown parameter: 'input[0].extra_content'."
        if item.get("type") == "reasoning" and not str(item.get("encrypted_content", "")).startswith("gAAAA"):
            return f"Item with id '{item.get('id')}' not found. Items are not persisted when `store` is set to false."
    return None


def refused(message: str, status: int, code: str | None = None) -> Script:
    """Return a script that sends one of OpenAI's errors."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return canned(json.dumps({"error": error}).encode(), status)


def speaks_responses(answer: bytes = ANSWER, events: tuple[bytes, ...] = EVENTS, ending: Ending | None = None) -> Script:
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
