"""Streams of all provider types in the forms in which their vendors send them, and the answer that each of them contains.

The forms are those of the vendors' packages and of public reports (`wires.py` has the plain ones).
"""

from __future__ import annotations

import json
from typing import Any

from tests.providers.native_stream_shapes import (
    TWO,
    A,
    B,
    Event,
    Shape,
    anthropic_shapes,
    chunks_of,
    cohere_shapes,
    function_of,
    local_shapes,
)
from tests.providers.server import Request
from tests.providers.wires import USAGE, chunk, good_reply

CALLED = (("get_weather", {"city": "Bern"}),)
ENGINES_OWN = frozenset({"local"})
"""Types whose only streams are those of their own engine."""


def _plain(kind: str, *, calls: bool) -> Shape:
    """Return the vendor's plain stream: "Hello there", or a call."""
    body = {"stream": True, "stream_options": {"include_usage": True}, **({"tools": [{}]} if calls else {})}
    reply = good_reply(kind, Request("/", {}, body))
    events = [_event(event) for event in reply.body.decode().split("\n\n") if event]
    usage = None if kind == "goodfire" else (5, 2)
    if calls:
        return Shape(kind, "call", events, "", calls=CALLED, finish="tool_calls", usage=usage)
    return Shape(kind, "text", events, usage=usage)


def _event(source: str) -> Event:
    name = ""
    for line in source.split("\n"):
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
    return name, "[DONE]" if value == "[DONE]" else json.loads(value)


def _counted(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return chunk(delta, finish, usage=USAGE, **more)


def _in_choice(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    made = chunk({}, finish)
    return {**made, "choices": [{**made["choices"][0], "delta": delta, **more}]}


def _call(**call: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [call]})


ROLE = chunk({"role": "assistant", "content": ""})
STOP, CALLS_END, COUNT = chunk({}, "stop"), chunk({}, "tool_calls"), {**chunk({}), "choices": [], "usage": USAGE}


def _calls(kind: str, name: str, *events: Any, end: Any = CALLS_END) -> Shape:
    return Shape(kind, name, chunks_of(ROLE, *events, end, COUNT), "", calls=TWO, finish="tool_calls")


def _without(value: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: given for key, given in value.items() if key not in names}


def _openai_like() -> list[Shape]:
    words = [{"content": "Hello"}, {"content": " there"}]
    filters = {
        **chunk({}),
        "id": "",
        "object": "",
        "created": 0,
        "model": "",
        "choices": [],
        "prompt_filter_results": [],
    }
    late = {
        **chunk({}),
        "id": "",
        "object": "",
        "model": "",
        "choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {}}],
    }
    pieces = [_call(index=0, function=function_of(None, piece)) for piece in ('{"a"', ":1}")]
    return [
        Shape(
            "openai",
            "obfuscated",
            chunks_of(ROLE, *({**chunk(word), "obfuscation": "aZ9"} for word in words), STOP, COUNT),
        ),
        _calls(
            "openai",
            "two calls in pieces",
            _call(index=0, id="c1", type="function", function=function_of("f", "")),
            *pieces,
            _call(index=1, id="c2", type="function", function=function_of("g", "")),
            _call(index=1, function=function_of(None, B)),
        ),
        Shape(
            "azure", "filters", chunks_of(filters, ROLE, chunk(words[0]), late, chunk(words[1]), STOP, late, COUNT)
        ),
        _calls(
            "gemini",
            "calls with one index",
            _call(index=0, id="c1", function=function_of("f", A)),
            _call(index=0, id="c2", function=function_of("g", B)),
            end=chunk({}, "STOP"),
        ),
        _calls(
            "gemini",
            "calls without index and id",
            _call(function=function_of("f", A)),
            _call(function=function_of("g", B)),
        ),
        _calls(
            "ollama",
            "calls with objects",
            _call(index=0, function=function_of("f", {"a": 1})),
            _call(index=0, function=function_of("g", {"b": 2})),
            end=STOP,
        ),
        Shape(
            "ollama",
            "role in every chunk",
            chunks_of(*(chunk({"role": "assistant", **word}) for word in words), STOP, COUNT),
        ),
        _calls(
            "fireworks",
            "calls in one chunk",
            chunk(
                {
                    "tool_calls": [
                        {"id": "c1", "function": function_of("f", A)},
                        {"id": "c2", "function": function_of("g", B)},
                    ]
                }
            ),
        ),
        Shape(
            "mistral",
            "thinking",
            chunks_of(
                chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]}),
                *(chunk({"content": [{"type": "text", "text": word["content"]}]}) for word in words),
                _counted({}, "stop"),
            ),
            reasoning="Hm",
        ),
        Shape(
            "groq",
            "reasoning",
            chunks_of(
                ROLE,
                *(chunk({"reasoning": text}) for text in ("H", "m")),
                *map(chunk, words),
                chunk({}, "stop", x_groq={"id": "r", "usage": USAGE}),
            ),
            reasoning="Hm",
        ),
        Shape(
            "deepseek",
            "reasoning",
            chunks_of(
                chunk({"role": "assistant", "content": None, "reasoning_content": ""}),
                *(chunk({"content": None, "reasoning_content": text}) for text in ("H", "m")),
                *(chunk({**word, "reasoning_content": None}) for word in words),
                _counted({"content": "", "reasoning_content": None}, "stop"),
            ),
            reasoning="Hm",
        ),
        Shape(
            "friendli",
            "words for null",
            chunks_of(chunk({"role": "assistant"}, "null"), *(chunk(word, "null") for word in words), STOP, COUNT),
        ),
        Shape(
            "together",
            "logprobs",
            chunks_of(*(_in_choice(word, logprobs=-0.5, seed=1) for word in words), _counted({"content": ""}, "eos")),
        ),
        Shape(
            "vllm",
            "usage in every chunk",
            chunks_of(
                ROLE,
                *(_counted(word, token_ids=[number]) for number, word in enumerate(words)),
                _counted({}, "stop"),
                COUNT,
            ),
        ),
        Shape(
            "llamacpp",
            "timings",
            chunks_of(
                chunk({"role": "assistant", "content": None}),
                *map(chunk, words),
                STOP,
                {**COUNT, "timings": {"prompt_ms": 1.5}},
            ),
        ),
        Shape(
            "openrouter",
            "reasoning with details",
            chunks_of(
                chunk(
                    {
                        "role": "assistant",
                        "content": "",
                        "reasoning": "Hm",
                        "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}],
                    },
                    provider="P",
                ),
                *(chunk({"role": "assistant", **word}, provider="P") for word in words),
                chunk({"role": "assistant", "content": ""}, "stop"),
                {**_counted({"role": "assistant", "content": ""}), "provider": "P", "usage": {**USAGE, "cost": 0.1}},
            ),
            reasoning="Hm",
        ),
        Shape(
            "cerebras",
            "times",
            chunks_of(
                ROLE,
                *map(chunk, words),
                {**_without(STOP, "choices"), "choices": [{"index": 0, "finish_reason": "stop"}]},
                {**_without(COUNT, "choices"), "time_info": {"total_time": 0.1}},
            ),
        ),
        Shape("siati", "usage beside the end", chunks_of(ROLE, *map(chunk, words), _counted({}, "stop"))),
        Shape(
            "xai",
            "role and created of each chunk",
            chunks_of(
                *(
                    {**chunk({"role": "assistant", **word}), "created": 5 + number}
                    for number, word in enumerate(words)
                ),
                STOP,
                {
                    **COUNT,
                    "usage": {
                        **USAGE,
                        "completion_tokens": 1,
                        "total_tokens": 7,
                        "completion_tokens_details": {"reasoning_tokens": 1},
                    },
                },
            ),
        ),
        Shape(
            "openai-compatible",
            "no identity",
            chunks_of(
                *(_without(chunk(word), "id", "object", "created", "model") for word in words),
                _without(_counted({}, "stop"), "id", "object", "created", "model"),
            ),
        ),
        Shape(
            "openai-compatible",
            "new identity in each chunk",
            chunks_of(
                ROLE,
                *(
                    {**chunk({"content": text}), "id": f"c{number}", "created": number}
                    for number, text in enumerate("Hello there")
                ),
                {**_counted({}, "end_turn"), "id": "last"},
            ),
        ),
        Shape(
            "openai-compatible",
            "usage in the choice",
            chunks_of(ROLE, *map(chunk, words), _in_choice({}, "stop", usage=USAGE)),
        ),
        Shape(
            "openai-compatible",
            "three choices in a chunk",
            chunks_of(
                *(
                    {
                        **chunk({}),
                        "choices": [{"index": index, "delta": word, "finish_reason": None} for index in range(3)],
                    }
                    for word in words
                ),
                {
                    **chunk({}),
                    "choices": [{"index": index, "delta": {}, "finish_reason": "stop"} for index in range(3)],
                },
                COUNT,
            ),
            choices=3,
        ),
        _calls(
            "openai-compatible",
            "calls without index in pieces",
            _call(id="c1", function=function_of("f", "")),
            *(_call(function=function_of(None, piece)) for piece in ('{"a":', "1}")),
            _call(id="c2", function=function_of("g", "")),
            *(_call(function=function_of(None, piece)) for piece in ('{"b"', ":", "2", "}")),
            end=STOP,
        ),
    ]


def _all() -> list[Shape]:
    special = [*_openai_like(), *anthropic_shapes(), *cohere_shapes(), *local_shapes()]
    kinds = sorted({shape.kind for shape in special} - ENGINES_OWN)
    plain = [_plain(kind, calls=calls) for kind in kinds for calls in (False, True)]
    return [*plain, _plain("goodfire", calls=False), *special]


SHAPES = _all()
