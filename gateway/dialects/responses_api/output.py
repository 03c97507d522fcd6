"""The response object and its output items, written from the JSON bytes of a chat completion."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.dialects.responses_api.namespaces import Member
from gateway.dialects.responses_api.values import ABSENT, Raw, encode, is_absent, is_string
from providers.usage import read_usage

MAX_ID_CHARS = 40
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of an incomplete answer, and the corresponding reasons in the response."""
EMPTY_TEXT = Raw(b'""')

_decode_any = msgspec.json.Decoder().decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


class Identity(msgspec.Struct, gc=False):
    """The identity of a response: the common part of its id and the ids of its items, its creation time, and its model."""

    base: str
    created: int
    model: Any

    def item_id(self, prefix: str, index: int) -> str:
        """Return the id of an output item."""
        return f"{prefix}_{self.base}_{index}"


def identify(given: Any, created: Any, model: Any) -> Identity:
    """Return the identity of the response for a chat completion."""
    base = given.removeprefix("chatcmpl-") if type(given) is str else ""
    base = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in base[:MAX_ID_CHARS])
    known = type(created) in (int, float) and created > 0
    return Identity(base or f"{time.time_ns():x}", int(created if known else time.time()), model)


class Response:
    """Writes the response object of one call."""

    __slots__ = ("_echo", "identity")

    def __init__(self, identity: Identity, echo: Mapping[str, Raw]) -> None:
        self.identity = identity
        self._echo = encode(echo)[1:]

    def encode(
        self,
        status: str,
        output: Sequence[Raw] = (),
        *,
        reason: str | None = None,
        usage: Raw = ABSENT,
        error: Any = None,
        more: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Return the response as JSON. `more` contains further members, such as the receipt."""
        identity = self.identity
        head = {
            "id": f"resp_{identity.base}",
            "object": "response",
            "created_at": identity.created,
            "status": status,
            "completed_at": int(time.time()) if status == "completed" else None,
            "background": False,
            "error": error,
            "incomplete_details": {"reason": reason} if reason is not None else None,
            "model": identity.model,
            "output": output,
            "usage": usage_of(usage),
            **(more or {}),
        }
        return encode(head)[:-1] + b"," + self._echo


def usage_of(raw: Raw) -> dict[str, Any] | None:
    """Return the usage of a chat completion under the names of this API, or None if it is missing or implausible."""
    reported: Any = None if is_absent(raw) else _decode_any(raw)
    usage = read_usage(reported)
    if usage is None or usage.unsplit_tokens:
        return None
    total = reported.get("total_tokens")
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": total if type(total) is int else usage.prompt_tokens + usage.completion_tokens,
    }


def text_part(text: Raw, annotations: Sequence[Any] = (), logprobs: Sequence[Raw] = ()) -> dict[str, Any]:
    """Return an `output_text` part."""
    return {"type": "output_text", "annotations": annotations, "logprobs": logprobs, "text": text}


def refusal_part(text: Raw) -> dict[str, Any]:
    """Return a `refusal` part."""
    return {"type": "refusal", "refusal": text}


def message_item(identity: str, status: str, content: Sequence[Any], extra: Raw = ABSENT) -> dict[str, Any]:
    """Return a message of the model. `extra` is data that the provider (Gemini) requires when the message is sent back."""
    item = {"id": identity, "type": "message", "status": status, "content": content, "role": "assistant"}
    return item | {"extra_content": extra} if len(extra) else item


def reasoning_item(identity: str, status: str, text: Raw, sealed: str | None, *, summary: bool) -> dict[str, Any]:
    """Return the reasoning of the model."""
    has_text = len(text) > len(EMPTY_TEXT)
    item: dict[str, Any] = {
        "id": identity,
        "type": "reasoning",
        "status": status,
        "summary": [{"type": "summary_text", "text": text}] if summary and has_text else [],
    }
    if has_text and not summary:
        item["content"] = [{"type": "reasoning_text", "text": text}]
    if sealed is not None:
        item["encrypted_content"] = sealed
    return item


def call_item(identity: str, status: str, call: Call, given: Raw) -> dict[str, Any]:
    """Return a call of a tool, with the arguments or the input of a custom tool."""
    kind, field = ("custom_tool_call", "input") if call.custom else ("function_call", "arguments")
    item = {"id": identity, "type": kind, "status": status, field: given, "call_id": call.call_id, "name": call.name}
    if call.namespace:
        item["namespace"] = call.namespace
    return item | {"extra_content": call.extra} if len(call.extra) else item


class Call(msgspec.Struct):
    """A call of a tool."""

    call_id: str | Raw
    name: str | Raw
    custom: bool = False
    extra: Raw = ABSENT
    namespace: str = ""

    @property
    def prefix(self) -> str:
        """The prefix of the item's id."""
        return "ctc" if self.custom else "fc"


class Called(NamedTuple):
    """The JSON of a tool call in a chat message, or of a piece of a tool call in a stream."""

    members: Mapping[str, Raw]
    """The fields of the call."""
    called: Mapping[str, Raw]
    """The fields of its function or custom tool."""
    custom: bool

    def call(self, identity: Identity, index: int, tools: Mapping[str, Member]) -> Call:
        """Return the call. `tools` are the tools that belong to a namespace, by their names in the chat completion."""
        given = self.members.get("id", ABSENT)
        call_id = given if is_text(given) else identity.item_id("call", index)
        extra = self.members.get("extra_content", ABSENT)
        name = self.called.get("name", EMPTY_TEXT)
        if tools and (member := tools.get(_decode_any(name))) is not None:
            return Call(call_id, member.name, self.custom, extra, member.namespace)
        return Call(call_id, name, self.custom, extra)


def called(members: Mapping[str, Raw]) -> Called:
    """Read a tool call of a chat message, or one piece of it."""
    custom = not is_absent(members.get("custom", ABSENT))
    return Called(members, _decode_fields(members.get("custom" if custom else "function", b"{}")), custom)


def annotation_of(raw: Raw) -> dict[str, Any]:
    """Return an annotation in this API's format: members nested under its type, such as `url_citation`, move to the top level."""
    given = _decode_any(raw)
    if type(given) is not dict:
        return {"type": "unknown", "value": given}
    kind = given.get("type")
    nested = given.get(kind) if type(kind) is str else None
    return (
        {**{name: value for name, value in given.items() if name != kind}, **nested} if type(nested) is dict else given
    )


def is_text(raw: Raw) -> bool:
    """Return whether a value is a text with at least one character."""
    return len(raw) > len(EMPTY_TEXT) and is_string(raw)
