"""The form of a recorded stream, and the streams of the vendors and engines whose wire is not OpenAI's alone."""

from __future__ import annotations

from typing import Any, NamedTuple

from providers.local.options import ENGINE_MODEL
from tests.providers.wires import USAGE

Event = tuple[str, Any]
"""Name ("" if there is none) and JSON value, or text such as [DONE]."""


class Shape(NamedTuple):
    """A stream and its answer: text, reasoning, calls as pairs of name and arguments, finish reason, tokens of prompt and output."""

    kind: str
    name: str
    events: list[Event]
    text: str = "Hello there"
    reasoning: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    finish: str = "stop"
    usage: tuple[int, int] | None = (5, 2)
    choices: int = 1


TWO = (("f", {"a": 1}), ("g", {"b": 2}))
A, B = '{"a":1}', '{"b":2}'


def chunks_of(*chunks: Any, done: bool = True) -> list[Event]:
    return [("", given) for given in chunks] + ([("", "[DONE]")] if done else [])


def function_of(name: str | None, arguments: Any) -> dict[str, Any]:
    return {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}


def anthropic_shapes() -> list[Shape]:
    start = {
        "type": "message_start",
        "message": {"id": "m1", "model": "m", "usage": {"input_tokens": 5, "output_tokens": 1}},
    }

    def block(index: int, opened: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
        events = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        return [
            {"type": "content_block_start", "index": index, "content_block": opened},
            *events,
            {"type": "content_block_stop", "index": index},
        ]

    def end(reason: str) -> list[dict[str, Any]]:
        return [
            {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 2}},
            {"type": "message_stop"},
        ]

    def json_delta(piece: str) -> dict[str, Any]:
        return {"type": "input_json_delta", "partial_json": piece}

    thinking = block(
        0,
        {"type": "thinking", "thinking": ""},
        {"type": "thinking_delta", "thinking": "Hm"},
        {"type": "signature_delta", "signature": "s"},
    )
    text = block(
        1, {"type": "text", "text": ""}, *({"type": "text_delta", "text": word} for word in ("Hello", " there"))
    )
    search = block(0, {"type": "server_tool_use", "id": "s", "name": "web_search"}, json_delta('{"query":"x"}'))
    calls = [
        *block(0, {"type": "tool_use", "id": "t1", "name": "f", "input": {}}, *map(json_delta, ("", '{"a"', ":1}"))),
        *block(1, {"type": "tool_use", "id": "t2", "name": "g", "input": {"b": 2}}),
    ]
    streams = (
        ("thinking", [start, *thinking, {"type": "ping"}, *text, *end("end_turn")], {"reasoning": "Hm"}),
        ("a tool of the server", [start, *search, *text, *end("end_turn")], {}),
        ("two calls", [start, *calls, *end("tool_use")], {"text": "", "calls": TWO, "finish": "tool_calls"}),
    )
    return [
        Shape("anthropic", name, [(event["type"], event) for event in events], **more)
        for name, events, more in streams
    ]  # type: ignore[arg-type]


def cohere_shapes() -> list[Shape]:
    def event(kind: str, **message: Any) -> Event:
        return kind, {"type": kind, "index": 0, **({"delta": {"message": message}} if message else {})}

    start: Event = (
        "message-start",
        {"type": "message-start", "id": "m1", "delta": {"message": {"role": "assistant"}}},
    )
    used = {"tokens": {"input_tokens": 5.0, "output_tokens": 2.0}}
    end: Event = ("message-end", {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": used}})
    return [
        Shape(
            "cohere",
            "plan and two calls",
            [
                start,
                event("tool-plan-delta", tool_plan="Hm"),
                event(
                    "tool-call-start",
                    tool_calls={"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}},
                ),
                *(
                    event("tool-call-delta", tool_calls={"function": {"arguments": piece}})
                    for piece in ('{"a"', ":1}")
                ),
                event("tool-call-end"),
                event(
                    "tool-call-start",
                    tool_calls={"id": "c2", "type": "function", "function": {"name": "g", "arguments": B}},
                ),
                event("tool-call-end"),
                end,
            ],
            "",
            "Hm",
            TWO,
            "tool_calls",
        ),
    ]


def local_shapes() -> list[Shape]:
    """Return streams of llama.cpp's server, with the progress that the gateway requests."""

    def engine(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        choices = [{"finish_reason": finish, "index": 0, "delta": delta}]
        return {
            "choices": choices,
            "created": 1,
            "id": "chatcmpl-1",
            "model": ENGINE_MODEL,
            "object": "chat.completion.chunk",
            **more,
        }

    start = engine({"role": "assistant", "content": None})
    progress = engine(
        {"role": "assistant", "content": None}, prompt_progress={"total": 5, "cache": 0, "processed": 5, "time_ms": 1}
    )
    last = {**engine({}), "choices": [], "usage": USAGE, "timings": {"prompt_ms": 1.5, "predicted_ms": 2.5}}
    words = [engine({"content": word}) for word in ("Hello", " there")]
    calls = [
        engine({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": function_of("f", "")}]}),
        *(engine({"tool_calls": [{"index": 0, "function": function_of(None, piece)}]}) for piece in ('{"a"', ":1}")),
        engine({"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": function_of("g", B)}]}),
    ]
    return [
        Shape("local", "text", chunks_of(progress, start, *words, engine({}, "stop"), last)),
        Shape(
            "local",
            "calls",
            chunks_of(start, *calls, engine({}, "tool_calls"), last),
            "",
            calls=TWO,
            finish="tool_calls",
        ),
    ]
