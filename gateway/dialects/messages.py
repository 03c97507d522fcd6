"""Checks of `messages`: roles, content, and whether tool results follow their calls.

Only the checked fields are decoded.
"""

from __future__ import annotations

import msgspec

from gateway.dialects.described import Schema
from gateway.errors import BadRequest, refuse

MAX_MESSAGES = 10_000
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

_TEXT_PART: Schema = {
    "if": {"properties": {"type": {"const": "text"}}},
    "then": {"properties": {"text": {"type": "string"}}, "required": ["text"]},
}
_PART: Schema = {"type": "object", "properties": {"type": {"type": "string"}}, "required": ["type"], **_TEXT_PART}
_CALL: Schema = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
_OF_ROLE: dict[str, Schema] = {
    "tool": {"properties": {"tool_call_id": {"type": "string"}}, "required": ["tool_call_id"]},
    "assistant": {"properties": {"content": {"type": ["string", "array", "null"]}}},
}
MESSAGES: Schema = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_MESSAGES,
    "items": {
        "type": "object",
        "properties": {
            "role": {"type": "string", "enum": sorted(ROLES)},
            "content": {"type": ["string", "array", "null"], "items": _PART},
            "tool_calls": {"type": ["array", "null"], "items": _CALL},
            "tool_call_id": {"type": ["string", "null"]},
            "name": {"type": ["string", "null"]},
        },
        "required": ["role"],
        "allOf": [
            {
                "if": {"properties": {"role": {"const": role}}},
                "then": rule,
                **({"else": {"properties": {"content": {"type": ["string", "array"]}}, "required": ["content"]}}
                if role == "assistant" else {}),
            }
            for role, rule in _OF_ROLE.items()
        ],
    },
}
"""The schema of a conversation. In addition, the result of a tool must follow its call."""

_ABSENT = msgspec.Raw(b"")


class _Message(msgspec.Struct):
    role: str
    content: msgspec.Raw = _ABSENT
    tool_calls: list[dict[str, msgspec.Raw]] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    function_call: msgspec.Raw = _ABSENT
    refusal: msgspec.Raw = _ABSENT
    reasoning_content: msgspec.Raw = _ABSENT
    reasoning: msgspec.Raw = _ABSENT
    thinking_blocks: msgspec.Raw = _ABSENT
    audio: msgspec.Raw = _ABSENT


_decode_messages = msgspec.json.Decoder(list[_Message]).decode
_decode_parts = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_text = msgspec.json.Decoder(str).decode


def check_count(count: int, param: str = "messages") -> None:
    """Raise BadRequest if a conversation has too many messages."""
    if count > MAX_MESSAGES:
        raise refuse(param, f"'{param}' must contain at most {MAX_MESSAGES} messages, not {count}.")


def check_messages(source: bytes) -> None:
    """Check the roles, the content and the tool results of a conversation. Raise BadRequest for the first error."""
    try:
        messages = _decode_messages(source)
    except msgspec.ValidationError as error:
        raise _message_error(str(error)) from None
    except msgspec.DecodeError as error:
        raise refuse("messages", f"'messages' contains a value that cannot be decoded: {error}.") from None
    if not messages:
        raise refuse("messages", "'messages' must contain at least one message.")
    check_count(len(messages))
    called: set[str] = set()
    for index, message in enumerate(messages):
        if message.role not in ROLES:
            raise refuse(
                f"messages[{index}].role",
                f"'{message.role[:40]}' is not a role. Use one of {', '.join(sorted(ROLES))}.",
            )
        _check_content(message, index)
        if message.tool_calls is not None:
            called.update(_check_tool_calls(message, index))
        if message.role == "tool":
            _check_tool_result(message, index, called)


def _check_content(message: _Message, index: int) -> None:
    content = message.content
    opening = bytes(content)[:1]
    if opening == b'"':
        return
    param = f"messages[{index}].content"
    if opening in (b"", b"n"):
        if message.role != "assistant" or (not opening and not _has_other_content(message)):
            raise refuse(param, f"'{param}' is required for role '{message.role}'.", "invalid_type")
        return
    if opening != b"[":
        raise refuse(param, f"'{param}' must be a string or a list of content parts.", "invalid_type")
    try:
        parts = _decode_parts(content)
    except msgspec.ValidationError as error:
        raise refuse(param, f"'{param}' must be a list of objects: {error}.", "invalid_type") from None
    for part_index, part in enumerate(parts):
        kind = part.get("type")
        if kind is None or bytes(kind)[:1] != b'"':
            raise refuse(
                f"{param}[{part_index}].type", f"'{param}[{part_index}].type' must be a string.", "invalid_type"
            )
        if bytes(kind) == b'"text"' and bytes(part.get("text", b""))[:1] != b'"':
            raise refuse(
                f"{param}[{part_index}].text", f"'{param}[{part_index}].text' must be a string.", "invalid_type"
            )


def _has_other_content(message: _Message) -> bool:
    """Return whether an assistant message without content has another field, such as tool calls."""
    others = (message.function_call, message.refusal, message.reasoning_content, message.reasoning, message.thinking_blocks, message.audio)
    return bool(message.tool_calls) or any(len(value) for value in others)


def _check_tool_calls(message: _Message, index: int) -> list[str]:
    ids = []
    for call_index, tool_call in enumerate(message.tool_calls or ()):
        raw = tool_call.get("id", _ABSENT)
        if bytes(raw)[:1] != b'"':
            param = f"messages[{index}].tool_calls[{call_index}].id"
            raise refuse(param, f"'{param}' must be a string.", "invalid_type")
        ids.append(_decode_text(raw))
    return ids


def _check_tool_result(message: _Message, index: int, called: set[str]) -> None:
    if message.tool_call_id is None:
        raise refuse(
            f"messages[{index}].tool_call_id",
            f"'messages[{index}].tool_call_id' is required for role 'tool'.",
            "invalid_type",
        )
    if message.tool_call_id not in called:
        raise refuse(
            f"messages[{index}].role",
            f"'messages[{index}]' answers the tool call '{message.tool_call_id[:80]}', which is not in an earlier assistant message.",
        )


def _message_error(text: str) -> BadRequest:
    """Turn msgspec's message ("... - at `$[1].role`") into a 400 for messages[1].role."""
    reason, _, path = text.partition(" - at `$")
    param = "messages" + path.rstrip("`").replace("[...]", "")
    if "missing required field" in reason:
        field = reason.split("`")[-2]
        return refuse(f"{param}.{field}", f"'{param}.{field}' is required.", "missing_required_parameter")
    return refuse(param, f"'{param}' has the wrong type: {reason.lower()}.", "invalid_type")
