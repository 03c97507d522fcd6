"""Receipts and errors of Cohere's chat API have the caller's names for reasoning and content parts."""

from __future__ import annotations

from typing import Any

from gateway.dialects.cohere_api.names import Names


def test_names_of_reasoning_and_of_parts_are_those_of_the_caller() -> None:
    thinking, text = {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}
    answers: list[dict[str, Any]] = [
        {"tool_plan": "p", "content": "a"},
        {"content": [text, thinking, text]},
        {"content": [thinking] * 2},
    ]
    messages = [{"role": "user", "content": "Hi"}, *({"role": "assistant", **each} for each in answers)]
    names = Names(messages)
    for given, expected in [
        ("messages[1].reasoning_content", "messages[1].tool_plan"),
        ("messages[1].reasoning", "messages[1].tool_plan"),
        ("messages[2].reasoning_content", "messages[2].content[1]"),
        ("messages[3].reasoning_content", "messages[3].content"),
        ("messages[2].content[1].text", "messages[2].content[2].text"),
        ("messages[2].content[9].text", "messages[2].content[9].text"),
        ("messages[9].reasoning_content", "messages[9].reasoning_content"),
        ("messages[0].content[0]", "messages[0].content[0]"),
        ("stop", "stop_sequences"),
    ]:
        assert names.of(given) == expected
