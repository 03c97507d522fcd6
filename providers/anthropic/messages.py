"""Translates OpenAI's messages to Anthropic's: a separate system prompt, blocks for tool calls and results, image sources."""

from __future__ import annotations

import base64
import re
from typing import Any

import msgspec

from providers.rules.attachments import registered
from providers.rules.messages import Message, image_url
from providers.rules.rule import Rule, Work

Block = dict[str, Any]
_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)
IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
DOCUMENTS = ("application/pdf", "text/plain")
"""Media types of image and document blocks (anthropic 2.14.0, Base64ImageSource, Base64PDFSource, PlainTextSource)."""
INVALID_JSON = "INVALID_JSON"
"""The member with arguments that are not a JSON object (Anthropic's guide on fine-grained tool streaming)."""
_decode = msgspec.json.Decoder().decode


class Conversation(Rule, frozen=True):
    """Translates the whole conversation."""

    def apply(self, work: Work) -> None:
        """Set `system` and `messages`."""
        messages = work.body.get("messages")
        system = [message for message in messages if message.get("role") in ("system", "developer")]
        turns = _turns(work, messages)
        if system:
            work.body.set("system", _system(system))
            work.report("messages", "reshape", to="system")
        if turns != messages:
            work.body.set("messages", turns)
            if len(turns) + len(system) != len(messages) or any(turn not in messages for turn in turns):
                work.report("messages", "reshape", why="tool calls, results and images are sent as blocks")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"messages": {"support": "adjusted", "action": "reshape", "content": ["text", "image_url", "file"]}}


def _system(messages: list[Message]) -> str | list[Block]:
    """Return one text, or blocks if a part has fields besides its text, such as cache_control."""
    parts: list[Block] = []
    for message in messages:
        content = message.get("content") or ""
        parts += _marked(content if type(content) is list else [{"type": "text", "text": content}], message)
    if any(set(part) - {"type", "text"} for part in parts):
        return [part for part in parts if part.get("text")]
    return "\n\n".join(_joined(message.get("content") or "") for message in messages)


def _joined(content: Any) -> str:
    return content if type(content) is str else "".join(part.get("text") or "" for part in content)


def _turns(work: Work, messages: list[Message]) -> list[Message]:
    turns: list[Message] = []
    for position, message in enumerate(messages):
        role = message.get("role")
        if role == "user":
            turns.append({"role": "user", "content": _marked(_user_content(work, message["content"], position), message)})
        elif role == "assistant":
            turns.append({"role": "assistant", "content": _marked(_assistant_content(work, message, position), message)})
        elif role == "tool":
            _add_result(turns, _result(work, message, position))
        elif role not in ("system", "developer"):
            raise work.refuse(f"messages[{position}].role", "supported roles are system, developer, user, assistant and tool")
    return turns


def _marked(content: Any, message: Message) -> Any:
    """Return the content with the message's `cache_control` on its last block."""
    mark = message.get("cache_control")
    blocks = content if type(content) is list else [{"type": "text", "text": content}]
    if mark is None or not blocks or blocks[-1].get("text") == "":
        return content
    return [*blocks[:-1], {**blocks[-1], "cache_control": blocks[-1].get("cache_control", mark)}]


def _add_result(turns: list[Message], block: Block) -> None:
    """Add a tool result. The results of parallel calls share one user message."""
    last = turns[-1] if turns else None
    if last is not None and last["role"] == "user" and type(last["content"]) is list and last["content"][-1]["type"] == "tool_result":
        turns[-1] = {"role": "user", "content": [*last["content"], block]}
    else:
        turns.append({"role": "user", "content": [block]})


def _result(work: Work, message: Message, position: int) -> Block:
    content = message.get("content")
    if type(content) is list:
        content = _user_content(work, content, position)
    extra = {name: message[name] for name in ("is_error", "cache_control") if message.get(name) is not None}
    return {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": content, **extra}


def _user_content(work: Work, content: Any, position: int) -> Any:
    if type(content) is not list:
        return content
    return [_block(work, part, f"messages[{position}].content[{index}]") for index, part in enumerate(content)]


def _block(work: Work, part: dict[str, Any], param: str) -> Block:
    kind = part.get("type")
    extra = {"cache_control": part["cache_control"]} if "cache_control" in part else {}
    if kind == "text":
        return {"type": "text", "text": part.get("text", ""), **extra}
    if kind == "image_url":
        return {"type": "image", "source": _source(work, image_url(part), param, IMAGES), **extra}
    if kind == "file" and type(part.get("file")) is dict and type(part["file"].get("file_data")) is str:
        name = part["file"].get("filename")
        extra |= {"title": name} if type(name) is str and name else {}
        return {"type": "document", "source": _source(work, part["file"]["file_data"], param, DOCUMENTS), **extra}
    raise work.refuse(param, f"content of type {str(kind)[:40]!r} is not supported", "unsupported_content")


def _source(work: Work, address: str, param: str, media_types: tuple[str, ...]) -> Block:
    if address.startswith(("http://", "https://")):
        return {"type": "url", "url": address}
    match = _DATA.fullmatch(registered(address))
    if match is None:
        raise work.refuse(param, "an image or file must be an http or https address, or a base64 data: URI", "invalid_value")
    if match[1] not in media_types:
        raise work.refuse(param, f"supported media types are {', '.join(media_types)}", "unsupported_content")
    if match[1] == "text/plain":
        return {"type": "text", "media_type": match[1], "data": _text(work, match[2], param)}
    return {"type": "base64", "media_type": match[1], "data": match[2]}


def _text(work: Work, data: str, param: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError:
        raise work.refuse(param, "a text file must be UTF-8 in base64", "invalid_value") from None


def _assistant_content(work: Work, message: Message, position: int) -> Any:
    content, calls, thoughts = message.get("content"), message.get("tool_calls") or [], message.get("thinking_blocks") or []
    if not calls and not thoughts and type(content) is str and content:
        return content
    blocks: list[Block] = list(thoughts)
    if type(content) is list:
        blocks += [_text_block(work, part, f"messages[{position}].content[{index}]") for index, part in enumerate(content)]
    elif content or message.get("refusal"):
        blocks.append({"type": "text", "text": content or message["refusal"]})
    blocks += [_tool_use(work, call, f"messages[{position}].tool_calls[{index}]") for index, call in enumerate(calls)]
    return [block for block in blocks if block["type"] != "text" or block["text"]]


def _text_block(work: Work, part: dict[str, Any], param: str) -> Block:
    if part.get("type") != "text":
        raise work.refuse(param, "an assistant message may contain only text", "unsupported_content")
    return _block(work, part, param)


def _tool_use(work: Work, call: dict[str, Any], param: str) -> Block:
    if call.get("type") not in (None, "function"):
        raise work.refuse(f"{param}.type", "only function calls are supported", "unsupported_content")
    function = call.get("function") or {}
    arguments = function.get("arguments") or "{}"
    try:
        parsed = _decode(arguments.encode()) if type(arguments) is str else arguments
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        parsed = None
    if type(parsed) is not dict:
        if work.strict or type(arguments) is not str:
            raise work.refuse(f"{param}.function.arguments", "it must be a JSON object as text")
        why = "the arguments are not a JSON object; their text is sent inside one, so that the conversation can continue"
        work.report(f"{param}.function.arguments", "reshape", why=why)
        parsed = {INVALID_JSON: arguments}
    return {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": parsed}
