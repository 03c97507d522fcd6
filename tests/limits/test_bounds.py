"""Strict limits reserve an upper bound of the prompt's tokens, and refuse content that has none."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

import providers
from gateway.call import Call
from gateway.errors import BadRequest
from gateway.limits.bounds import (
    TOKENS_PER_MESSAGE,
    TOKENS_PER_TOOL,
    TOOL_INSTRUCTION_TOKENS,
    max_output_tokens,
    max_prompt_tokens,
    max_search_units,
    requested_tier,
    set_output_cap,
)
from gateway.tokens.counter import SHARED_COUNTER
from gateway.tokens.inputs import search_units
from gateway.tokens.tokenizer import tokenizer_for
from providers.base import Body, Operation, Target
from tests.support.each import each
from tests.support.pictures import image_part

TARGETS = (Target("a/x", "a", providers.get("openai-compatible"), "x", "http://x/v1"),)


def call(operation: Operation = "chat", **fields: Any) -> Call:
    """Return a call with this body."""
    raw = msgspec.json.encode(fields)
    return Call(operation, f"/v1/{operation}", body=Body(raw), body_bytes=len(raw))


def added(one: Call) -> int:
    """Return the number of tokens that the bound of the prompt adds to the size of the body."""
    return max_prompt_tokens(one, TARGETS) - one.body_bytes


def test_the_bound_is_above_the_count_of_text() -> None:
    """Random-looking text has the most tokens for its bytes."""
    messages = [{"role": "user", "content": "q7#Zß✓" * 200}, {"role": "assistant", "content": "0 1 2 3 " * 50}]
    one = call(messages=messages)
    assert one.body is not None
    assert max_prompt_tokens(one, TARGETS) > SHARED_COUNTER.count_now(one.body, tokenizer_for("openai", "gpt-4o")).total()


def test_every_message_tool_and_answer_adds_its_share() -> None:
    message, tool = {"role": "user", "content": "x"}, {"type": "function", "function": {"name": "f"}}
    bare, twice, tools = call(messages=[message]), call(messages=[message, message]), call(messages=[message], tools=[tool])
    base = max_prompt_tokens(bare, TARGETS)
    assert max_prompt_tokens(twice, TARGETS) - base == TOKENS_PER_MESSAGE + twice.body_bytes - bare.body_bytes
    assert max_prompt_tokens(tools, TARGETS) - base == TOOL_INSTRUCTION_TOKENS + TOKENS_PER_TOOL + tools.body_bytes - bare.body_bytes
    three = call(messages=[message], n=3)
    assert max_prompt_tokens(three, TARGETS) == 3 * (base + three.body_bytes - bare.body_bytes)


def data(media_type: str, size: int) -> str:
    """Return a data URL with this many bytes."""
    return f"data:{media_type};base64,{base64.b64encode(bytes(size)).decode()}"


UNBOUNDED: list[dict[str, Any]] = [
    {"type": None},
    {"type": "new"},
    {"type": "input_audio"},
    {"type": "audio_url", "audio_url": {"url": "https://example.com/a.mp3"}},
    {"type": "video_url", "video_url": {"url": data("video/mp4", 100)}},
    {"type": "file", "file": {"file_id": "file-1"}},
    {"type": "file", "file": {"file_data": data("application/pdf", 100)}},
    {"type": "file", "file": {"file_data": "data:text/plain;base64," + base64.b64encode(b"%PDF-1.7").decode()}},
    {"type": "file", "file": {"file_data": "https://example.com/a.txt"}},
]


@each("part", UNBOUNDED)
def test_content_without_a_bound_is_refused_with_its_place(part: dict[str, Any]) -> None:
    one = call(messages=[{"role": "user", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "x"}, part]}])
    with pytest.raises(BadRequest) as refused:
        max_prompt_tokens(one, TARGETS)
    assert (refused.value.param, refused.value.code) == ("messages[1].content", "unsupported_content")
    assert f"content of type '{part['type']}'" in refused.value.message


def bound_of(part: dict[str, Any], targets: Sequence[Target]) -> int:
    """Return the bound of a message with this part, without the bytes of the data and the tokens that every message adds."""
    one = call(messages=[{"role": "user", "content": [part]}])
    text = msgspec.json.encode(one.body.get("messages")) if one.body is not None else b""
    written = max((len(value) for value in re.findall(rb'"([^"]*)"', text)), default=0)
    return max_prompt_tokens(one, targets) - (one.body_bytes - written) - 256 - TOKENS_PER_MESSAGE


@each(
    ("model", "size", "tokens"),
    [("gpt-4o", (512, 512), 255), ("gpt-4o", (4000, 3000), 765), ("gpt-4o", None, 1445), ("gpt-4o-mini", (512, 512), 8500)],
)
def test_a_picture_is_bounded_by_the_rule_of_its_model(model: str, size: tuple[int, int] | None, tokens: int) -> None:
    target = Target(f"o/{model}", "o", providers.get("openai"), model, "http://x/v1")
    remote = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    part = remote if size is None else image_part(*size, 3_000_000)
    assert bound_of(part, [target]) == tokens + (len("https://example.com/a.png") if size is None else 0)


def test_the_highest_bound_of_all_targets_is_reserved() -> None:
    targets = [Target(f"o/{model}", "o", providers.get("openai"), model, "http://x/v1") for model in ("gpt-4o", "gpt-4o-mini")]
    picture = image_part(512, 512, 10_000)
    assert bound_of(picture, targets) == bound_of(picture, targets[1:]) > bound_of(picture, targets[:1])


def test_sound_is_bounded_by_its_size_and_not_by_its_header() -> None:
    target = Target("o/gpt-audio", "o", providers.get("openai"), "gpt-audio", "http://x/v1")
    header = b"RIFF" + bytes(4) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 2**31, 2, 16) + b"data" + struct.pack("<I", 0)
    sound = base64.b64encode(header + bytes(75_000 - len(header))).decode()
    part = {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}}
    assert bound_of(part, [target]) == 75_000 // 750 * 10 + 1


def test_a_document_of_plain_text_is_bounded_by_its_bytes() -> None:
    part = {"type": "file", "file": {"file_data": data("text/plain", 3_000)}}
    assert bound_of(part, TARGETS) == len(data("text/plain", 3_000))


def test_the_reserved_cap_is_set_and_reported() -> None:
    one = call(messages=[])
    assert one.body is not None
    adjustment = set_output_cap(one.body, 300)
    assert one.body.get("max_tokens") == 300
    assert (adjustment.param, adjustment.action, adjustment.to) == ("max_tokens", "set_default", 300)


@each(
    ("fields", "tokens"),
    [
        ({}, 256),
        ({"documents": ["a", "b", "c"]}, 256 + 1024 + 3 * 64),
        ({"documents": "a"}, 256),
        ({"tools": []}, 256),
        ({"tools": [{}, {}], "documents": ["a"]}, 256 + 2 * 1024 + 3 * 64),
        ({"response_format": {"type": "json_object"}}, 256 + 512),
    ],
)
def test_documents_tools_and_formats_add_their_instructions(fields: dict[str, Any], tokens: int) -> None:
    assert added(call(messages=[], **fields)) == tokens
    assert added(call(**fields)) == tokens


@each(("inputs", "count"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)])
def test_each_input_of_embeddings_has_its_special_tokens(inputs: Any, count: int) -> None:
    assert added(call("embeddings", input=inputs)) == 32 * count


@each("documents", [[], ["a"], ["a", "b", "c"]])
def test_a_reranker_reads_the_query_with_each_document(documents: list[str]) -> None:
    one = call("rerank", query="in bytes", documents=documents)  # 10 bytes with its quotes
    assert added(one) == (10 + 32) * len(documents)
    assert added(call("rerank", documents=documents)) == 32 * len(documents)


@each(("prompt", "n", "prompts", "answers"), [("a", 1, 1, 1), (["a", "b"], 1, 2, 2), (["a", "b"], 3, 2, 6)])
def test_each_answer_of_a_completion_may_be_billed_with_the_prompt(prompt: Any, n: int, prompts: int, answers: int) -> None:
    one = call("completions", prompt=prompt, n=n)
    assert max_prompt_tokens(one, TARGETS) == answers * (one.body_bytes + 256 + 32 * prompts)


@each(
    ("operation", "fields", "tokens"),
    [
        ("chat", {}, 70),
        ("chat", {"max_tokens": 9}, 9),
        ("chat", {"max_tokens": 9, "n": 3}, 27),
        ("chat", {"n": 3}, 210),
        ("completions", {"prompt": ["a", "b"], "max_tokens": 9, "best_of": 4}, 72),
        ("embeddings", {"input": "a", "max_tokens": 9}, 0),
        ("rerank", {"query": "q", "documents": ["a"]}, 0),
    ],
)
def test_the_output_is_bounded_by_the_cap_of_each_answer(operation: Operation, fields: dict[str, Any], tokens: int) -> None:
    assert max_output_tokens(call(operation, **fields), 70) == tokens


@each(("documents", "units"), [(0, 0), (1, 1), (100, 1), (101, 2), (200, 2), (201, 3)])
def test_a_hundred_short_documents_are_one_search_unit(documents: int, units: int) -> None:
    one = call("rerank", query="q", documents=["a"] * documents)
    assert (search_units(one.body, one.operation), max_search_units(one)) == (units, units)


@each("operation", ["chat", "embeddings", "completions"])
def test_only_rerank_has_search_units(operation: Operation) -> None:
    one = call(operation, query="q", documents=["a"] * 300)
    passed = Call("rerank", "/v1/rerank")
    assert (search_units(one.body, one.operation), max_search_units(one)) == (0, 0)
    assert (search_units(passed.body, passed.operation), max_search_units(passed)) == (0, 0)


@each(
    ("query", "size", "count", "units"),
    [
        (98, 400, 100, 1),  # the query has 100 bytes with its quotes: 400 are left for a document
        (98, 401, 50, 1),
        (98, 401, 51, 2),
        (98, 800, 50, 1),
        (98, 801, 50, 2),
        (None, 500, 100, 1),
        (None, 501, 51, 2),
        (498, 2, 50, 1),  # a query as long as a chunk leaves room for at least one token
        (498, 2, 51, 2),
        (900, 3, 50, 2),
        (98, 0, 100, 1),
        (98, 0, 101, 2),
    ],
)
def test_a_long_document_counts_once_for_each_chunk(query: int | None, size: int, count: int, units: int) -> None:
    fields = {} if query is None else {"query": "q" * query}
    assert max_search_units(call("rerank", documents=["a" * size] * count, **fields)) == units


def test_a_document_is_measured_in_bytes() -> None:
    assert max_search_units(call("rerank", query="q" * 98, documents=["ß" * 201] * 51)) == 2


@each(("fields", "tier"), [({}, ""), ({"service_tier": "flex"}, "flex"), ({"service_tier": "auto"}, ""), ({"service_tier": None}, "")])
def test_only_a_named_service_tier_is_asked_for(fields: dict[str, Any], tier: str) -> None:
    one = call(messages=[], **fields)
    assert one.body is not None
    assert requested_tier(one.body) == tier


@each("content", ["x", None, [], ["x"], [{"type": "text", "text": "x"}, {"type": "refusal", "refusal": "no"}]])
def test_text_has_a_bound(content: Any) -> None:
    assert added(call(messages=[{"role": "user", "content": content}])) == 256 + 32


def test_a_message_that_is_not_an_object_is_left_to_the_checks_of_messages() -> None:
    assert added(call(messages=["x"])) == 256 + 32


def test_the_type_in_a_refusal_is_cut() -> None:
    one = call(messages=[{"role": "user", "content": [{"type": "y" * 41}]}])
    with pytest.raises(BadRequest, match=f"type '{'y' * 40}' is not allowed"):
        max_prompt_tokens(one, TARGETS)


def test_the_reserved_cap_has_the_name_of_the_providers_field() -> None:
    body = Body(b'{"messages":[]}')
    assert set_output_cap(body, 7, "max_completion_tokens").param == "max_completion_tokens"
    assert (body.get("max_completion_tokens"), "max_tokens" in body) == (7, False)
