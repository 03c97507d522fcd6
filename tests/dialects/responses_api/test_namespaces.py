"""Tools of a namespace are functions of the chat completion, and calls come back with their namespace."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.dialects.responses_api.namespaces import MAX_NAME_CHARS, Member
from gateway.errors import BadRequest
from tests.dialects.responses_api.grammar import assemble, messages, response_of, to_chat, translator
from tests.dialects.responses_api.test_stream import DONE, call, sse
from tests.providers.wires import answer, chunk

NAMESPACE = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers.",
    "tools": [
        {"type": "function", "name": "find", "description": "Find one.", "parameters": {"type": "object"}},
        {"type": "custom", "name": "note"},
    ],
}
TOOLS = [{"type": "function", "name": "find"}, NAMESPACE]


def test_names_and_descriptions_contain_the_namespace() -> None:
    find = {"name": "crm__find", "description": "Customers.\n\nFind one.", "parameters": {"type": "object"}}
    assert to_chat({"tools": TOOLS}, strict=True)["tools"] == [
        {"type": "function", "function": {"name": "find"}},
        {"type": "function", "function": find},
        {"type": "custom", "custom": {"name": "crm__note", "description": "Customers."}},
    ]
    assert [(each.param, each.action) for each in translator(tools=TOOLS).adjustments] == [
        ("tools[0].strict", "warn"),
        ("tools[1]", "reshape"),
    ]


def test_call_comes_back_with_its_namespace_and_returns_under_the_same_name() -> None:
    called = {"id": "c0", "type": "function", "function": {"name": "crm__find", "arguments": "{}"}}
    output = response_of(answer({"content": None, "tool_calls": [called]}, "tool_calls"), tools=TOOLS)["output"]
    made = translator(stream=True, tools=TOOLS)
    out = made.feed(sse(chunk(call(0, "{}", "crm__find")))) + made.end(sse(chunk({}, "tool_calls")) + DONE)
    assert assemble(out)["output"] == output
    assert (output[0]["name"], output[0]["namespace"]) == ("find", "crm")
    assert messages(*output)[0]["tool_calls"] == [called]


def test_call_of_a_tool_without_a_namespace_has_none() -> None:
    called = {"id": "c0", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    output = response_of(answer({"content": None, "tool_calls": [called]}, "tool_calls"), tools=TOOLS)["output"]
    assert "namespace" not in output[0]


@pytest.mark.parametrize(("namespace", "name"), [("a" * 60, "b"), ("a", "b" * 62), ("n" * 200, "m" * 200)])
def test_long_name_is_cut_and_stays_unique(namespace: str, name: str) -> None:
    flat = Member(namespace, name).flat_name
    assert len(flat) <= MAX_NAME_CHARS or len(f"{namespace}__{name}") <= MAX_NAME_CHARS
    assert flat != Member(namespace, name + "x").flat_name


def test_errors_name_the_tool_of_the_namespace() -> None:
    made = translator(tools=TOOLS)
    assert made.param("tools[2].custom.name") == "tools[1].tools[1].name"
    assert made.param("tools[1].function.parameters") == "tools[1].tools[0].parameters"
    assert made.param("tools[0].type") == "tools[0].type"


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{"type": "namespace", "tools": []}], "tools[0].name"),
        ([{"type": "namespace", "name": "n"}], "tools[0].tools"),
        ([{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}], "tools[0].tools[0].type"),
        ([{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}], "tools[0].tools[0].name"),
        ([{"type": "function", "name": "crm__find"}, NAMESPACE], "tools"),
    ],
    ids=str,
)
def test_invalid_namespace_is_refused(tools: list[dict[str, Any]], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        to_chat({"tools": tools})
    assert refused.value.param == param
