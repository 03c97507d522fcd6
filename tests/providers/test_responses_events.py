"""providers.responses_wire.stream: the events of the Responses API as chunks of a chat completion, however their bytes arrive."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from gateway.response.upstream_answer import inband_failure
from gateway.streams.relay import Relay
from providers.base import Options, StreamFailure
from providers.responses_wire.stream import ResponseStream
from providers.usage import read_usage
from tests.providers.adapting import adapt_with, target_for
from tests.providers.everything import WEATHER
from tests.providers.stream_grammar import Message, read_stream
from tests.support.each import each

Event = dict[str, Any]
MODEL = "gpt-5.6"
TARGET = target_for("openai", MODEL)
USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 16,
}
RESPONSE = {"id": "resp_1", "object": "response", "created_at": 5, "model": MODEL, "status": "in_progress", "output": []}
START = [{"type": "response.created", "response": RESPONSE}, {"type": "response.in_progress", "response": RESPONSE}]
END = {"type": "response.completed", "response": {**RESPONSE, "status": "completed", "usage": USAGE}}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm"}], "encrypted_content": "E"}


def item_events(index: int, item: Event, *middle: Event) -> list[Event]:
    """Return the events of one output item: its opening without content, those in the middle, and the whole item."""
    empty = {"arguments": "", "input": "", "summary": [], "content": []}
    opened = {name: empty.get(name, value) for name, value in item.items() if name != "encrypted_content"}
    return [
        {"type": "response.output_item.added", "output_index": index, "item": opened},
        *({"output_index": index, "item_id": item["id"], **event} for event in middle),
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def call_events(index: int, call_id: str, *pieces: str) -> list[Event]:
    """Return the events of a call whose arguments arrive in pieces."""
    kind = "response.function_call_arguments"
    text = "".join(pieces)
    item = {"type": "function_call", "id": f"fc_{call_id}", "call_id": call_id, "name": "f", "arguments": text}
    deltas = [{"type": f"{kind}.delta", "delta": piece} for piece in pieces]
    return item_events(index, item, *deltas, *([{"type": f"{kind}.done", "arguments": text}] if pieces else []))


def text_events(index: int, *pieces: str) -> list[Event]:
    """Return the events of a message whose text arrives in pieces."""
    kind, text = "response.output_text", "".join(pieces)
    item = {"type": "message", "id": "m_1", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    place = {"content_index": 0}
    part = {"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}, **place}
    deltas = [{"type": f"{kind}.delta", "delta": piece, **place} for piece in pieces]
    return item_events(index, item, part, *deltas, {"type": f"{kind}.done", "text": text, **place})


SUMMARY = [
    {"type": "response.reasoning_summary_part.added", "summary_index": 0, "part": {"type": "summary_text", "text": ""}},
    {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": "Hm"},
    {"type": "response.reasoning_summary_text.done", "summary_index": 0, "text": "Hm"},
]
REASONING = item_events(0, THOUGHT, *SUMMARY)
CALLS = [*call_events(1, "a", '{"x":', "1}"), *call_events(2, "b", "{}")]
INTERLEAVED = [CALLS[0], CALLS[5], CALLS[1], CALLS[6], CALLS[2], *CALLS[3:5], *CALLS[7:]]
TWO_CALLS = [["a", "f", '{"x":1}'], ["b", "f", "{}"]]

SHAPES: dict[str, tuple[list[Event], tuple[str, str, list[list[str]], str]]] = {
    "text": ([*text_events(0, "Hel", "lo")], ("Hello", "", [], "stop")),
    "reasoning and text": ([*REASONING, *text_events(1, "Hi")], ("Hi", "Hm", [], "stop")),
    "reasoning and calls": ([*REASONING, *CALLS], ("", "Hm", TWO_CALLS, "tool_calls")),
    "interleaved calls": (INTERLEAVED, ("", "", TWO_CALLS, "tool_calls")),
    "summary only at the end": (item_events(0, THOUGHT), ("", "Hm", [], "stop")),
    "arguments only at the end": (
        item_events(0, {"type": "function_call", "id": "fc", "call_id": "a", "name": "f", "arguments": "{}"}),
        ("", "", [["a", "f", "{}"]], "tool_calls"),
    ),
    "text only at the end": (
        item_events(0, {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "Hello"}]}),
        ("Hello", "", [], "stop"),
    ),
    "text only in an item that never opened": (
        item_events(0, {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "Hello"}]})[-1:],
        ("Hello", "", [], "stop"),
    ),
    "unknown events": ([{"type": "response.new_thing.delta", "delta": "x"}, *text_events(0, "Hi")], ("Hi", "", [], "stop")),
}


def options() -> Options:
    """Return the options of a stream that is sent through the Responses API."""
    chosen = Options(stream=True)
    adapt_with("openai", {"tools": [WEATHER], "stream": True}, chosen, model=MODEL)
    return chosen


def relay(events: list[Event], cuts: list[int]) -> tuple[dict[int, Message], dict[str, Any] | None]:
    """Return the messages and the usage that the caller reads if the bytes are split at `cuts`."""
    decoder = TARGET.kind.decoder(TARGET, options())
    assert isinstance(decoder, ResponseStream)
    state = Relay(decoder=decoder, usage_asked=True, read_usage=read_usage, fail=lambda data: inband_failure(TARGET, data), choices=1)
    wire = b"".join(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events)
    ends = [min(cut, len(wire)) for cut in cuts]
    sent = b"".join(state.feed(wire[start:stop]) for start, stop in zip([0, *ends], [*ends, len(wire)], strict=True))
    return read_stream(sent + state.end())


@each("name", list(SHAPES))
def test_stream_keeps_the_grammar_and_loses_nothing_at_random_chunkings(name: str) -> None:
    events, expected = SHAPES[name]
    random = Random(name)
    for count in (0, 1, 3, 8, 40):
        messages, usage = relay([*START, *events, END], sorted(random.randrange(6000) for _ in range(count)))
        message = messages[0]
        assert (message.text, message.reasoning, message.calls, message.finish) == expected
        assert usage is not None
        assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (9, 7, 16)
        assert usage["prompt_tokens_details"]["cached_tokens"] == 4
        assert usage["completion_tokens_details"]["reasoning_tokens"] == 3


@each(("reason", "finish"), [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("new", "length")])
def test_incomplete_answer_ends_with_its_reason(reason: str, finish: str) -> None:
    response = {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": reason}, "usage": USAGE}
    messages, _ = relay([*START, *text_events(0, "Hi"), {"type": "response.incomplete", "response": response}], [])
    assert messages[0].finish == finish


@each(
    ("code", "kind"),
    [
        ("rate_limit_exceeded", "rate_limit"),
        ("insufficient_quota", "quota"),
        ("server_error", "inband_error"),
        ("context_length_exceeded", "context_overflow"),
        ("invalid_prompt", "client_error"),
    ],
)
def test_failures_have_the_kind_of_their_code(code: str, kind: str) -> None:
    error = {"code": code, "message": "no"}
    failed = {"type": "response.failed", "response": {**RESPONSE, "status": "failed", "error": error}}
    for event in (failed, {"type": "error", **error}, {"type": "error", "error": error}):
        decoder = TARGET.kind.decoder(TARGET, options())
        assert decoder is not None
        with pytest.raises(StreamFailure) as caught:
            decoder.feed(str(event["type"]), json.dumps(event).encode())
        assert (caught.value.failure.kind, caught.value.failure.message) == (kind, "no")


def test_closed_items_leave_no_state() -> None:
    decoder = TARGET.kind.decoder(TARGET, options())
    assert isinstance(decoder, ResponseStream)
    for index in range(100):
        for event in call_events(index, f"c{index}", "{}"):
            decoder.feed(event["type"], json.dumps(event).encode())
    assert not decoder._open
