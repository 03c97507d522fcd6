"""The shape of a conversation: roles, content, tool results after their calls. Only what must be judged is decoded."""

from __future__ import annotations

import msgspec

from gateway.errors import BadRequest, refuse

MAX_MESSAGES = 10_000
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

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
    audio: msgspec.Raw = _ABSENT


_decode_messages = msgspec.json.Decoder(list[_Message]).decode
_decode_parts = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_text = msgspec.json.Decoder(str).decode


def check_messages(source: bytes) -> None:
    """The shape of a conversation: roles, content, tool results after their calls."""
    try:
        messages = _decode_messages(source)
    except msgspec.ValidationError as error:
        raise _message_error(str(error)) from None
    except msgspec.DecodeError as error:
        raise refuse("messages", f"'messages' has a value that cannot be read: {error}.") from None
    if not messages:
        raise refuse("messages", "'messages' must have at least one message.")
    if len(messages) > MAX_MESSAGES:
        raise refuse("messages", f"'messages' takes at most {MAX_MESSAGES} messages, not {len(messages)}.")
    called: set[str] = set()
    for at, message in enumerate(messages):
        if message.role not in ROLES:
            raise refuse(f"messages[{at}].role", f"'{message.role[:40]}' is not a role; use one of {', '.join(sorted(ROLES))}.")
        _check_content(message, at)
        if message.tool_calls is not None:
            called.update(_check_tool_calls(message, at))
        if message.role == "tool":
            _check_tool_result(message, at, called)


def _check_content(message: _Message, at: int) -> None:
    content = message.content
    opening = bytes(content)[:1]
    if opening == b'"':
        return
    param = f"messages[{at}].content"
    if opening in (b"", b"n"):
        if message.role != "assistant" or (not opening and not _says_something(message)):
            raise refuse(param, f"'{param}' is required for role '{message.role}'.", "invalid_type")
        return
    if opening != b"[":
        raise refuse(param, f"'{param}' must be a string or a list of content parts.", "invalid_type")
    try:
        parts = _decode_parts(content)
    except msgspec.ValidationError as error:
        raise refuse(param, f"'{param}' must be a list of objects: {error}.", "invalid_type") from None
    for index, part in enumerate(parts):
        kind = part.get("type")
        if kind is None or bytes(kind)[:1] != b'"':
            raise refuse(f"{param}[{index}].type", f"'{param}[{index}].type' must be a string.", "invalid_type")
        if bytes(kind) == b'"text"' and bytes(part.get("text", b""))[:1] != b'"':
            raise refuse(f"{param}[{index}].text", f"'{param}[{index}].text' must be a string.", "invalid_type")


def _says_something(message: _Message) -> bool:
    """An assistant turn without content must carry something else."""
    others = (message.function_call, message.refusal, message.reasoning_content, message.audio)
    return bool(message.tool_calls) or any(len(value) for value in others)


def _check_tool_calls(message: _Message, at: int) -> list[str]:
    ids = []
    for index, tool_call in enumerate(message.tool_calls or ()):
        raw = tool_call.get("id", _ABSENT)
        if bytes(raw)[:1] != b'"':
            param = f"messages[{at}].tool_calls[{index}].id"
            raise refuse(param, f"'{param}' must be a string.", "invalid_type")
        ids.append(_decode_text(raw))
    return ids


def _check_tool_result(message: _Message, at: int, called: set[str]) -> None:
    if message.tool_call_id is None:
        raise refuse(f"messages[{at}].tool_call_id", f"'messages[{at}].tool_call_id' is required for role 'tool'.", "invalid_type")
    if message.tool_call_id not in called:
        raise refuse(
            f"messages[{at}].role",
            f"'messages[{at}]' answers the tool call '{message.tool_call_id[:80]}', which no earlier assistant message made.",
        )


def _message_error(text: str) -> BadRequest:
    """msgspec's words ("... - at `$[1].role`") as a 400 that names messages[1].role."""
    words, _, path = text.partition(" - at `$")
    param = "messages" + path.rstrip("`").replace("[...]", "")
    if "missing required field" in words:
        field = words.split("`")[-2]
        return refuse(f"{param}.{field}", f"'{param}.{field}' is required.", "missing_required_parameter")
    return refuse(param, f"'{param}' has the wrong type: {words.lower()}.", "invalid_type")
