"""Errors name the caller's parameters."""

from __future__ import annotations

import json

import pytest

from gateway.dialects.responses_api.conversation import Origin
from gateway.dialects.responses_api.dialect import ResponsesTranslator
from gateway.dialects.responses_api.errors import Names, to_error

NAMES = Names(
    frozenset({"input"}),
    [
        Origin("instructions", "instructions.content"),
        Origin("input[0]", "input[0].content"),
        Origin("input[1]", "input[5].content", ["input[2]", "input[3]"]),
        Origin("input[4]", "input[4].output"),
    ],
)


@pytest.mark.parametrize(
    ("chat", "ours"),
    [
        ("max_completion_tokens", "max_output_tokens"),
        ("max_tokens", "max_output_tokens"),
        ("temperature", "temperature"),
        ("response_format", "text.format"),
        ("response_format.json_schema", "text.format"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("reasoning_effort", "reasoning.effort"),
        ("verbosity", "text.verbosity"),
        ("tools[2].function.parameters", "tools[2].parameters"),
        ("tools[0].type", "tools[0].type"),
        ("tools[0].custom", "tools[0]"),
        ("tool_choice.function.name", "tool_choice.name"),
        ("logprobs", "include"),
        ("context_length_exceeded_behavior", "truncation"),
        ("messages", "input"),
        ("messages[0]", "instructions"),
        ("messages[0].content", "instructions"),
        ("messages[1].content[3].image_url.url", "input[0].content[3].image_url"),
        ("messages[1].content[0].file.file_data", "input[0].content[0].file_data"),
        ("messages[2].tool_calls[1].function.arguments", "input[3].arguments"),
        ("messages[2].tool_calls[0].id", "input[2].call_id"),
        ("messages[2].tool_calls[9].id", "input[1].call_id"),
        ("messages[2].content", "input[5].content"),
        ("messages[2].reasoning_content", "input[1]"),
        ("messages[3].content[0].text", "input[4].output[0].text"),
        ("messages[3].tool_call_id", "input[4].call_id"),
        ("messages[3].role", "input[4]"),
        ("messages[9].content", "input.content"),
        ("x-api-key", "x-api-key"),
    ],
)
def test_parameter_of_the_chat_completion_has_the_callers_name(chat: str, ours: str) -> None:
    assert NAMES.of(chat) == ours


def test_parameter_that_the_caller_sent_keeps_its_name() -> None:
    assert (
        Names(frozenset({"context_length_exceeded_behavior"}), []).of("context_length_exceeded_behavior")
        == "context_length_exceeded_behavior"
    )


def test_error_has_the_name_in_its_message_and_keeps_the_receipt() -> None:
    error = {
        "message": "'messages[1].content' must be 'max_tokens', not 'x'.",
        "type": "t",
        "param": "messages[1].content",
        "code": "c",
    }
    found = json.loads(to_error(json.dumps({"error": error, "gateway": {"a": 1}}).encode(), NAMES))
    assert found["error"] == {
        "message": "'input[0].content' must be 'max_output_tokens', not 'x'.",
        "type": "t",
        "param": "input[0].content",
        "code": "c",
    }
    assert found["gateway"] == {"a": 1}


def test_error_before_the_translation_stays_as_it_is() -> None:
    made = ResponsesTranslator()
    body = b'{"error":{"message":"\'messages\' is not a parameter","param":"messages"}}'
    assert made.error(400, body) == body
    assert made.param("messages") == "messages"
    assert made.headers([(b"a", b"b")]) == [(b"a", b"b")]
