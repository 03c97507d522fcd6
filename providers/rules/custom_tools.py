"""Custom tools (`type: custom`), whose input is a text. A vendor without them gets functions with one string argument.

The calls in the vendor's answers become calls of custom tools again: the memo entry `CUSTOM_TOOLS` names these tools.
"""

from __future__ import annotations

from typing import Any

from providers.rules.rule import Work
from providers.tool_calls import json_text

CUSTOM_TOOLS = "custom tools"
"""Key of `Options.memo`: the names of the custom tools that were sent as functions."""
INPUT = "input"
"""The argument that carries the input."""


def is_custom(tool: dict[str, Any]) -> bool:
    """Return whether a tool is a custom tool, or a call or a choice names one."""
    return tool.get("type") == "custom" and type(tool.get("custom")) is dict


def tools_as_functions(work: Work, tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tools with custom tools converted to functions. Convert a choice of a custom tool as well, and remember the names."""
    custom = [tool["custom"]["name"] for tool in tools if is_custom(tool)]
    if not custom:
        return tools
    converted = [_as_function(work, index, tool["custom"]) if is_custom(tool) else tool for index, tool in enumerate(tools)]
    work.options.memo[CUSTOM_TOOLS] = frozenset(custom)
    choice = work.body.get("tool_choice")
    if type(choice) is dict and is_custom(choice):
        work.body.set("tool_choice", {"type": "function", "function": {"name": choice["custom"].get("name")}})
        work.report("tool_choice", "reshape", from_="custom", to="function")
    return converted


def _as_function(work: Work, index: int, custom: dict[str, Any]) -> dict[str, Any]:
    """Return a tool with one string argument. The description of the argument contains the grammar, which the upstream does not enforce."""
    where = f"tools[{index}]"
    work.report(where, "reshape", to="function", why="custom tools are not supported; the input is sent as an argument of a function")
    description = str(custom.get("description") or "")
    argument: dict[str, Any] = {"type": "string"}
    grammar = _grammar(custom)
    if grammar:
        why = "the upstream does not enforce grammars; the description contains the grammar"
        work.report_lossy(f"{where}.custom.format", "downgrade", why, code="unsupported_parameter")
        argument["description"] = grammar
    schema = {"type": "object", "properties": {INPUT: argument}, "required": [INPUT], "additionalProperties": False}
    function = {"name": custom["name"], **({"description": description} if description else {}), "parameters": schema}
    return {"type": "function", "function": function}


def _grammar(custom: dict[str, Any]) -> str:
    """Return the grammar of the input in words, or "" for free text."""
    form = custom.get("format")
    grammar = form.get("grammar") if type(form) is dict and form.get("type") == "grammar" else None
    if type(grammar) is not dict:
        return ""
    return f"The text must match this grammar ({grammar.get('syntax')}):\n{grammar.get('definition')}"


def call_as_function(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call of a custom tool as a call of a function."""
    custom = call["custom"]
    function = {"name": custom.get("name"), "arguments": json_text({INPUT: custom.get("input") or ""})}
    return {**{name: value for name, value in call.items() if name != "custom"}, "type": "function", "function": function}
