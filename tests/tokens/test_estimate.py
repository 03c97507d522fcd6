"""Estimates: the output cap of a request, and the size of an answer without a reported usage."""

from __future__ import annotations

import json
from typing import Any

import providers
from gateway.tokens.estimate import MAX_SCANNED_BYTES, estimate_output, estimate_part, output_cap
from providers.base import Body, Target
from tests.support.each import each

DEFAULT = 4096


def target(kind: str = "vllm", model: str = "llama") -> Target:
    """Return a target of a provider of this type."""
    return Target(f"{kind}/{model}", kind, providers.get(kind), model, "http://localhost/v1")


def body(**fields: Any) -> Body:
    return Body(json.dumps({"model": "m", "messages": [], **fields}).encode())


@each(
    ("fields", "cap"),
    [
        ({}, DEFAULT),
        ({"max_tokens": 10}, 10),
        ({"max_completion_tokens": 20}, 20),
        ({"max_tokens": 10, "max_completion_tokens": 20}, 20),
        ({"max_tokens": None}, DEFAULT),
        ({"max_tokens": 10, "n": 3}, 30),
        ({"n": 2}, 2 * DEFAULT),
    ],
)
def test_the_cap_is_the_requests_own_or_the_default_for_each_choice(fields: dict[str, Any], cap: int) -> None:
    assert output_cap(body(**fields), target(), DEFAULT) == cap


def test_the_cap_is_at_most_that_of_the_model() -> None:
    assert output_cap(body(max_tokens=10**6), target("openai", "gpt-4o"), DEFAULT) == 16_384


@each(
    ("message", "tokens"),
    [
        ({"content": "word " * 100}, 125),
        ({"content": None, "reasoning_content": "word " * 100}, 125),
        ({"content": [{"type": "text", "text": "word " * 100}]}, 125),
        ({"content": None, "refusal": "no" * 2}, 1),
        ({"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"a":1}'}}]}, 3),
        ({"content": "word " * 100, "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 80_000}}]}, 125),
        ({"content": None, "audio": {"id": "a", "data": "A" * 900_000, "expires_at": 1, "transcript": "word " * 100}}, 125),
    ],
)
def test_the_output_of_a_json_answer_is_a_quarter_of_the_bytes_of_its_texts(message: dict[str, Any], tokens: int) -> None:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None}
    assert estimate_output(json.dumps({"choices": [choice]}).encode()) == tokens
    assert estimate_output(json.dumps({"choices": [choice] * 2}).encode()) == 2 * tokens


def test_the_output_of_a_completion_is_a_quarter_of_the_bytes_of_its_text() -> None:
    assert estimate_output(json.dumps({"choices": [{"index": 0, "text": "word " * 100, "logprobs": None}]}).encode()) == 125


@each(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("abcdefgh", 2), ("abcdefghi", 3)])
def test_a_begun_text_is_rounded_up_to_whole_tokens(text: str, tokens: int) -> None:
    assert estimate_part(f'{{"content": "{text}'.encode()) == tokens


@each("answer", [b"", b"nonsense", b"[]", b'{"choices": []}', b'{"error": {}}'])
def test_an_answer_without_messages_has_no_output(answer: bytes) -> None:
    assert estimate_output(answer) == 0


def test_a_broken_answer_counts_the_texts_that_have_begun() -> None:
    answer = b'{"id": "x", "choices": [{"message": {"role": "assistant", "content": "' + b"word " * 80
    assert estimate_part(answer) == 100
    assert estimate_part(b'{"id": "x", "choices": [{"message": {"role"') == 0
    assert estimate_part(b'{"content": "' + b"x" * (2 * MAX_SCANNED_BYTES)) <= MAX_SCANNED_BYTES // 4
