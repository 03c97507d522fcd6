"""Successful replies of each provider's server: JSON and streams, with the provider's quirks."""

from __future__ import annotations

import json
from typing import Any

from tests.providers.server import Reply, Request, data_events, json_reply, stream_reply

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
NO_USAGE = frozenset({"goodfire"})


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return one chunk in OpenAI's format."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def answer(message: dict[str, Any], finish: str, count: int = 1, **more: Any) -> dict[str, Any]:
    """Return a JSON answer in OpenAI's format with `count` equal choices."""
    choices = [{"index": index, "message": {"role": "assistant", **message}, "finish_reason": finish} for index in range(count)]
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, **more}


CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Bern"}'}}


def good_reply(kind: str, request: Request) -> Reply:
    """Return the provider's reply: "Hello there", or a tool call if the request has tools."""
    body = request.body
    streams, calls = body.get("stream") is True, bool(body.get("tools"))
    if kind == "anthropic":
        return _anthropic(streams, calls)
    if kind == "cohere":
        return _cohere(streams, calls)
    if streams:
        return stream_reply(data_events(_stream(kind, calls, body)))
    message = {"content": None, "tool_calls": [_call(kind)]} if calls else {"content": _content(kind, "Hello there")}
    finish = "tool_calls" if calls else "eos" if kind == "together" else "stop"
    more: dict[str, Any] = {} if kind in NO_USAGE else {"usage": USAGE}
    if kind == "goodfire":
        more |= {"created": None, "system_fingerprint": "f"}
    if kind == "cerebras":
        more |= {"time_info": {"total_time": 0.1}}
    return json_reply(answer(message, finish, body.get("n") or 1, **more))


def _content(kind: str, text: str) -> Any:
    return [{"type": "text", "text": text}] if kind == "mistral" else text


def _call(kind: str) -> dict[str, Any]:
    if kind in ("fireworks", "mistral"):
        return {**CALL, "id": "null" if kind == "mistral" else "call_1", "function": {"name": "get_weather", "arguments": {"city": "Bern"}}}
    return CALL


def _stream(kind: str, calls: bool, body: dict[str, Any]) -> list[dict[str, Any]]:
    if kind == "goodfire":
        return _goodfire_stream()
    if calls:
        call = _call(kind)
        pieces = [{"tool_calls": [call if kind == "fireworks" else {"index": 0, **call}]}]
    else:
        pieces = [{"content": _content(kind, "Hello")}, {"content": _content(kind, " there")}]
    finish = "tool_calls" if calls else "eos" if kind == "together" else "stop"
    running = "null" if kind == "friendli" else None
    chunks = [chunk({"role": "assistant", "content": ""}, running), *(chunk(piece, running) for piece in pieces)]
    requested = (body.get("stream_options") or {}).get("include_usage")
    if kind == "groq":
        return [*chunks, chunk({}, finish, x_groq={"id": "r", "usage": USAGE})]
    if kind in ("fireworks", "mistral", "together") or (requested and kind in ("siati", "ollama")):
        return [*chunks, chunk({}, finish, usage=USAGE)]
    last = chunk({}, finish)
    if kind == "cerebras":
        timed = {key: value for key, value in last.items() if key != "choices"} | {"usage": USAGE, "time_info": {"total_time": 0.1}}
        return [*chunks, last, timed]
    return [*chunks, last, {**last, "choices": [], "usage": USAGE}] if requested else [*chunks, last]


def _goodfire_stream() -> list[dict[str, Any]]:
    pieces = [(0, "Hello"), (0, "Hello"), (1, " there")]
    return [
        {
            "id": "g1",
            "object": "chat.completion.chunk",
            "created": None,
            "model": "m",
            "system_fingerprint": "f",
            "choices": [{"index": 0, "gf_token_index": index, "delta": {"role": "assistant", "content": text}, "finish_reason": None}],
        }
        for index, text in pieces
    ]


def named_events(events: list[dict[str, Any]]) -> list[bytes]:
    """Return events named by their type."""
    return [f"event: {event['type']}\ndata: {json.dumps(event)}".encode() for event in events]


def _anthropic(streams: bool, calls: bool) -> Reply:
    block = {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Bern"}} if calls else None
    usage = {"input_tokens": 3, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 0, "output_tokens": 2}
    reason = "tool_use" if calls else "end_turn"
    if not streams:
        content = [block or {"type": "text", "text": "Hello there"}]
        reported = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content}
        return json_reply({**reported, "stop_reason": reason, "stop_sequence": None, "usage": usage})
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {**usage, "output_tokens": 1}}
    if block:
        opened = {**block, "input": {}}
        pieces = [{"type": "input_json_delta", "partial_json": piece} for piece in ('{"city":', ' "Bern"}')]
    else:
        opened, pieces = {"type": "text", "text": ""}, [{"type": "text_delta", "text": text} for text in ("Hello", " there")]
    return stream_reply(
        named_events(
            [
                {"type": "message_start", "message": start},
                {"type": "content_block_start", "index": 0, "content_block": opened},
                {"type": "ping"},
                *({"type": "content_block_delta", "index": 0, "delta": piece} for piece in pieces),
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": 2}},
                {"type": "message_stop"},
            ]
        )
    )


def _cohere(streams: bool, calls: bool) -> Reply:
    usage = {"billed_units": {"input_tokens": 4.0, "output_tokens": 2.0}, "tokens": {"input_tokens": 5.0, "output_tokens": 2.0}}
    reason = "TOOL_CALL" if calls else "COMPLETE"
    if not streams:
        content = [{"type": "text", "text": "Hello there"}]
        message = {"role": "assistant", "tool_calls": [CALL]} if calls else {"role": "assistant", "content": content}
        return json_reply({"id": "c1", "finish_reason": reason, "message": message, "usage": usage})
    if calls:
        opened = {**CALL, "function": {"name": "get_weather", "arguments": ""}}
        pieces = [{"function": {"arguments": piece}} for piece in ('{"city":', ' "Bern"}')]
        middle = [{"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": opened}}}]
        middle += [{"type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls": piece}}} for piece in pieces]
        middle.append({"type": "tool-call-end", "index": 0})
    else:
        texts = [{"type": "text", "text": ""}, {"text": "Hello"}, {"text": " there"}]
        kinds = ["content-start", "content-delta", "content-delta"]
        middle = [{"type": kind, "index": 0, "delta": {"message": {"content": text}}} for kind, text in zip(kinds, texts, strict=True)]
        middle.append({"type": "content-end", "index": 0})
    start = {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant"}}}
    end = {"type": "message-end", "delta": {"finish_reason": reason, "usage": usage}}
    return stream_reply(named_events([start, *middle, end]))
