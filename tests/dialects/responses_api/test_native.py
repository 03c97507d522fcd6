"""Responses that pass unchanged: their bytes, usage, finish reasons and errors, for any split of a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.responses_api.dialect import ResponsesTranslator
from gateway.dialects.responses_api.native import FIELDS, NATIVE, ResponseReader, prepare, read_answer
from gateway.dialects.responses_api.values import Raw
from gateway.streams.native_relay import NativeRelay
from providers.base import Body, Failure, Refusal, StreamFailure, Usage
from providers.usage import read_usage
from tests.dialects.responses_api.grammar import to_chat
from tests.native import responses_fake as fake
from tests.support.each import each

TRICKY = 'Zürich \u2028 \\ "error" response.completed event: error 🏔'
DELTA = fake.event("response.output_text.delta", 9, item_id="m", output_index=0, content_index=0, delta=TRICKY)
STREAMS = (fake.STREAM, b": hello\n\n" + fake.STREAM, b"".join((*fake.EVENTS[:3], DELTA, *fake.EVENTS[3:])))


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Return a stream in pieces."""
    ends = sorted({place % len(stream) for place in places} - {0})
    return [stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]


def failure_of(relay: NativeRelay, last: bytes) -> Failure:
    """Return the failure of a stream with this last event."""
    try:
        relay.feed(last)
        relay.end()
    except StreamFailure as failed:
        return failed.failure
    raise AssertionError("the stream did not fail")


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 5000), max_size=12))
def test_bytes_and_usage_are_those_of_the_upstream(stream: bytes, places: list[int]) -> None:
    relay = NativeRelay(ResponseReader())
    out = b"".join(relay.feed(piece) for piece in cut(stream, places))
    assert out + relay.end() == stream
    assert relay.usage is not None
    used = (relay.usage.prompt_tokens, relay.usage.cached_tokens, relay.usage.completion_tokens, relay.usage.reasoning_tokens)
    assert relay.usage.cache_write_tokens == 2
    assert (used, relay.finish_reasons, relay.done, relay.normalised) == ((13, 4, 9, 3), ("stop",), True, 0)


@given(st.lists(st.integers(0, 5000), max_size=6), st.booleans(), st.booleans())
def test_a_failure_ends_the_stream_after_what_was_sent(places: list[int], sent: bool, is_event: bool) -> None:
    begun = b"".join(fake.EVENTS[:5]) if sent else fake.START
    last = fake.event("error", 9, **fake.ERROR) if is_event else fake.FAILED
    relay = NativeRelay(ResponseReader())
    assert b"".join(relay.feed(piece) for piece in cut(begun, places)) == (begun if sent else b"")
    assert "Boom" in failure_of(relay, last).message


def test_stream_with_only_its_beginning_is_a_failure() -> None:
    relay = NativeRelay(ResponseReader())
    assert relay.feed(b"".join(fake.EVENTS[:2])) == b""
    with pytest.raises(StreamFailure) as failed:
        relay.end()
    assert failed.value.failure.kind == "closed_pre"


@each(
    ("more", "reason"),
    [
        ({}, "stop"),
        ({"output": [{"type": "function_call"}]}, "tool_calls"),
        ({"output": [{"type": "custom_tool_call"}]}, "tool_calls"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
    ],
)
def test_finish_reason_of_a_response(more: dict[str, Any], reason: str) -> None:
    body = json.dumps({**fake.RESPONSE, **more}).encode()
    answer = read_answer(body)
    assert (answer.body, answer.finish_reasons) == (body, (reason,))


@each("body", [b"null", b"{}", b'{"output":{}}', b'{"output":[],"status":"in_progress"}', b"[]", b'{"id":"x","choices":[]}'])
def test_other_bodies_are_no_response(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"Object|Expected|is in_progress"):
        read_answer(body)


@each(("code", "kind"), [("rate_limit_exceeded", "rate_limit"), ("server_error", "inband_error"), (None, "inband_error")])
def test_failed_response_is_a_failure_of_its_kind(code: str | None, kind: str) -> None:
    body = {**fake.RESPONSE, "status": "failed", "error": {"code": code, "message": "Boom"}}
    with pytest.raises(StreamFailure) as failed:
        read_answer(json.dumps(body).encode())
    assert (failed.value.failure.kind, "Boom" in failed.value.failure.message) == (kind, True)


def test_every_parameter_of_the_api_is_native() -> None:
    assert NATIVE.foreign_field(FIELDS) is None
    assert NATIVE.foreign_field(frozenset({"input", "stop"})) == "stop"
    assert NATIVE.foreign_field(frozenset({"input", "new_parameter"})) is None


@each("given", [{"input": "hello"}, {"input": [fake.SEARCH]}, {"input": [{"role": "user", "content": 'a "reasoning" model'}]}, {}])
def test_request_without_foreign_reasoning_keeps_its_bytes(given: dict[str, Any]) -> None:
    source = json.dumps(given, indent=1).encode()
    body = Body(source)
    assert prepare(body, ResponsesTranslator(), strict=True) == []
    assert body.encode() == source


def test_earlier_items_come_first() -> None:
    translator = ResponsesTranslator()
    translator.earlier = [Raw(b'{"role":"user","content":"one"}'), Raw(b'{"type":"reasoning","id":"r"}')]
    body = Body(b'{"previous_response_id":"resp_1","input":"two"}')
    made = prepare(body, translator, strict=False)
    assert json.loads(body.encode()) == {
        "input": [{"role": "user", "content": "one"}, {"type": "message", "role": "user", "content": "two"}]
    }
    assert [adjustment.param for adjustment in made] == ["previous_response_id"]
    with pytest.raises(Refusal):
        prepare(Body(b'{"previous_response_id":"resp_1","input":"two"}'), translator, strict=True)


def test_request_that_chat_cannot_express_has_an_outline() -> None:
    translator = ResponsesTranslator()
    given = {"model": "m", "input": "hello", "stream": True, "max_output_tokens": 5, "user": "u", "tools": [{"type": "web_search"}]}
    outline = json.loads(translator.request(json.dumps(given).encode(), strict=False))
    assert translator.refusal is not None
    assert (translator.refusal.param, outline.pop("messages")) == ("tools[0].type", [{"role": "user", "content": '"hello"'}])
    assert outline == {"model": "m", "stream": True, "max_completion_tokens": 5, "user": "u"}
    assert to_chat({})["messages"] == [{"role": "user", "content": "Hi"}]


def test_the_tier_and_the_reported_cost_are_part_of_the_usage() -> None:
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, "cost_in_usd_ticks": 25}
    response = {"output": [], "status": "completed", "usage": usage, "service_tier": "flex"}
    expected = Usage(3, 2, reported_cost=3, service_tier="flex")
    assert read_answer(json.dumps(response).encode()).usage == expected
    reader = ResponseReader()
    reader.read("response.completed", json.dumps({"type": "response.completed", "response": response}).encode())
    assert reader.usage == expected


COUNT = st.integers(0, 99) | st.sampled_from([None, -1, 10**10, 3.0, "7", True])
INPUT = st.none() | st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens"]), COUNT)
OUTPUT = st.none() | st.dictionaries(st.sampled_from(["reasoning_tokens", "image_tokens"]), COUNT)
COUNTS = {"input_tokens": COUNT, "output_tokens": COUNT, "total_tokens": COUNT | st.integers(0, 300)}


USAGE = st.fixed_dictionaries(COUNTS, optional={"input_tokens_details": INPUT, "output_tokens_details": OUTPUT})


@given(USAGE, st.sampled_from([None, "flex", 3]))
def test_the_usage_is_read_like_that_of_a_chat_completion(usage: dict[str, Any], tier: Any) -> None:
    names = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}
    renamed = {names.get(name.removesuffix("_details"), name) + "_details" * name.endswith("_details"): usage[name] for name in usage}
    answer = read_answer(json.dumps({"output": [], "status": "completed", "usage": usage, "service_tier": tier}).encode())
    assert answer.usage == read_usage(renamed, tier)
