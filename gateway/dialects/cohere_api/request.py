"""Translates a request of Cohere's chat API to a chat completion.

Fields that only Cohere has, such as `safety_mode`, stay as they are: the rules of each provider accept or remove them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.dialects.plain_messages import read_turns
from gateway.dialects.plain_request import PlainForm
from gateway.errors import refuse, unreadable
from providers.base import Adjustment

NAMES = {"k": "top_k", "p": "top_p", "stop_sequences": "stop"}
"""Cohere's names for parameters, and the corresponding names in a chat completion. The values are the same."""
_CHOICES = {"REQUIRED": "required", "NONE": "none"}
_CHOICES_OF_CHAT = {b'"%b"' % theirs.encode(): {"tool_choice": ours} for theirs, ours in _CHOICES.items()}
_COPIED = (
    "model", "stream", "max_tokens", "temperature", "seed", "frequency_penalty", "presence_penalty", "logprobs", "safety_mode", "priority",
    "tools",
)  # fmt: skip
PLAIN = PlainForm(
    parameters={**{name: name for name in _COPIED}, **NAMES},
    turns="messages",
    read_turns=read_turns,
    translated={"tool_choice": lambda raw: _CHOICES_OF_CHAT.get(bytes(raw))},
)
"""The usual request."""
CALLERS_NAMES = {
    **{new: old for old, new in NAMES.items()},
    "reasoning_budget": "thinking.token_budget",
    "disable_reasoning": "thinking.type",
}
FORMAT_NAME = "output"
"""The name that a chat completion requires for a schema. Cohere's schemas have no names."""

Message = dict[str, Any]
_decode = msgspec.json.Decoder(dict[str, Any]).decode
encode = msgspec.json.Encoder().encode


def translate_request(source: bytes) -> tuple[bytes, list[Adjustment]]:
    """Return the chat completion and the adjustments. Raise BadRequest for a field that cannot be translated."""
    body, made = translate_fields(decode(source))
    return encode(body), made


def decode(source: bytes) -> dict[str, Any]:
    """Return the fields of a request. Raise BadRequest for a number that is out of range."""
    try:
        return _decode(source)
    except msgspec.DecodeError as error:
        raise unreadable(error) from None


def translate_fields(given: dict[str, Any]) -> tuple[dict[str, Any], list[Adjustment]]:
    """Return the fields of the chat completion, in the caller's order, and the adjustments.

    Raise BadRequest for a field that cannot be translated. Most values of the wrong type are copied: the checks of chat
    completions refuse them later.
    """
    made: list[Adjustment] = []
    for old, new in NAMES.items():
        if old in given and new in given:
            raise refuse(new, f"'{new}' and '{old}' are the same parameter. Send only '{old}'.")
    body = {NAMES.get(name, name): value for name, value in given.items()}
    if body.get("n") not in (None, 1):
        raise refuse("n", "Cohere's API returns one answer. Omit 'n', or send one call for each answer.", "unsupported_parameter")
    if type(body.get("messages")) is list:
        body["messages"] = [_message(message, f"messages[{index}]", made) for index, message in enumerate(body["messages"])]
    documents = body.get("documents")
    if documents is not None and (type(documents) is not list or not all(type(each) in (str, dict) for each in documents)):
        raise refuse("documents", "'documents' must be a list of strings or objects.", "invalid_type")
    choice = body.get("tool_choice")
    if type(choice) is str:
        body["tool_choice"] = _CHOICES.get(choice, choice)
    _translate_tools(body)
    _translate_format(body)
    _translate_thinking(body)
    return body, made


def _message(message: Any, path: str, made: list[Adjustment]) -> Any:
    if type(message) is not dict:
        return message
    content = message.get("content")
    if message.get("role") == "tool" and type(content) is list:
        return {**message, "content": _tool_result(content, path, made)}
    if message.get("role") != "assistant":
        return message
    thoughts = message.get("tool_plan") or ""
    if type(thoughts) is not str:
        raise refuse(f"{path}.tool_plan", f"'{path}.tool_plan' must be a string.", "invalid_type")
    result = {name: value for name, value in message.items() if name != "tool_plan"}
    if type(content) is list:
        result["content"] = [part for part in content if _type(part) != "thinking"]
        thoughts += "".join(str(part.get("thinking") or "") for part in content if _type(part) == "thinking")
    if thoughts:
        result["reasoning_content"] = thoughts
    if not result.get("content") and message.get("tool_calls"):
        result["content"] = None
    return result


def _type(part: Any) -> Any:
    return part.get("type") if type(part) is dict else None


def _tool_result(parts: list[Any], path: str, made: list[Adjustment]) -> str | list[Any]:
    """Return the text of a tool result. The text of a document is the JSON of its data and its id.

    A result with other parts is returned as it is.
    """
    texts = []
    changes = []
    for index, part in enumerate(parts):
        document = part.get("document") if _type(part) == "document" else None
        if type(document) is dict and type(document.get("data")) is dict:
            named = {"id": document["id"]} if "id" in document else {}
            texts.append(encode({**named, **document["data"]}).decode())
            why = "a document in a tool result is sent as JSON"
            changes.append(Adjustment(f"{path}.content[{index}]", "reshape", why=why))
        elif _type(part) == "text" and type(part.get("text")) is str:
            texts.append(part["text"])
        else:
            return parts
    made += changes
    return "\n".join(texts)


def _translate_tools(body: dict[str, Any]) -> None:
    """Replace `strict_tools: true` with `strict: true` in each function."""
    tools = body.get("tools")
    if body.get("strict_tools") is not True or type(tools) is not list:
        return
    del body["strict_tools"]
    body["tools"] = [
        {**tool, "function": {**tool["function"], "strict": True}} if type(tool) is dict and type(tool.get("function")) is dict else tool
        for tool in tools
    ]


def _translate_format(body: dict[str, Any]) -> None:
    """Translate a response format `json_object` with a schema to the `json_schema` of chat completions."""
    wanted = body.get("response_format")
    if type(wanted) is dict and wanted.get("type") == "json_object" and wanted.get("json_schema") is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": FORMAT_NAME, "schema": wanted["json_schema"]}}


def _translate_thinking(body: dict[str, Any]) -> None:
    """Translate `thinking`. The type "enabled" without a budget is omitted: it is the default of reasoning models."""
    thinking = body.get("thinking")
    if thinking is None:
        return
    if type(thinking) is not dict or thinking.get("type") not in ("enabled", "disabled"):
        raise refuse("thinking", "'thinking' must be an object whose 'type' is 'enabled' or 'disabled'.", "invalid_type")
    del body["thinking"]
    if thinking["type"] == "disabled":
        body["disable_reasoning"] = True
    elif (budget := thinking.get("token_budget")) is not None:
        if type(budget) is not int or budget < 1:
            raise refuse("thinking.token_budget", "'thinking.token_budget' must be a positive integer.", "invalid_type")
        body["reasoning_budget"] = budget
