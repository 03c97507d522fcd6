"""Strict limits reserve an upper bound of the prompt's tokens, and refuse content that has none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

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
    search_units,
    set_output_cap,
)
from gateway.tokens.counter import SHARED_COUNTER
from gateway.tokens.tokenizer import tokenizer_for
from providers.base import Body, Operation
from tests.support.each import each


def call(operation: Operation = "chat", **fields: Any) -> Call:
    """A call with this body."""
    raw = msgspec.json.encode(fields)
    return Call(operation, f"/v1/{operation}", body=Body(raw), body_bytes=len(raw))


def added(one: Call) -> int:
    """Return what the bound of the prompt adds to the size of the body."""
    return max_prompt_tokens(one) - one.body_bytes


def test_the_bound_is_above_the_count_of_text() -> None:
    """Random-looking text has the most tokens for its bytes."""
    messages = [{"role": "user", "content": "q7#Zß✓" * 200}, {"role": "assistant", "content": "0 1 2 3 " * 50}]
    one = call(messages=messages)
    assert one.body is not None
    assert max_prompt_tokens(one) > SHARED_COUNTER.count_now(one.body, tokenizer_for("openai", "gpt-4o")).total()


def test_every_message_tool_and_answer_adds_its_share() -> None:
    message, tool = {"role": "user", "content": "x"}, {"type": "function", "function": {"name": "f"}}
    bare, twice, tools = call(messages=[message]), call(messages=[message, message]), call(messages=[message], tools=[tool])
    base = max_prompt_tokens(bare)
    assert max_prompt_tokens(twice) - base == TOKENS_PER_MESSAGE + twice.body_bytes - bare.body_bytes
    assert max_prompt_tokens(tools) - base == TOOL_INSTRUCTION_TOKENS + TOKENS_PER_TOOL + tools.body_bytes - bare.body_bytes
    three = call(messages=[message], n=3)
    assert max_prompt_tokens(three) == 3 * (base + three.body_bytes - bare.body_bytes)


@each("kind", ["image_url", "input_audio", "file", None])
def test_content_without_a_bound_is_refused_with_its_place(kind: str | None) -> None:
    one = call(messages=[{"role": "user", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": kind}]}])
    with pytest.raises(BadRequest) as refused:
        max_prompt_tokens(one)
    assert (refused.value.param, refused.value.code) == ("messages[1].content", "unsupported_content")
    assert f"content of type '{kind}'" in refused.value.message


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
    assert max_prompt_tokens(one) == answers * (one.body_bytes + 256 + 32 * prompts)


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
    assert (search_units(one), max_search_units(one)) == (units, units)


@each("operation", ["chat", "embeddings", "completions"])
def test_only_rerank_has_search_units(operation: Operation) -> None:
    one = call(operation, query="q", documents=["a"] * 300)
    passed = Call("rerank", "/v1/rerank")
    assert (search_units(one), max_search_units(one)) == (0, 0)
    assert (search_units(passed), max_search_units(passed)) == (0, 0)


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


def test_a_message_that_is_no_object_is_left_to_the_checks_of_messages() -> None:
    assert added(call(messages=["x"])) == 256 + 32


def test_the_type_in_a_refusal_is_cut() -> None:
    one = call(messages=[{"role": "user", "content": [{"type": "y" * 41}]}])
    with pytest.raises(BadRequest, match=f"type '{'y' * 40}' is not allowed"):
        max_prompt_tokens(one)


def test_the_reserved_cap_has_the_name_of_the_providers_field() -> None:
    body = Body(b'{"messages":[]}')
    assert set_output_cap(body, 7, "max_completion_tokens").param == "max_completion_tokens"
    assert (body.get("max_completion_tokens"), "max_tokens" in body) == (7, False)
