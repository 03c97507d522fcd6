"""OpenAI's Responses API as a strict server: yields each reason for which it would refuse a request.

Its fields are those of the openai package. It shares nothing with the rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_type_hints

from openai.types.responses import (
    custom_tool_param,
    function_tool_param,
    response_create_params,
    response_custom_tool_call_output_param,
    response_custom_tool_call_param,
    response_function_tool_call_param,
    response_input_file_param,
    response_input_image_param,
    response_input_text_param,
    response_reasoning_item_param,
)
from openai.types.responses.response_input_item_param import FunctionCallOutput

Json = dict[str, Any]


def fields_of(kind: Any) -> frozenset[str]:
    """Return the fields of a type of the package."""
    return frozenset(get_type_hints(kind))


BODY = fields_of(response_create_params.ResponseCreateParamsBase) | {"stream"}
PARTS = {
    "input_text": fields_of(response_input_text_param.ResponseInputTextParam),
    "input_image": fields_of(response_input_image_param.ResponseInputImageParam),
    "input_file": fields_of(response_input_file_param.ResponseInputFileParam),
}
ITEMS = {
    "function_call": fields_of(response_function_tool_call_param.ResponseFunctionToolCallParam),
    "custom_tool_call": fields_of(response_custom_tool_call_param.ResponseCustomToolCallParam),
    "function_call_output": fields_of(FunctionCallOutput),
    "custom_tool_call_output": fields_of(response_custom_tool_call_output_param.ResponseCustomToolCallOutputParam),
    "reasoning": fields_of(response_reasoning_item_param.ResponseReasoningItemParam),
}
TOOLS = {
    "function": fields_of(function_tool_param.FunctionToolParam),
    "custom": fields_of(custom_tool_param.CustomToolParam),
    "web_search_preview": frozenset({"type"}),
}


def response_objections(body: Json, *, reasons: bool = True) -> list[str]:
    """Return each reason for which the API would refuse the body. `reasons` states whether the model reasons."""
    found = [f"{name}: unknown parameter" for name in body if name not in BODY]
    found += [f"{name}: null" for name, value in body.items() if value is None]
    found += _items(body.get("input") or [])
    for number, tool in enumerate(body.get("tools") or ()):
        extra = set(tool) - TOOLS.get(tool["type"], frozenset())
        found += [f"tools[{number}].{name}: unknown parameter" for name in extra]
        if tool["type"] == "function" and not {"name", "parameters", "strict"} <= set(tool):
            found.append(f"tools[{number}]: required")
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and ("function" in choice or "custom" in choice or "allowed_tools" in choice):
        found.append("tool_choice: form of chat completions")
    if choice is not None and not body.get("tools"):
        found.append("tool_choice: no tools")
    cap = body.get("max_output_tokens")
    if cap is not None and cap < 16:
        found.append("max_output_tokens: integer below minimum value")
    form = (body.get("text") or {}).get("format", {})
    if form.get("type") == "json_schema" and not {"name", "schema"} <= set(form):
        found.append("text.format: required")
    encrypted = "reasoning.encrypted_content" in body.get("include", ())
    if encrypted and not reasons:
        found.append("include: encrypted content is not supported with this model")
    return found


def _items(items: list[Json]) -> Iterator[str]:
    opened: dict[str, str] = {}
    for number, item in enumerate(items):
        where = f"input[{number}]"
        kind = item.get("type", "message")
        if kind == "message":
            yield from _message(where, item)
            continue
        yield from (f"{where}.{name}: unknown parameter" for name in item if name not in ITEMS[kind])
        if kind == "reasoning":
            following = items[number + 1] if number + 1 < len(items) else {}
            if following.get("type") not in ("function_call", "custom_tool_call", "reasoning") and following.get("role") != "assistant":
                yield f"{where}: reasoning was provided without its required following item"
            continue
        if not 0 < len(item["call_id"]) <= 64:
            yield f"{where}.call_id: length"
        if kind.endswith("_output"):
            if opened.pop(item["call_id"], None) != kind.removesuffix("_output"):
                yield f"{where}.call_id: no tool call found"
            yield from _content(f"{where}.output", item["output"], PARTS)
        else:
            opened[item["call_id"]] = kind
    yield from (f"no tool output found for {call_id}" for call_id in opened)


def _message(where: str, item: Json) -> Iterator[str]:
    yield from (f"{where}.{name}: unknown parameter" for name in item if name not in ("type", "role", "content", "phase"))
    if item["role"] not in ("user", "assistant", "system", "developer"):
        yield f"{where}.role: {item['role']}"
    allowed = {"output_text": frozenset({"type", "text"})} if item["role"] == "assistant" else PARTS
    yield from _content(f"{where}.content", item["content"], allowed)


def _content(where: str, content: Any, allowed: dict[str, frozenset[str]]) -> Iterator[str]:
    if isinstance(content, str):
        return
    for number, part in enumerate(content):
        if part["type"] not in allowed:
            yield f"{where}[{number}].type: {part['type']}"
        else:
            yield from (f"{where}[{number}].{name}: unknown parameter" for name in part if name not in allowed[part["type"]])
