"""Translates the turns of an agent in few steps: texts, tool calls and tool results with the usual fields, in the usual order.

An agent sends its whole history with every call. Here the decoder checks the types and the fields of a block. All other turns are left
to `Conversation`, which translates them field by field, with the same result for the turns that are translated here.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from gateway.dialects.messages_api.changes import Changes
from gateway.dialects.messages_api.content import content_of
from gateway.dialects.messages_api.fields import NULL, Fields
from gateway.dialects.messages_api.origin import Origin, numbers_of

_QUOTE, _LIST, _OBJECT = b'"[{'
_TEXT = msgspec.Raw(b'"text"')
_FAILED, _NOT_FAILED = msgspec.Raw(b"true"), msgspec.Raw(b"false")
_ROLES = {"user": msgspec.Raw(b'"user"'), "assistant": msgspec.Raw(b'"assistant"'), "system": msgspec.Raw(b'"system"')}
Translated = tuple[list[dict[str, Any]], list[Origin]]


class _Block(msgspec.Struct, tag_field="type", forbid_unknown_fields=True, gc=False):
    cache_control: msgspec.Raw = NULL


class _Text(_Block, tag="text", kw_only=True, gc=False):
    text: msgspec.Raw


class _ToolUse(_Block, tag="tool_use", kw_only=True, gc=False):
    id: msgspec.Raw
    name: msgspec.Raw
    input: msgspec.Raw


class _ToolResult(_Block, tag="tool_result", kw_only=True, gc=False):
    tool_use_id: msgspec.Raw
    content: msgspec.Raw = NULL
    is_error: msgspec.Raw = _NOT_FAILED


class Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A turn that has only a role and a content."""

    role: Literal["user", "assistant", "system"]
    content: msgspec.Raw

    def fields(self) -> Fields:
        """Return the fields as `Conversation.add_turn` reads them."""
        return {"role": _ROLES[self.role], "content": self.content}


_decode_turns = msgspec.json.Decoder(list[Turn]).decode
_decode_users = msgspec.json.Decoder(list[_Text | _ToolResult]).decode
_decode_assistants = msgspec.json.Decoder(list[_Text | _ToolUse]).decode


def read_turns(raw: msgspec.Raw) -> list[Turn] | None:
    """Return the turns of a request. Return None for anything else, and for an empty list."""
    try:
        return _decode_turns(raw) or None
    except (msgspec.DecodeError, RecursionError):
        return None


def translate_turn(turn: Turn, param: str, changes: Changes) -> Translated | None:
    """Return the messages of a turn and their origins, or None if it must be translated field by field."""
    content = turn.content
    first = memoryview(content)[0]
    if first == _QUOTE:
        return [{"role": turn.role, "content": content}], [Origin(param)]
    if first != _LIST or turn.role == "system":
        return None
    try:
        return _user(_decode_users(content), param, changes) if turn.role == "user" else _assistant(_decode_assistants(content), param)
    except (msgspec.DecodeError, RecursionError):
        return None


def _user(blocks: list[_Text | _ToolResult], param: str, changes: Changes) -> Translated | None:
    """Return the tool results, each as a message, then the texts as one message. None if a result follows a text."""
    results: list[_ToolResult] = []
    parts: list[dict[str, Any]] = []
    for block in blocks:
        if type(block) is _Text and memoryview(block.text)[0] == _QUOTE:
            parts.append(_marked({"type": _TEXT, "text": block.text}, block))
        elif type(block) is _ToolResult and not parts and _is_usual(block):
            results.append(block)
        else:
            return None
    messages: list[dict[str, Any]] = []
    origins: list[Origin] = []
    for index, result in enumerate(results):
        where = f"{param}.content[{index}]"
        content = content_of(result.content, f"{where}.content", changes) if result.content != NULL else ""
        messages.append(_result(result, content))
        origins.append(Origin(where, numbers_of(content)))
    if parts or not results:
        messages.append({"role": "user", "content": parts})
        origins.append(Origin(param, list(range(len(results), len(blocks)))))
    return messages, origins


def _is_usual(block: _ToolResult) -> bool:
    return memoryview(block.tool_use_id)[0] == _QUOTE and block.is_error in (_FAILED, _NOT_FAILED, NULL)


def _result(block: _ToolResult, content: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"role": "tool", "tool_call_id": block.tool_use_id, "content": content if content != [] else ""}
    if block.is_error == _FAILED:
        result["is_error"] = True
    return _marked(result, block)


def _assistant(blocks: list[_Text | _ToolUse], param: str) -> Translated | None:
    """Return the texts and the tool calls as one message. None if a text follows a call, or if a call before the last has a cache mark."""
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for block in blocks:
        if type(block) is _Text and not calls and memoryview(block.text)[0] == _QUOTE:
            parts.append(_marked({"type": _TEXT, "text": block.text}, block))
        elif type(block) is _ToolUse and _has_values(block) and (block is blocks[-1] or block.cache_control == NULL):
            function = {"name": block.name, "arguments": bytes(block.input).decode(errors="replace")}
            calls.append({"id": block.id, "type": "function", "function": function})
        else:
            return None
    content: Any = parts[0]["text"] if len(parts) == 1 and len(parts[0]) == 2 else parts or None
    message: dict[str, Any] = {"role": "assistant", "content": content}
    origin = Origin(param, list(range(len(parts))), list(range(len(parts), len(blocks))))
    if calls:
        if blocks[-1].cache_control != NULL:
            message["cache_control"], origin.mark = blocks[-1].cache_control, len(blocks) - 1
        message["tool_calls"] = calls
    elif not parts:
        message["content"] = ""
    return [message], [origin]


def _has_values(block: _ToolUse) -> bool:
    return memoryview(block.id)[0] == memoryview(block.name)[0] == _QUOTE and memoryview(block.input)[0] == _OBJECT


def _marked(fields: dict[str, Any], block: _Block) -> dict[str, Any]:
    if block.cache_control != NULL:
        fields["cache_control"] = block.cache_control
    return fields
