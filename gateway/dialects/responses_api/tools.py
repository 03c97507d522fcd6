"""Tools and `tool_choice`. A chat completion cannot express hosted tools, which OpenAI itself runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from gateway.dialects.responses_api.changes import Changes
from gateway.dialects.responses_api.namespaces import Member
from gateway.dialects.responses_api.values import (
    ABSENT,
    Raw,
    choice,
    elements,
    encode,
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


class Tools:
    """The tools of one request."""

    __slots__ = ("_changes", "members", "origins", "tools")

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self.tools: list[dict[str, Any]] = []
        """The tools of the chat completion."""
        self.origins: list[str] = []
        """The caller's parameter of each tool."""
        self.members: dict[str, Member] = {}
        """The tools that are in a namespace, by their names in the chat completion."""

    def read(self, raw: Raw) -> list[dict[str, Any]]:
        """Return the tools of the chat completion."""
        for index, tool in enumerate(elements("tools", raw)):
            param = f"tools[{index}]"
            members = fields(param, tool)
            if text(f"{param}.type", members.get("type", ABSENT)) == "namespace":
                self._namespace(param, members)
            else:
                self._add(param, _tool(param, members, self._changes))
        names = Counter(bytes(tool[tool["type"]]["name"]) for tool in self.tools)
        for name in self.members:
            if names[encode(name)] > 1:
                raise refuse("tools", f"'tools' has more than one tool that becomes '{name}'.")
        return self.tools

    def _namespace(self, param: str, namespace: Mapping[str, Raw]) -> None:
        name = text(f"{param}.name", namespace.get("name", ABSENT))
        described = namespace.get("description", ABSENT)
        about = "" if is_absent(described) else text(f"{param}.description", described)
        for index, raw in enumerate(elements(f"{param}.tools", namespace.get("tools", ABSENT))):
            where = f"{param}.tools[{index}]"
            tool = _tool(where, fields(where, raw), self._changes)
            inner = tool[tool["type"]]
            member = Member(name, text(f"{where}.name", inner["name"]))
            own = text(f"{where}.description", inner["description"]) if "description" in inner else ""
            inner["name"] = Raw(encode(member.flat_name))
            if about:
                inner["description"] = f"{about}\n\n{own}" if own else about
            self.members[member.flat_name] = member
            self._add(where, tool)
        self._changes.without_loss(param, "a chat completion has no namespaces; the function names contain the namespace", "reshape")

    def _add(self, param: str, tool: dict[str, Any]) -> None:
        self.tools.append(tool)
        self.origins.append(param)


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
    if kind == "function" and "strict" not in kept:
        changes.warn(f"{param}.strict", "functions of a chat completion are not strict unless they set 'strict: true'")
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
