"""Translates tools, the choice among them, and the output configuration to parameters of a chat completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.dialects.messages_api.changes import Changes, InexpressibleError, missing, unsupported
from gateway.dialects.messages_api.fields import ABSENT, Fields, fields, is_default, is_given, list_of_fields, raw_text, text
from gateway.errors import refuse

CHOICES: Mapping[str, str] = {"auto": "auto", "any": "required", "none": "none"}
_ANTHROPIC_ONLY: Mapping[str, tuple[bytes, ...]] = {
    "allowed_callers": (b'["direct"]',),
    "defer_loading": (b"false",),
    "eager_input_streaming": (b"false",),
    "input_examples": (b"[]",),
}
"""Fields of tools that a chat completion cannot express, with the values that mean the same as an absent field."""
_USUAL = {"name": ord('"'), "description": ord('"'), "input_schema": ord("{")}
"""The fields of most tools, and the first bytes of their values."""
FORMAT_NAME = "output"


def translate_tools(raw: msgspec.Raw, changes: Changes) -> list[dict[str, Any]]:
    """Return the functions for a list of tools. For each of Anthropic's own tools, record a refusal."""
    functions = []
    for index, tool in enumerate(list_of_fields(raw, "tools")):
        try:
            functions.append(_function(tool, f"tools[{index}]", changes))
        except InexpressibleError as error:
            changes.refuse(error)
    return functions


def _function(tool: Fields, param: str, changes: Changes) -> dict[str, Any]:
    if tool.keys() == _USUAL.keys() and {name: memoryview(tool[name])[0] for name in _USUAL} == _USUAL:
        function = {"name": tool["name"], "description": tool["description"], "parameters": tool["input_schema"]}
        return {"type": "function", "function": function}
    kind = tool.get("type", ABSENT)
    if is_given(kind) and (named := text(kind, f"{param}.type")) != "custom":
        raise unsupported(
            f"{param}.type",
            f"The tool '{named[:60]}' is one of Anthropic's own, which other models do not have. "
            "Define it as a custom tool with a name and an input_schema.",
        )
    schema = tool.get("input_schema", ABSENT)
    if not len(schema):
        raise missing(f"{param}.input_schema")
    fields(schema, f"{param}.input_schema")
    function = {"name": raw_text(tool.get("name", ABSENT), f"{param}.name")}
    if is_given(description := tool.get("description", ABSENT)):
        function["description"] = raw_text(description, f"{param}.description")
    function["parameters"] = schema
    if is_given(strict := tool.get("strict", ABSENT)):
        function["strict"] = strict
    for name, neutral in _ANTHROPIC_ONLY.items():
        if not is_default(tool.get(name, ABSENT), *neutral):
            changes.lose(f"{param}.{name}", "a function of a chat completion has no such field")
    known = ("type", "name", "description", "input_schema", "strict", *_ANTHROPIC_ONLY)
    extra = {name: value for name, value in tool.items() if name not in known and is_given(value)}
    return {"type": "function", "function": function, **extra}


def translate_choice(raw: msgspec.Raw, changes: Changes) -> dict[str, Any]:
    """Return `tool_choice` and `parallel_tool_calls` for a choice."""
    choice = fields(raw, "tool_choice")
    kind = text(choice.get("type", ABSENT), "tool_choice.type")
    translated: dict[str, Any]
    if kind == "tool":
        name = raw_text(choice.get("name", ABSENT), "tool_choice.name")
        translated = {"tool_choice": {"type": "function", "function": {"name": name}}}
    elif kind in CHOICES:
        translated = {"tool_choice": CHOICES[kind]}
    else:
        raise refuse("tool_choice.type", "'tool_choice.type' must be auto, any, tool or none.")
    single = choice.get("disable_parallel_tool_use", ABSENT)
    if is_given(single):
        if bytes(single) not in (b"true", b"false"):
            param = "tool_choice.disable_parallel_tool_use"
            raise refuse(param, f"'{param}' must be a boolean.", "invalid_type")
        if bytes(single) == b"true":
            translated["parallel_tool_calls"] = False
    _lose_others(choice, "tool_choice", ("type", "name", "disable_parallel_tool_use"), changes)
    return translated


def translate_output(raw: msgspec.Raw, changes: Changes) -> dict[str, Any]:
    """Return `reasoning_effort` and `response_format` for `output_config`."""
    config = fields(raw, "output_config")
    translated: dict[str, Any] = {}
    if is_given(effort := config.get("effort", ABSENT)):
        translated["reasoning_effort"] = raw_text(effort, "output_config.effort")
    if is_given(form := config.get("format", ABSENT)):
        translated |= translate_format(form, "output_config.format")
    _lose_others(config, "output_config", ("effort", "format"), changes)
    return translated


def translate_format(raw: msgspec.Raw, param: str) -> dict[str, Any]:
    """Return `response_format` for a JSON schema."""
    form = fields(raw, param)
    if text(form.get("type", ABSENT), f"{param}.type") != "json_schema":
        raise refuse(f"{param}.type", f"'{param}.type' must be json_schema.")
    schema = form.get("schema", ABSENT)
    if not len(schema):
        raise missing(f"{param}.schema")
    fields(schema, f"{param}.schema")
    schema_format = {"name": FORMAT_NAME, "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema_format}}


def translate_metadata(raw: msgspec.Raw, changes: Changes) -> dict[str, Any]:
    """Return `user` for `metadata.user_id`."""
    metadata = fields(raw, "metadata")
    user = metadata.get("user_id", ABSENT)
    _lose_others(metadata, "metadata", ("user_id",), changes)
    return {"user": raw_text(user, "metadata.user_id")} if is_given(user) else {}


def _lose_others(given: Fields, param: str, known: tuple[str, ...], changes: Changes) -> None:
    for name, raw in given.items():
        if name not in known and is_given(raw):
            changes.lose(f"{param}.{name}", "a chat completion cannot express it")
