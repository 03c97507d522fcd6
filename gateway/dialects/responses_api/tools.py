"""Tools and `tool_choice`. Hosted tools, which OpenAI itself runs, are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.dialects.responses_api.changes import Changes
from gateway.dialects.responses_api.values import (
    ABSENT,
    Raw,
    choice,
    elements,
    fields,
    is_absent,
    is_string,
    string,
    text,
    wrong_type,
)
from gateway.errors import BadRequest, refuse

_MODES = ("auto", "none", "required")
_ONLY_HERE = frozenset({"defer_loading", "allowed_callers", "output_schema"})
"""Fields of a tool that chat completions lack."""


def read_tools(raw: Raw, changes: Changes) -> list[dict[str, Any]]:
    """Return the tools of a chat completion."""
    return [
        _tool(f"tools[{index}]", fields(f"tools[{index}]", tool), changes)
        for index, tool in enumerate(elements("tools", raw))
    ]


def read_choice(raw: Raw) -> Raw | dict[str, Any]:
    """Return the `tool_choice` of a chat completion."""
    if is_string(raw):
        choice("tool_choice", raw, _MODES)
        return raw
    if memoryview(raw)[0] != ord("{"):
        raise wrong_type("tool_choice", "a string or an object")
    chosen = fields("tool_choice", raw)
    kind = text("tool_choice.type", chosen.get("type", ABSENT))
    if kind != "allowed_tools":
        return _named("tool_choice", kind, chosen)
    mode = choice("tool_choice.mode", chosen.get("mode", ABSENT), ("auto", "required"))
    allowed = []
    for index, tool in enumerate(elements("tool_choice.tools", chosen.get("tools", ABSENT))):
        param = f"tool_choice.tools[{index}]"
        members = fields(param, tool)
        allowed.append(_named(param, text(f"{param}.type", members.get("type", ABSENT)), members))
    return {"type": kind, "allowed_tools": {"mode": mode, "tools": allowed}}


def _named(param: str, kind: str, chosen: Mapping[str, Raw]) -> dict[str, Any]:
    if kind not in ("function", "custom"):
        raise _hosted(param, kind)
    return {"type": kind, kind: {"name": string(f"{param}.name", chosen.get("name", ABSENT))}}


def _tool(param: str, tool: Mapping[str, Raw], changes: Changes) -> dict[str, Any]:
    kind = text(f"{param}.type", tool.get("type", ABSENT))
    if kind not in ("function", "custom"):
        raise _hosted(param, kind)
    string(f"{param}.name", tool.get("name", ABSENT))
    kept: dict[str, Any] = {name: raw for name, raw in tool.items() if name != "type" and not is_absent(raw)}
    for name in _ONLY_HERE & kept.keys():
        if bytes(kept.pop(name)) not in (b"false", b'["direct"]'):
            changes.loss(f"{param}.{name}", "tools of a chat completion have no such field")
    if kind == "custom" and "format" in kept:
        kept["format"] = _format(f"{param}.format", kept["format"])
    return {"type": kind, kind: kept}


def _format(param: str, raw: Raw) -> Raw | dict[str, Any]:
    form = fields(param, raw)
    if choice(f"{param}.type", form.get("type", ABSENT), ("text", "grammar")) == "text":
        return raw
    syntax = string(f"{param}.syntax", form.get("syntax", ABSENT))
    return {
        "type": "grammar",
        "grammar": {"syntax": syntax, "definition": string(f"{param}.definition", form.get("definition", ABSENT))},
    }


def _hosted(param: str, kind: str) -> BadRequest:
    message = (
        f"The tool '{kind[:60]}' is not supported: only tools that the caller runs (function, custom) can be used."
    )
    return refuse(f"{param}.type", message, "unsupported_parameter")
