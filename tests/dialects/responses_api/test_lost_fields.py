"""Fields of input items that a chat completion cannot express are reported, and rejected in strict mode."""

from __future__ import annotations

import json
from typing import Any

from gateway.dialects.responses_api.dialect import ResponsesTranslator
from tests.support.each import each

CITED = {"type": "output_text", "text": "a", "annotations": [{"type": "url_citation", "url": "https://a.example"}]}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "r"}
SUMMARY = [{"type": "summary_text", "text": "s"}]
THOUGHT = [{"type": "reasoning_text", "text": "t"}]


def translated(item: dict[str, Any], *, strict: bool = False) -> ResponsesTranslator:
    """Return the translator of a request with this item."""
    translator = ResponsesTranslator()
    source = {"model": "m", "input": [item, {"role": "user", "content": "Hi"}]}
    translator.request(json.dumps(source).encode(), strict=strict)
    return translator


def changes(item: dict[str, Any], *, strict: bool = False) -> list[tuple[str, str]]:
    """Return parameter and action of each change to a request with this item."""
    translator = translated(item, strict=strict)
    assert translator.refusal is None
    return [(each.param, each.action) for each in translator.adjustments]


@each(
    ("item", "param"),
    [
        ({"role": "user", "content": "a", "x": 1}, "input[0].x"),
        ({"type": "message", "role": "assistant", "content": [CITED]}, "input[0].content[0].annotations"),
        ({**CALL, "caller": {"type": "direct"}}, "input[0].caller"),
        ({**OUTPUT, "x": [1]}, "input[0].x"),
        ({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "a", "x": "b"}, "input[0].x"),
        ({"type": "reasoning", "summary": SUMMARY, "x": {}}, "input[0].x"),
    ],
)
def test_lost_field_is_reported_and_rejected_in_strict_mode(item: dict[str, Any], param: str) -> None:
    assert changes(item) == [(param, "drop")]
    refusal = translated(item, strict=True).refusal
    assert refusal is not None
    assert refusal.param == param


@each(
    "item",
    [
        {"role": "assistant", "content": "a", "id": "msg_1", "status": "completed", "x": None},
        {"role": "assistant", "content": [{**CITED, "annotations": [], "logprobs": []}]},
        {**CALL, "id": "fc_1", "status": "completed", "namespace": None},
        {**OUTPUT, "id": "fo_1"},
        {"type": "reasoning", "id": "rs_1", "summary": SUMMARY, "content": None, "encrypted_content": None},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": THOUGHT},
    ],
)
def test_fields_without_effect_are_not_reported(item: dict[str, Any]) -> None:
    assert changes(item, strict=True) == []


def test_fields_without_effect_beside_others_are_reported() -> None:
    reasoning = {"type": "reasoning", "summary": SUMMARY, "content": THOUGHT}
    assert changes(reasoning, strict=True) == [("input[0].summary", "drop")]
    part = {"type": "output_text", "text": "a", "logprobs": [{"token": "a", "logprob": -1}]}
    assert changes({"role": "assistant", "content": [part]}, strict=True) == [("input[0].content[0].logprobs", "drop")]
