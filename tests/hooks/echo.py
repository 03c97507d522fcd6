"""An upstream with the five APIs of conversations. It repeats the masks of a request in a text and, except in completions, in a tool call.

Streams send the text in pieces of a few characters, so that a mask arrives in several events.
"""

from __future__ import annotations

import json
import re
from typing import Any

from gateway.hooks.events import slots_of
from tests.faults.upstream_server import Exchange, Script

Json = dict[str, Any]

_MASK = re.compile(r"\[[A-Z_]+_[0-9]+\]")
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
RESPONSES_USAGE = {
    "input_tokens": 5, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}, "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 12,
}  # fmt: skip


def said(body: bytes) -> str:
    """Return the text of an answer to a request."""
    return "You wrote " + ", ".join(dict.fromkeys(_MASK.findall(body.decode()))) + "."


def pieces(text: str, size: int) -> list[str]:
    """Cut a text into pieces."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def named(events: list[Json]) -> list[bytes]:
    """Return events that have their type as their name."""
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


def chunk(choices: list[Json], **more: Any) -> bytes:
    """Return a chunk of a chat completion."""
    whole = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": choices, **more}
    return b"data: " + json.dumps(whole).encode() + b"\n\n"


def chat_stream(text: str, arguments: str, size: int, choices: int) -> list[bytes]:
    """Return the stream of a chat completion with a text and a tool call in each choice."""
    out = []
    for index in range(choices):
        head = {"role": "assistant", "content": ""}
        out.append(chunk([{"index": index, "delta": head, "finish_reason": None}]))
    for piece in pieces(text, size):
        out += [chunk([{"index": index, "delta": {"content": piece}, "finish_reason": None}]) for index in range(choices)]
    for index in range(choices):
        opened = {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}
        out.append(chunk([{"index": index, "delta": {"tool_calls": [opened]}, "finish_reason": None}]))
        for piece in pieces(arguments, size):
            delta = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
            out.append(chunk([{"index": index, "delta": delta, "finish_reason": None}]))
        out.append(chunk([{"index": index, "delta": {}, "finish_reason": "tool_calls"}]))
    return [*out, chunk([], usage=USAGE), b"data: [DONE]\n\n"]


def chat_answer(text: str, arguments: str, choices: int) -> Json:
    """Return a chat completion with a text and a tool call in each choice."""
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "content": text, "tool_calls": [call]}
    made = [{"index": index, "message": message, "finish_reason": "tool_calls"} for index in range(choices)]
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "x", "choices": made, "usage": USAGE}


def completion_stream(text: str, size: int) -> list[bytes]:
    """Return the stream of a completion."""
    made = [chunk([{"index": 0, "text": piece, "finish_reason": None}], object="text_completion") for piece in pieces(text, size)]
    return [*made, chunk([{"index": 0, "text": "", "finish_reason": "stop"}]), chunk([], usage=USAGE), b"data: [DONE]\n\n"]


def message_answer(text: str, arguments: str) -> Json:
    """Return a message of the Messages API."""
    content = [{"type": "text", "text": text}, {"type": "tool_use", "id": "t1", "name": "f", "input": json.loads(arguments)}]
    usage = {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    message = {"id": "m1", "type": "message", "role": "assistant", "model": "x", "content": content, "stop_reason": "tool_use"}
    return {**message, "stop_sequence": None, "usage": usage}


def message_stream(text: str, arguments: str, size: int) -> list[bytes]:
    """Return the stream of a message."""
    whole = message_answer(text, arguments)
    blocks: list[tuple[Json, str, str, str]] = [
        ({"type": "text", "text": ""}, "text_delta", "text", text),
        ({"type": "tool_use", "id": "t1", "name": "f", "input": {}}, "input_json_delta", "partial_json", arguments),
    ]
    events: list[Json] = [{"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}]
    for index, (block, kind, field, content) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [
            {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: piece}} for piece in pieces(content, size)
        ]
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": "tool_use", "stop_sequence": None}
    events += [{"type": "message_delta", "delta": ended, "usage": whole["usage"]}, {"type": "message_stop"}]
    return named(events)


def response_answer(text: str, arguments: str) -> Json:
    """Return a response of the Responses API."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    output = [
        {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]},
        {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "t1", "name": "f", "arguments": arguments},
    ]
    return {
        "id": "resp_" + "0f" * 24, "object": "response", "created_at": 1, "status": "completed", "error": None, "model": "x",
        "incomplete_details": None, "instructions": None, "metadata": {}, "output": output, "parallel_tool_calls": True,
        "previous_response_id": None, "store": False, "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto",
        "tools": [], "top_p": 1.0, "truncation": "disabled", "usage": RESPONSES_USAGE, "max_output_tokens": None,
        "reasoning": {"effort": None, "summary": None}, "background": False,
    }  # fmt: skip


def response_stream(text: str, arguments: str, size: int) -> list[bytes]:
    """Return the stream of a response."""
    whole = response_answer(text, arguments)
    message, call = whole["output"]
    opened = {**whole, "output": [], "status": "in_progress", "usage": None}
    at, of = {"item_id": "msg_1", "output_index": 0, "content_index": 0}, {"item_id": "fc_1", "output_index": 1}
    part = message["content"][0]
    arguments_events = [{"type": "response.function_call_arguments.delta", **of, "delta": piece} for piece in pieces(arguments, size)]
    events: list[Json] = [
        {"type": "response.created", "response": opened},
        {"type": "response.in_progress", "response": opened},
        {"type": "response.output_item.added", "output_index": 0, "item": {**message, "content": [], "status": "in_progress"}},
        {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []} for piece in pieces(text, size)),
        {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.output_item.added", "output_index": 1, "item": {**call, "arguments": "", "status": "in_progress"}},
        *arguments_events,
        {"type": "response.function_call_arguments.done", **of, "name": "f", "arguments": arguments},
        {"type": "response.output_item.done", "output_index": 1, "item": call},
        {"type": "response.completed", "response": whole},
    ]
    return named([{**event, "sequence_number": number} for number, event in enumerate(events)])


def cohere_answer(text: str, arguments: str) -> Json:
    """Return an answer of Cohere's chat API."""
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "content": [{"type": "text", "text": text}], "tool_calls": [call]}
    return {"id": "c1", "message": message, "finish_reason": "TOOL_CALL", "usage": {"tokens": {"input_tokens": 5, "output_tokens": 7}}}


def cohere_stream(text: str, arguments: str, size: int) -> list[bytes]:
    """Return the stream of an answer of Cohere's chat API."""
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}
    events: list[Json] = [{"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant", "content": []}}}]
    events.append({"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}})
    events += [{"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": piece}}}} for piece in pieces(text, size)]
    events.append({"type": "content-end", "index": 0})
    events.append({"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": call}}})
    events += [
        {"type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls": {"function": {"arguments": piece}}}}}
        for piece in pieces(arguments, size)
    ]
    events.append({"type": "tool-call-end", "index": 0})
    usage = {"tokens": {"input_tokens": 5, "output_tokens": 7}}
    return named([*events, {"type": "message-end", "id": "c1", "delta": {"finish_reason": "TOOL_CALL", "usage": usage}}])


def read_events(stream: bytes) -> list[dict[str, Any]]:
    """Return the JSON of the events of a stream."""
    datas = [line.removeprefix(b"data: ") for event in stream.split(b"\n\n") for line in event.split(b"\n") if line.startswith(b"data: {")]
    return [json.loads(data) for data in datas]


def deltas(stream: bytes) -> dict[str, str]:
    """Return the whole text of each place of a stream."""
    whole: dict[str, str] = {}
    for event in read_events(stream):
        for slot in slots_of(event):
            whole[slot.channel] = whole.get(slot.channel, "") + slot.text
        if event.get("type") in ("response.output_text.done", "response.function_call_arguments.done"):
            whole[event["type"]] = event.get("text") or event["arguments"]
        if event.get("type") == "response.completed":
            whole["completed"] = json.dumps(event["response"]["output"])
    return whole


def echo(size: int = 3, text_of: Any = said) -> Script:
    """Return the script. `size` is the number of characters of a piece, and `text_of` returns the text for the body of a request."""

    async def script(exchange: Exchange) -> None:
        request = exchange.request
        asked = request.json
        path = request.path.partition("?")[0]
        text = text_of(request.body)
        arguments = json.dumps({"to": text, "n": 1})
        stream, answer = answers_of(path, text, arguments, size, int(asked.get("n") or 1))
        if not asked.get("stream"):
            body = json.dumps(answer).encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            await exchange.send(head.encode() + body)
            return
        await exchange.start_stream()
        for event in stream:
            await exchange.chunk(event)
        await exchange.chunk(b"")

    return script


def answers_of(path: str, text: str, arguments: str, size: int, choices: int) -> tuple[list[bytes], Json]:
    """Return the stream and the JSON answer of the API at a path."""
    if path.endswith("/chat/completions"):
        return chat_stream(text, arguments, size, choices), chat_answer(text, arguments, choices)
    if path.endswith("/completions"):
        made = [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}]
        return completion_stream(text, size), {"id": "c1", "object": "text_completion", "model": "x", "choices": made, "usage": USAGE}
    if path.endswith("/messages"):
        return message_stream(text, arguments, size), message_answer(text, arguments)
    if path.endswith("/responses"):
        return response_stream(text, arguments, size), response_answer(text, arguments)
    return cohere_stream(text, arguments, size), cohere_answer(text, arguments)


STREAMS = {
    "chat": lambda text, size: chat_stream(text, json.dumps({"to": text}), size, 2),
    "completions": completion_stream,
    "messages": lambda text, size: message_stream(text, json.dumps({"to": text}), size),
    "responses": lambda text, size: response_stream(text, json.dumps({"to": text}), size),
    "cohere": lambda text, size: cohere_stream(text, json.dumps({"to": text}), size),
}
"""For each API, a function of a text and a size, which returns a stream with the text, and with the text in a tool call, in pieces."""
