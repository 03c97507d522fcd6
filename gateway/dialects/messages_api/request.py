"""Translates the body of a Messages request to a chat completion, and the names of parameters back to the caller's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from gateway.dialects.messages_api.changes import Changes, missing, wrong_type
from gateway.dialects.messages_api.conversation import Conversation
from gateway.dialects.messages_api.fields import (
    ABSENT,
    decode_any,
    decode_object,
    encode,
    is_given,
    is_text,
    text,
)
from gateway.dialects.messages_api.origin import Origin
from gateway.dialects.messages_api.tools import (
    translate_choice,
    translate_format,
    translate_metadata,
    translate_output,
    translate_tools,
)
from gateway.dialects.plain_messages import read_turns
from gateway.dialects.plain_request import PlainForm
from gateway.errors import BadRequest, refuse
from providers.base import Adjustment

TRANSLATED: Mapping[str, Callable[[msgspec.Raw, Changes], dict[str, Any]]] = {
    "tools": lambda raw, changes: {"tools": translate_tools(raw, changes)},
    "tool_choice": translate_choice,
    "output_config": translate_output,
    "output_format": lambda raw, changes: translate_format(raw, "output_format"),
    "metadata": translate_metadata,
}
"""The fields that a function translates. `output_format` is the name of `output_config.format` in earlier betas."""

OF_CHAT: Mapping[str, str] = {
    "stop": "Use 'stop_sequences'.",
    "max_completion_tokens": "Use 'max_tokens'.",
    "response_format": "Use 'output_config.format'.",
    "reasoning_effort": "Use 'output_config.effort'.",
    "user": "Use 'metadata.user_id'.",
    "parallel_tool_calls": "Use 'tool_choice.disable_parallel_tool_use'.",
    "functions": "Use 'tools'.",
    "function_call": "Use 'tool_choice'.",
    "stream_options": "Streams of the Messages API always report usage.",
    "n": "The Messages API returns one answer.",
    "logprobs": "The Messages API returns no token probabilities.",
    "top_logprobs": "The Messages API returns no token probabilities.",
    "modalities": "The Messages API returns only text.",
    "audio": "The Messages API returns only text.",
}
"""Fields of chat completions that are refused, with a hint: another field to use, or a limit of the API."""

_NAMES: Mapping[str, str] = {
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
    "user": "metadata.user_id",
    "safety_identifier": "metadata.user_id",
    "response_format": "output_config.format",
    "reasoning_effort": "output_config.effort",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
}
_OF_BLOCK: Mapping[str, str] = {
    ".function": "",
    ".function.name": ".name",
    ".function.arguments": ".input",
    ".image_url": ".source",
    ".image_url.url": ".source",
    ".file": ".source",
    ".file.file_data": ".source",
}
"""Fields of a content part or of a tool call, and the corresponding fields of a block."""
_THOUGHTS = (".reasoning", ".thinking_blocks")
_MESSAGE = re.compile(r"messages\[(\d+)\](?:\.(content|tool_calls)\[(\d+)\])?(.*)", re.DOTALL)
_TOOL = re.compile(r"(tools\[\d+\])\.function\b(?:\.(parameters\b)?)?(.*)", re.DOTALL)
_INDEX = re.compile(r"messages\[(\d+)\]")
_FIRST = re.compile(r"\w+")


def _usual(translate: Callable[[msgspec.Raw, Changes], dict[str, Any]]) -> Callable[[msgspec.Raw], dict[str, Any] | None]:
    """Return a function that translates a value if nothing is lost, adjusted or invalid. Otherwise it returns None."""

    def translate_usual(raw: msgspec.Raw) -> dict[str, Any] | None:
        changes = Changes(strict=True)
        try:
            translated = translate(raw, changes)
        except BadRequest:
            return None
        return translated if changes.refusal is None and not changes.adjustments else None

    return translate_usual


_COPIED = ("model", "max_tokens", "stream", "temperature", "top_p", "top_k", "thinking", "service_tier")
PLAIN = PlainForm(
    parameters={**{name: name for name in _COPIED}, "stop_sequences": "stop"},
    turns="messages",
    read_turns=partial(read_turns, unwraps=True),
    system="system",
    translated={name: _usual(translate) for name, translate in TRANSLATED.items()},
    openings={"stop_sequences": b'["', "thinking": b"{"},
)
"""The usual request. `max_tokens` must be present, but not 0."""

class Translated(msgspec.Struct):
    """The chat completion of one request, and the data needed for its answer and its errors."""

    body: bytes
    adjustments: list[Adjustment]
    origins: list[Origin]
    file_addresses: list[str]
    """Parameters with the address of a document."""
    stops: tuple[str, ...]
    model: str
    loss: BadRequest | None = None
    """The error for the first field that was left out; None if there is none."""
    refusal: BadRequest | None = None
    """The reason why a chat completion cannot express the request; `body` then lacks a part of it. None if there is no reason."""


def translate_request(source: bytes, *, strict: bool, counts: bool = False) -> Translated:
    """Return the chat completion, with a refusal if it cannot express a part of the request.

    Raise BadRequest for an invalid body. `counts` is True for a request that only counts tokens and needs no output cap.
    """
    given = decode_object(source)
    changes = Changes(strict=strict)
    conversation = Conversation(changes)
    if not counts and not is_given(given.get("max_tokens", ABSENT)):
        raise missing("max_tokens")
    if bytes(given.get("max_tokens", ABSENT)) == b"0":
        changes.refuse(refuse("max_tokens", "'max_tokens' must be at least 1: only Anthropic fills its prompt cache without an answer."))
        given["max_tokens"] = msgspec.Raw(b"1")
    if not is_given(given.get("messages", ABSENT)):
        raise missing("messages")
    if is_given(system := given.get("system", ABSENT)):
        conversation.add_system(system)
    conversation.add_turns(given["messages"])
    body: dict[str, Any] = {}
    for name, raw in given.items():
        if name == "messages":
            body["messages"] = conversation.messages
        elif name == "stop_sequences":
            _add_stops(body, raw)
        elif name in OF_CHAT:
            if not is_given(raw):
                continue
            message = f"'{name}' is not a parameter of the Messages API. {OF_CHAT[name]}"
            raise refuse(name, message, "unsupported_parameter")
        elif name in TRANSLATED:
            body |= TRANSLATED[name](raw, changes) if is_given(raw) else {}
        elif name == "thinking":
            _add_thinking(body, raw)
        elif name != "system":
            body[name] = raw
    if changes.refusal is not None:  # this body is used only for routing and limits
        body.pop("tool_choice", None)
        if not body.get("tools"):
            body.pop("tools", None)
    stops, model = body.get("stop"), body.get("model", ABSENT)
    return Translated(
        encode(body),
        changes.finish(),
        conversation.origins,
        changes.file_addresses,
        () if stops is None else tuple(each for each in decode_any(stops) if type(each) is str),
        text(model, "model") if is_text(model) else "",
        changes.loss,
        changes.refusal,
    )


def _add_stops(body: dict[str, Any], raw: msgspec.Raw) -> None:
    if not is_given(raw):
        return
    if bytes(raw)[:1] != b"[":
        raise wrong_type("stop_sequences", "a list of strings")
    if bytes(raw).replace(b" ", b"") != b"[]":
        body["stop"] = raw


def _add_thinking(body: dict[str, Any], raw: msgspec.Raw) -> None:
    if is_given(raw):
        if bytes(raw)[:1] != b"{":
            raise wrong_type("thinking", "an object")
        body["thinking"] = raw


def callers_name(param: str, origins: list[Origin]) -> str:
    """Return the caller's name for a parameter of the chat completion."""
    message = _MESSAGE.fullmatch(param)
    if message is not None:
        return _place(message, origins) or param
    tool = _TOOL.fullmatch(param)
    if tool is not None:
        field = "input_schema" if tool[2] else ""
        return ".".join(part for part in (tool[1], field + tool[3]) if part)
    first = _FIRST.match(param)
    return _NAMES.get(first[0], first[0]) + param[first.end() :] if first is not None else param


def _place(message: re.Match[str], origins: list[Origin]) -> str | None:
    """Return the caller's name for a place in a message, or None if the caller did not send the message."""
    if int(message[1]) >= len(origins):
        return None
    origin, list_name, rest = origins[int(message[1])], message[2], message[4]
    if list_name is None:
        if origin.thoughts and rest.startswith(_THOUGHTS):
            only = f"[{origin.thoughts[0]}]" if len(origin.thoughts) == 1 else ""
            return f"{origin.param}.content{only}"
        if origin.mark is not None and rest.startswith(".cache_control"):
            return f"{origin.param}.content[{origin.mark}]{rest}"
        rest = rest.replace(".tool_call_id", ".tool_use_id")
        if rest == ".role" and origin.param.endswith("]") and ".content[" in origin.param:  # a tool result has no role
            rest = ".tool_use_id"
        # the system prompt is itself the content
        return origin.param if origin.param == "system" and rest == ".content" else origin.param + rest
    blocks = origin.parts if list_name == "content" else origin.calls
    index = int(message[3])
    at = blocks[index] if index < len(blocks) else index
    inner = "" if origin.param == "system" else ".content"
    rest = _OF_BLOCK.get(rest, rest)
    return f"{origin.param}{inner}[{at}]{rest}"


def callers_receipt(receipt: msgspec.Raw, origins: list[Origin]) -> Any:
    """Return a receipt that numbers evicted messages as in the caller's request."""
    if b'"evicted":[' not in bytes(receipt) or b'"evicted":[]' in bytes(receipt):
        return receipt
    decoded = decode_any(receipt)
    context = decoded.get("context") or {}
    numbers = [_INDEX.match(origins[index].param) for index in context.get("evicted") or () if index < len(origins)]
    context["evicted"] = list(dict.fromkeys(int(number[1]) for number in numbers if number is not None))
    return decoded
