"""providers.rules.custom_tools: custom tools and their calls at vendors that have only functions."""

from __future__ import annotations

import json
from typing import Any

import pytest

import providers
from providers.base import Body, Options, Refusal
from providers.message_tables import ROWS
from providers.rules.custom_tools import CUSTOM_TOOLS
from providers.rules.rule import CompiledRules
from providers.rules.tool_pass import ToolPass
from tests.providers.adapting import adapt, adapt_with
from tests.providers.strict_messages import message_objections

TOOL = {"type": "custom", "custom": {"name": "patch", "description": "Applies a patch."}}
GRAMMAR = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /a+/"}}
CALL = {"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": 'say "hi"\n'}}
HISTORY = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    {"role": "user", "content": "Thanks"},
]
TRANSLATED = [kind for kind, row in ROWS.items() if row.has_tools and not row.custom_tools and row.unknown != "pass"]
MODELS = {"anthropic": "claude-sonnet-4-5", "deepseek": "deepseek-chat"}


def model_of(kind: str) -> str:
    """Return a model that accepts tools and a forced choice."""
    return MODELS.get(kind, "example")


def texts(value: Any) -> str:
    """Return the JSON of a value, without the escapes of strings in it."""
    return json.dumps(value).replace("\\", "")


def test_every_type_keeps_translates_or_refuses_custom_tools() -> None:
    assert {*TRANSLATED, "openai", "azure", "openai-compatible", "goodfire"} == set(providers.OURS)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", TRANSLATED)
def test_a_custom_tool_is_sent_as_a_function_with_one_text(kind: str, strict: bool) -> None:
    request = {"messages": HISTORY[:1], "tools": [TOOL], "tool_choice": {"type": "custom", "custom": {"name": "patch"}}}
    if kind in ("cohere", "ollama"):
        request["tool_choice"] = "auto"  # these providers cannot force one function
    options = Options(strict=strict)
    adapted = adapt_with(kind, request, options, model=model_of(kind))
    assert message_objections(kind, adapted.sent) == []
    sent = texts(adapted.sent)
    assert '"custom"' not in sent
    assert "patch" in sent
    assert options.memo[CUSTOM_TOOLS] == {"patch"}
    assert ("tools[0]", "reshape") in adapted.actions()


@pytest.mark.parametrize("kind", TRANSLATED)
def test_a_grammar_is_described_and_refused_in_strict_mode(kind: str) -> None:
    request = {"tools": [{"type": "custom", "custom": {**TOOL["custom"], "format": GRAMMAR}}], "tool_choice": "required"}
    if kind in ("cohere", "ollama"):
        request["tool_choice"] = "auto"
    adapted = adapt(kind, request, model=model_of(kind), tools=True)
    assert ("tools[0].custom.format", "downgrade") in adapted.actions()
    if kind != "local":  # the local engine's schema enforces the form instead
        assert "start: /a+/" in texts(adapted.sent)
    with pytest.raises(Refusal) as refused:
        adapt(kind, request, model=model_of(kind), strict=True, tools=True)
    assert refused.value.param == "tools[0].custom.format"


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", TRANSLATED)
def test_an_earlier_call_of_a_custom_tool_keeps_its_input(kind: str, strict: bool) -> None:
    adapted = adapt(kind, {"messages": HISTORY[:3], "tools": [TOOL]}, model=model_of(kind), strict=strict, tools=True)
    assert message_objections(kind, adapted.sent) == []
    sent = texts(adapted.sent["messages"])
    assert "custom" not in sent
    assert "say" in sent
    assert "hi" in sent
    assert ("messages[1].tool_calls[0]", "reshape") in adapted.actions()


@pytest.mark.parametrize("kind", ["openai", "azure", "openai-compatible"])
def test_custom_tools_and_calls_stay_as_they_are_where_they_exist(kind: str) -> None:
    adapted = adapt(kind, {"messages": HISTORY, "tools": [TOOL]}, strict=True)
    assert (adapted.sent["messages"], adapted.sent["tools"], adapted.adjustments) == (HISTORY, [TOOL], [])


def test_a_provider_without_tools_refuses_them() -> None:
    for request in ({"tools": [TOOL]}, {"messages": HISTORY}):
        with pytest.raises(Refusal):
            adapt("goodfire", request)


@pytest.mark.parametrize("kind", ["gemini", "groq", "openai", "vllm"])
def test_a_type_is_added_where_it_is_missing(kind: str) -> None:
    named = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    adapted = adapt(kind, {"tools": [{"function": named}, {"custom": {"name": "g"}}]})
    assert [tool["type"] for tool in adapted.sent["tools"]] == ["function", "custom" if kind == "openai" else "function"]
    assert ("tools[0].type", "set_default") in adapted.actions()


@pytest.mark.parametrize("call", [{"id": "a", "type": "custom"}, {"id": "a", "type": "custom", "custom": {"input": "x"}}])
def test_a_malformed_call_is_refused(call: dict[str, Any]) -> None:
    messages = [HISTORY[0], {"role": "assistant", "content": None, "tool_calls": [call]}, {**HISTORY[2], "tool_call_id": "a"}]
    for kind in ("gemini", "openai"):
        with pytest.raises(Refusal) as refused:
            adapt(kind, {"messages": messages})
        assert refused.value.param == "messages[1].tool_calls[0].custom"


def test_a_call_of_another_type_is_refused_where_only_functions_exist() -> None:
    call = {"id": "a", "type": "web_search", "web_search": {}}
    messages = [HISTORY[0], {"role": "assistant", "content": None, "tool_calls": [call]}, {**HISTORY[2], "tool_call_id": "a"}]
    with pytest.raises(Refusal) as refused:
        adapt("groq", {"messages": messages})
    assert refused.value.param == "messages[1].tool_calls[0].type"


@pytest.mark.parametrize("kind", sorted(providers.OURS))
def test_functions_that_need_no_change_keep_their_bytes(kind: str) -> None:
    source = b'{"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type":"object"}}}]}'
    body = Body(source)
    assert CompiledRules((ToolPass(row=ROWS[kind]),), unknown="pass").apply(body, kind, Options(strict=True), {}) == []
    assert body.encode() == source
