"""Reads JSON answers in OpenAI's format, and repairs the deviations of some vendors.

An answer that needs no repair keeps its original bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from providers.base import Answer
from providers.usage import read_usage

Repair = Callable[[dict[str, Any]], bool]
"""Changes a decoded answer or chunk in place. Returns True if it changed something."""

FINISH_REASONS: Mapping[str, str | None] = {
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "model_length": "length",
    "max_tokens": "length",
    "null": None,
    "": None,
    "insufficient_system_resource": "length",
}
"""OpenAI's finish reason for each vendor's: Together sends `eos`, Mistral `model_length`, Friendli the string "null"."""


_ABSENT = msgspec.Raw(b"null")


class _Choice(msgspec.Struct):
    finish_reason: Any = None
    message: msgspec.Raw = _ABSENT
    text: msgspec.Raw = _ABSENT


class _Chat(msgspec.Struct):
    choices: list[_Choice]
    usage: Any = None


_read_chat = msgspec.json.Decoder(_Chat).decode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def read_answer(body: bytes, repairs: Iterable[Repair], *, may_be_empty: bool = False) -> Answer:
    """Parse a chat answer. Raises ValueError if it has no choices, or a choice without a message."""
    chat = _read_chat(body)
    if not chat.choices and not may_be_empty:
        raise ValueError("the answer has no choices")
    reported = [choice.finish_reason for choice in chat.choices]
    for choice in chat.choices:
        if bytes(choice.message)[:1] != b"{" and bytes(choice.text)[:1] != b'"':
            raise ValueError("a choice of the answer has no message")
    reasons = tuple([_finish(reason) for reason in reported])
    if not repairs and reasons == tuple(reported):
        return Answer(body, read_usage(chat.usage), reasons)
    answer = _decode(body)
    changed = repair_finish_reasons(answer)
    for repair in repairs:
        changed = repair(answer) or changed
    reasons = tuple(choice.get("finish_reason") for choice in answer["choices"])
    return Answer(_encode(answer) if changed else body, read_usage(answer.get("usage")), reasons)


def _finish(reason: Any) -> str | None:
    """Return OpenAI's finish reason. Raises ValueError for `error` (Mistral, OpenRouter), which is a failure."""
    if reason == "error":
        raise ValueError("the upstream ended the answer with an error")
    return FINISH_REASONS.get(reason, reason) if type(reason) is str else None


def repair_finish_reasons(answer: dict[str, Any]) -> bool:
    """Replace finish reasons by OpenAI's."""
    changed = False
    for choice in choices_of(answer):
        reason = choice.get("finish_reason")
        if _finish(reason) != reason:
            choice["finish_reason"] = _finish(reason)
            changed = True
    return changed


def choices_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the choices that are objects."""
    choices = answer.get("choices")
    return [choice for choice in choices if type(choice) is dict] if type(choices) is list else []


def message_of(choice: dict[str, Any]) -> dict[str, Any]:
    """Return the message of an answer's choice, or the delta of a chunk's choice."""
    message = choice.get("message") or choice.get("delta")
    return message if type(message) is dict else {}


def encode_arguments(answer: dict[str, Any]) -> bool:
    """Encode tool arguments that are an object as JSON text. Add the missing index to tool calls in chunks."""
    changed = False
    for choice in choices_of(answer):
        calls = message_of(choice).get("tool_calls")
        for index, call in enumerate(calls if type(calls) is list else ()):
            function = call.get("function") if type(call) is dict else None
            if type(function) is dict and type(function.get("arguments")) in (dict, list):
                function["arguments"] = json_text(function["arguments"])
                changed = True
            if "delta" in choice and type(call) is dict and "index" not in call:
                call["index"] = index
                changed = True
    return changed


def json_text(value: Any) -> str:
    """Encode JSON as text, with the spacing that most clients print."""
    import json

    return json.dumps(value, ensure_ascii=False)


def flatten_content(answer: dict[str, Any]) -> bool:
    """Join a list of content parts into a string. Thinking parts become `reasoning_content`."""
    changed = False
    for choice in choices_of(answer):
        message = message_of(choice)
        if type(message.get("content")) is list:
            text, thought = _texts(message["content"])
            message["content"] = text
            if thought:
                message["reasoning_content"] = (message.get("reasoning_content") or "") + thought
            changed = True
    return changed


def _texts(parts: list[Any]) -> tuple[str, str]:
    text, thought = "", ""
    for part in parts:
        if type(part) is str:
            text += part
        elif type(part) is dict and part.get("type") == "thinking":
            inner = part.get("thinking")
            thought += inner if type(inner) is str else _texts(inner)[0] if type(inner) is list else ""
        elif type(part) is dict:
            text += part.get("text") or ""
    return text, thought


def read_embeddings(body: bytes) -> Answer:
    """Parse an embeddings answer: an object with `data`. Raises ValueError otherwise."""
    answer = _decode(body)
    if type(answer.get("data")) is not list:
        raise ValueError("the answer has no data")
    return Answer(body, read_usage(answer.get("usage")))


def read_logits(body: bytes) -> Answer:
    """Parse an answer with next-token values: `logits` maps a token to a number. Raises ValueError otherwise."""
    answer = _decode(body)
    if type(answer.get("logits")) is not dict:
        raise ValueError("the answer has no logits")
    return Answer(body, read_usage(answer.get("usage")))
