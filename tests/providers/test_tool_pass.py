"""providers.rules.tool_pass: tools with the same name, for vendors that accept each name once."""

from __future__ import annotations

from typing import Any

import pytest

from providers.base import Refusal
from providers.rules.tool_pass import ToolPass
from tests.providers.adapting import adapt
from tests.support.each import each

KINDS = ["anthropic", "deepseek"]


def tool(name: str, text: str = "") -> dict[str, Any]:
    """Return a tool."""
    return {"type": "function", "function": {"name": name, "description": text, "parameters": {"type": "object", "properties": {}}}}


def names(sent: dict[str, Any]) -> list[str]:
    """Return the names of the tools that are sent."""
    return [each.get("name") or each["function"]["name"] for each in sent["tools"]]


@each("kind", KINDS)
def test_a_tool_that_repeats_another_is_dropped(kind: str) -> None:
    adapted = adapt(kind, {"tools": [tool("f"), tool("g"), tool("f"), tool("f")]}, strict=True)
    assert names(adapted.sent) == ["f", "g"]
    assert {("tools[2]", "drop"), ("tools[3]", "drop")} <= set(adapted.actions())


@each("kind", KINDS)
def test_different_tools_with_one_name_are_refused(kind: str) -> None:
    with pytest.raises(Refusal, match=r"tools\[0\] has the same name") as refused:
        adapt(kind, {"tools": [tool("f"), tool("g"), tool("f", "another")]})
    assert refused.value.param == "tools[2].function.name"


@each("kind", KINDS)
def test_functions_are_checked_like_tools(kind: str) -> None:
    listed = [tool("f")["function"], tool("f", "another")["function"]]
    with pytest.raises(Refusal):
        adapt(kind, {"functions": listed})
    assert names(adapt(kind, {"functions": listed[:1] * 2}).sent) == ["f"]


@each("kind", ["openai", "mistral", "vllm"])
def test_other_vendors_get_all_tools(kind: str) -> None:
    assert names(adapt(kind, {"tools": [tool("f"), tool("f")]}, strict=True).sent) == ["f", "f"]
    assert not ToolPass().row.unique_tools
