"""Tools of the caller are translated; hosted tools are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.dialects.responses_api.changes import Changes
from gateway.dialects.responses_api.tools import Tools, read_choice
from gateway.dialects.responses_api.values import Raw, decode, encode
from gateway.errors import BadRequest

HOSTED = (
    "file_search", "computer", "computer_use_preview", "web_search", "web_search_preview", "mcp",
    "code_interpreter", "image_generation", "local_shell", "shell", "apply_patch", "tool_search", "programmatic_tool_calling",
)  # fmt: skip


def tools(*given: Any, strict: bool = True) -> Any:
    """Return the tools of the chat completion."""
    return decode(encode(Tools(Changes(strict=strict)).read(Raw(encode(given)))))


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (
            {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
            {
                "type": "function",
                "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
            },
        ),
        (
            {"type": "function", "name": "f", "parameters": None, "strict": None},
            {"type": "function", "function": {"name": "f"}},
        ),
        (
            {"type": "function", "name": "f", "defer_loading": False, "allowed_callers": ["direct"]},
            {"type": "function", "function": {"name": "f"}},
        ),
        ({"type": "custom", "name": "sh"}, {"type": "custom", "custom": {"name": "sh"}}),
        (
            {"type": "custom", "name": "sh", "format": {"type": "text"}},
            {"type": "custom", "custom": {"name": "sh", "format": {"type": "text"}}},
        ),
        (
            {"type": "custom", "name": "sh", "format": {"type": "grammar", "syntax": "lark", "definition": "start: A"}},
            {
                "type": "custom",
                "custom": {
                    "name": "sh",
                    "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: A"}},
                },
            },
        ),
    ],
    ids=str,
)
def test_tool_becomes_that_of_a_chat_completion(tool: dict[str, Any], expected: dict[str, Any]) -> None:
    assert tools(tool) == [expected]


@pytest.mark.parametrize("kind", HOSTED)
def test_hosted_tool_is_refused_by_name(kind: str) -> None:
    with pytest.raises(BadRequest, match=f"'{kind}' is not supported") as refused:
        tools({"type": "function", "name": "f"}, {"type": kind})
    assert refused.value.param == "tools[1].type"
    with pytest.raises(BadRequest, match=f"'{kind}' is not supported"):
        read_choice(Raw(encode({"type": kind})))


def test_functions_that_are_strict_by_default_are_reported_once() -> None:
    changes = Changes(strict=True)
    given: list[dict[str, Any]] = [{}, {"strict": None}, {"strict": True}, {"strict": False}]
    Tools(changes).read(Raw(encode([{"type": "function", "name": f"f{at}", **more} for at, more in enumerate(given)])))
    assert [(each.param, each.action) for each in changes.made] == [("tools[0].strict", "warn")]


@pytest.mark.parametrize(
    "field", [{"defer_loading": True}, {"allowed_callers": ["programmatic"]}, {"output_schema": {}}], ids=str
)
def test_field_that_chat_lacks_is_reported(field: dict[str, Any]) -> None:
    changes = Changes(strict=False)
    Tools(changes).read(Raw(encode([{"type": "function", "name": "f", "strict": False, **field}])))
    assert [each.param for each in changes.made] == [f"tools[0].{next(iter(field))}"]
    with pytest.raises(BadRequest):
        tools({"type": "function", "name": "f", **field})


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        *((mode, mode) for mode in ("auto", "none", "required")),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "custom", "name": "sh"}, {"type": "custom", "custom": {"name": "sh"}}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        ),
    ],
    ids=str,
)
def test_choice_becomes_that_of_a_chat_completion(choice: Any, expected: Any) -> None:
    assert decode(encode(read_choice(Raw(encode(choice))))) == expected


@pytest.mark.parametrize(
    ("read", "given", "param"),
    [
        ("tools", {"type": "function"}, "tools"),
        ("tools", [3], "tools[0]"),
        ("tools", [{"name": "f"}], "tools[0].type"),
        ("tools", [{"type": "function"}], "tools[0].name"),
        ("tools", [{"type": "custom", "name": "x", "format": {"type": "x"}}], "tools[0].format.type"),
        ("tools", [{"type": "custom", "name": "x", "format": {"type": "grammar"}}], "tools[0].format.syntax"),
        ("choice", "any", "tool_choice"),
        ("choice", 3, "tool_choice"),
        ("choice", {"type": "function"}, "tool_choice.name"),
        ("choice", {"name": "f"}, "tool_choice.type"),
        ("choice", {"type": "allowed_tools", "tools": []}, "tool_choice.mode"),
        ("choice", {"type": "allowed_tools", "mode": "auto"}, "tool_choice.tools"),
        ("choice", {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}, "tool_choice.tools[0].type"),
    ],
    ids=str,
)
def test_invalid_tool_or_choice_is_refused_with_its_place(read: str, given: Any, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        Tools(Changes(strict=False)).read(Raw(encode(given))) if read == "tools" else read_choice(Raw(encode(given)))
    assert refused.value.param == param
