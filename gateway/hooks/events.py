"""Finds the pieces of text in the events of a stream, in the formats of the APIs of the gateway and of its providers.

The events themselves show which API they belong to: chunks of chat completions and completions have `choices`; events of
the Responses, Messages and Cohere APIs have a `type`.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple

from gateway.hooks.api import Kind

Event = dict[str, Any]

_CHAT_FIELDS: tuple[tuple[str, Kind], ...] = (
    ("reasoning_content", "reasoning"), ("reasoning", "reasoning"), ("content", "text"), ("refusal", "text"),
)  # fmt: skip
_MESSAGE_FIELDS: tuple[tuple[str, Kind], ...] = (("text", "text"), ("thinking", "reasoning"), ("partial_json", "arguments"))
_PLACES = ("item_id", "output_index", "content_index", "summary_index")


class Slot(NamedTuple):
    """A piece of text in an event: `holder[key]`.

    Pieces of one channel form one text. When a channel of a group gets a piece, the other channels of the group have ended.
    """

    channel: str
    group: str
    kind: Kind
    holder: dict[str, Any]
    key: str

    @property
    def text(self) -> str:
        """The piece of text."""
        text: str = self.holder[self.key]
        return text


def slots_of(event: Event) -> list[Slot]:
    """Return the pieces of text in an event."""
    choices = event.get("choices")
    if type(choices) is list:
        return [slot for choice in choices if type(choice) is dict for slot in _of_choice(choice)]
    kind = event.get("type")
    if type(kind) is not str:
        return []
    if kind == "content_block_delta":
        return _of_block(event)
    if kind in ("content-delta", "tool-plan-delta", "tool-call-delta"):
        return _of_cohere(event)
    if kind.endswith(".delta") and type(event.get("delta")) is str:
        base = kind.removesuffix(".delta")
        channel = ".".join([base, *(str(event[name]) for name in _PLACES if name in event)])
        return [Slot(channel, channel, _response_kind(base), event, "delta")]
    return []


def ended_groups(event: Event) -> list[str] | None:
    """Return the groups of channels that end with an event, or None if all channels end."""
    choices = event.get("choices")
    if type(choices) is list:
        return [_group_of(choice) for choice in choices if type(choice) is dict and choice.get("finish_reason")]
    kind = event.get("type")
    if type(kind) is not str:
        return []
    if kind == "content_block_stop":
        return [f"content[{event.get('index')}]"]
    if kind in ("content-end", "tool-call-end"):
        return [f"{kind.removesuffix('-end')}[{event.get('index')}]"]
    if kind in ("message_delta", "message_stop", "message-end", "response.completed", "response.incomplete", "response.failed"):
        return None
    if kind in ("content-start", "tool-call-start"):
        return ["tool-plan"]
    if kind.endswith(".done"):
        base = kind.removesuffix(".done")
        return [".".join([base, *(str(event[name]) for name in _PLACES if name in event)])]
    return []


def carrier(event: Event, slot: Slot, text: str) -> Event:
    """Return an event like `event` that has only `text` in place of the piece in `slot`."""
    choices = event.get("choices")
    if type(choices) is not list:
        copy = deepcopy(event)
        for each in slots_of(copy):
            each.holder[each.key] = text
        return copy
    index = _index_in(slot.group)
    kept = {name: value for name, value in event.items() if name not in ("usage", "gateway", "x_groq", "time_info")}
    if slot.channel.endswith(".text"):
        return {**kept, "choices": [{"index": index, "text": text, "logprobs": None, "finish_reason": None}]}
    if ".tool_calls[" in slot.channel:
        at = int(slot.channel.partition(".tool_calls[")[2].partition("]")[0])
        delta: Event = {"tool_calls": [{"index": at, "function": {"arguments": text}}]}
    elif slot.channel.endswith(".function_call.arguments"):
        delta = {"function_call": {"arguments": text}}
    else:
        delta = {slot.key: text}
    return {**kept, "choices": [{"index": index, "delta": delta, "finish_reason": None}]}


def _group_of(choice: Event) -> str:
    return f"choices[{choice.get('index', 0)}]"


def _index_in(group: str) -> int:
    return int(group.partition("[")[2].rstrip("]"))


def _of_choice(choice: Event) -> Iterator[Slot]:
    """Return the pieces in a choice of a chat completion or of a completion."""
    group = _group_of(choice)
    if type(choice.get("text")) is str:
        yield Slot(f"{group}.text", group, "text", choice, "text")
    delta = choice.get("delta")
    if type(delta) is not dict:
        return
    for name, kind in _CHAT_FIELDS:
        if type(delta.get(name)) is str:
            yield Slot(f"{group}.delta.{name}", group, kind, delta, name)
    for at, call in enumerate(delta.get("tool_calls") or ()):
        function = call.get("function") if type(call) is dict else None
        if type(function) is dict and type(function.get("arguments")) is str:
            channel = f"{group}.delta.tool_calls[{call.get('index', at)}].function.arguments"
            yield Slot(channel, group, "arguments", function, "arguments")
    legacy = delta.get("function_call")
    if type(legacy) is dict and type(legacy.get("arguments")) is str:
        yield Slot(f"{group}.delta.function_call.arguments", group, "arguments", legacy, "arguments")


def _of_block(event: Event) -> list[Slot]:
    """Return the piece in an event of the Messages API."""
    delta, group = event.get("delta"), f"content[{event.get('index')}]"
    if type(delta) is not dict:
        return []
    return [Slot(f"{group}.{name}", group, kind, delta, name) for name, kind in _MESSAGE_FIELDS if type(delta.get(name)) is str]


def _of_cohere(event: Event) -> list[Slot]:
    """Return the piece in an event of Cohere's chat API."""
    message = (event.get("delta") or {}).get("message") or {}
    kind, index = event["type"].removesuffix("-delta"), event.get("index")
    if kind == "tool-plan":
        return [Slot(kind, kind, "reasoning", message, "tool_plan")] if type(message.get("tool_plan")) is str else []
    group = f"{kind}[{index}]"
    if kind == "tool-call":
        function = (message.get("tool_calls") or {}).get("function") or {}
        return [Slot(f"{group}.arguments", group, "arguments", function, "arguments")] if type(function.get("arguments")) is str else []
    content = message.get("content") or {}
    kinds: tuple[tuple[str, Kind], ...] = (("text", "text"), ("thinking", "reasoning"))
    return [Slot(f"{group}.{name}", group, of, content, name) for name, of in kinds if type(content.get(name)) is str]


def _response_kind(base: str) -> Kind:
    if "reasoning" in base:
        return "reasoning"
    return "arguments" if base.endswith("arguments") or base.endswith("input") else "text"
