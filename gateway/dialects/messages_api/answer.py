"""Translates a chat answer to a message."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.dialects.messages_api.chat_message import (
    NO_USAGE,
    ChatMessage,
    Choice,
    ToolCall,
    read_completion,
    stop_of,
    text_of,
    usage_of,
)
from gateway.dialects.messages_api.citations import read_annotations, text_blocks
from gateway.dialects.messages_api.fields import Fields, decode_any, encode, is_given
from gateway.dialects.messages_api.signatures import signature_of

Block = dict[str, Any]
UNREADABLE_INPUT = "_arguments"
"""The key of the text of arguments that are not a JSON object, such as arguments that were cut off."""

_decode_arguments = msgspec.json.Decoder(Fields).decode


def translate_answer(
    answer: bytes, model: str, stops: tuple[str, ...], receipt: Callable[[msgspec.Raw], Any] = msgspec.Raw
) -> bytes:
    """Return the message for a chat answer. `model` and `stops` are those of the request.

    `receipt` returns a receipt with the caller's names.
    """
    completion = read_completion(answer)
    choice = completion.choices[0] if completion.choices else Choice()
    message = choice.message or ChatMessage()
    content = blocks_of(message)
    refused = bool(text_of(message.refusal))
    stop = stop_of(choice, stops, has_tools=any(block["type"] == "tool_use" for block in content), refused=refused)
    translated: dict[str, Any] = {
        "id": message_id(completion.id),
        "type": "message",
        "role": "assistant",
        "model": completion.model if type(completion.model) is str else model,
        "content": content,
        "stop_reason": stop.reason,
        "stop_sequence": stop.sequence,
        "usage": usage_of(completion.usage, completion.service_tier) or NO_USAGE,
    }
    if is_given(completion.gateway):
        translated["gateway"] = receipt(completion.gateway)
    return encode(translated)


def message_id(id: Any) -> str:
    """Return the upstream's id, or a new one if it has none."""
    return id if type(id) is str and id else f"msg_{uuid.uuid4().hex}"


def blocks_of(message: ChatMessage) -> list[Block]:
    """Return the content blocks: thinking, text, refusal, tool calls.

    Reasoning that only its provider can read becomes the signature of the thinking.
    """
    blocks: list[Block] = list(message.blocks_of_thinking())
    details = message.details()
    if details or (not blocks and message.thinking()):
        thoughts: Any = "" if blocks else message.thinking() or ""
        blocks.append({"type": "thinking", "thinking": thoughts, "signature": signature_of(details) if details else ""})
    text = text_of(message.content)
    annotations = read_annotations(message.annotations)
    if text and annotations:
        blocks += text_blocks(decode_any(text), annotations)
    elif text:
        blocks.append({"type": "text", "text": text})
    if refusal := text_of(message.refusal):
        blocks.append({"type": "text", "text": refusal})
    blocks += [tool_block(call) for call in message.tool_calls or ()]
    return blocks


def tool_block(call: ToolCall) -> Block:
    """Return the block of a complete tool call."""
    function = call.function
    name = function.name if function is not None else None
    return {
        "type": "tool_use",
        "id": tool_id(call.id),
        "name": name if type(name) is str else "",
        "input": input_of(function.arguments if function is not None else msgspec.Raw(b"")),
    }


def tool_id(id: Any) -> str:
    """Return the upstream's id of a tool call, or a new one if it has none."""
    return id if type(id) is str and id else f"toolu_{uuid.uuid4().hex[:24]}"


def input_of(arguments: msgspec.Raw) -> Any:
    """Return the input of a tool: the arguments if they are an object, else an object with their text."""
    if not is_given(arguments):
        return {}
    text = decode_any(arguments)
    source = text.encode(errors="surrogatepass") if type(text) is str else bytes(arguments)
    if not source.strip():
        return {}
    try:
        _decode_arguments(source)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {UNREADABLE_INPUT: text}
    return msgspec.Raw(source.strip())
