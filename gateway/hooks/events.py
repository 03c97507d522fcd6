"""Finds the pieces of text in the events of a stream, in the formats of the APIs of the gateway and of its providers.

The events themselves show which API they belong to: chunks of chat completions and completions have `choices`; events of
the Responses, Messages and Cohere APIs have a `type`. Passed streams may also be those of Gemini, whose events have
`candidates`, and of Ollama, whose events have `done`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy

from gateway.hooks import other_apis
from gateway.hooks.api import Kind
from gateway.hooks.slots import Event, Slot, fields

_CHAT_FIELDS: tuple[tuple[str, Kind], ...] = (
    ("reasoning_content", "reasoning"), ("reasoning", "reasoning"), ("content", "text"), ("refusal", "text"),
)  # fmt: skip
_DETAIL_FIELDS = ("text", "summary")
"""Fields of an entry of `reasoning_details` that repeat the reasoning."""
_MESSAGE_FIELDS: tuple[tuple[str, Kind], ...] = (("text", "text"), ("thinking", "reasoning"), ("partial_json", "arguments"))
_JSON_MARK = re.compile(r"""\\[\s\S]?|["{}\[\]]""")
_PLACES = ("output_index", "content_index", "summary_index")


class JsonEnd:
    """Finds the end of a JSON object or list that arrives in pieces."""

    __slots__ = ("_depth", "_has_begun", "_is_escaped", "_is_in_string")

    def __init__(self) -> None:
        self._depth = 0
        self._has_begun = self._is_escaped = self._is_in_string = False

    def feed(self, piece: str) -> bool:
        """Return whether the JSON is complete with this piece."""
        if self._is_escaped and piece:
            piece, self._is_escaped = piece[1:], False
        for mark in _JSON_MARK.findall(piece):
            if mark[0] == "\\":
                self._is_escaped = len(mark) == 1
            elif mark == '"':
                self._is_in_string = not self._is_in_string
            elif not self._is_in_string:
                self._has_begun = True
                self._depth += 1 if mark in "{[" else -1
        return self._has_begun and self._depth <= 0 and not self._is_in_string


def slots_of(event: Event) -> list[Slot]:
    """Return the pieces of text in an event."""
    choices = event.get("choices")
    if type(choices) is list:
        return [slot for choice in choices if type(choice) is dict for slot in _of_choice(choice)]
    kind = event.get("type")
    if type(kind) is not str:
        return other_apis.slots_of(event)
    if kind in ("content_block_delta", "content_block_start"):
        return _of_block(event)
    if kind in ("content-delta", "tool-plan-delta", "tool-call-delta"):
        return _of_cohere(event)
    if kind.endswith(".delta") and type(event.get("delta")) is str:
        base = kind.removesuffix(".delta")
        channel = _response_place(base, event)
        return [Slot(channel, channel, _response_kind(base), event, "delta")]
    return []


def ended_groups(event: Event) -> list[str] | None:
    """Return the groups of channels that end with an event, or None if all channels end."""
    choices = event.get("choices")
    if type(choices) is list:
        return [_group_of(choice) for choice in choices if type(choice) is dict and choice.get("finish_reason")]
    kind = event.get("type")
    if kind == "error" or type(event.get("error")) is dict:
        return None
    if type(kind) is not str:
        return other_apis.ended_groups(event)
    if kind == "content_block_stop":
        return [f"content[{event.get('index')}]"]
    if kind in ("content-end", "tool-call-end"):
        return [f"{kind.removesuffix('-end')}[{event.get('index')}]"]
    if kind in ("message_delta", "message_stop", "message-end", "response.completed", "response.incomplete", "response.failed"):
        return None
    if kind in ("content-start", "tool-call-start"):
        return ["tool-plan"]
    if kind.endswith(".done"):
        return [_response_place(kind.removesuffix(".done"), event)]
    return []


def carrier(event: Event, slot: Slot, text: str) -> Event:
    """Return an event like `event` whose only text is `text`, in the place of the piece in `slot`."""
    if slot.choice is None:
        if (made := other_apis.carrier(event, slot, text)) is not None:
            return made
        if event.get("type") == "content_block_start":
            return {"type": "content_block_delta", "index": event.get("index"), "delta": {"type": f"{slot.key}_delta", slot.key: text}}
        copy = deepcopy(event)
        for each in slots_of(copy):
            each.holder[each.key] = text if each.channel == slot.channel else ""
        return copy
    index = slot.choice.get("index", 0)
    kept = {name: value for name, value in event.items() if name not in ("usage", "gateway", "x_groq", "time_info")}
    if slot.holder is slot.choice:
        return {**kept, "choices": [{"index": index, "text": text, "logprobs": None, "finish_reason": None}]}
    if slot.call is not None:
        place = {name: slot.call[name] for name in ("index", "id") if name in slot.call and (name == "index" or "index" not in slot.call)}
        delta: Event = {"tool_calls": [{**place, "custom" if slot.key == "input" else "function": {slot.key: text}}]}
    elif slot.kind == "arguments":
        delta = {"function_call": {"arguments": text}}
    elif slot.key in _DETAIL_FIELDS:
        detail = {name: slot.holder[name] for name in ("type", "id", "format", "index") if name in slot.holder}
        delta = {"reasoning_details": [{**detail, slot.key: text}]}
    else:
        delta = {slot.key: text}
    return {**kept, "choices": [{"index": index, "delta": delta, "finish_reason": None}]}


def _group_of(choice: Event) -> str:
    return f"choices[{choice.get('index', 0)}]"


def _place_of(call: Event, at: int) -> str:
    """Return the place of a tool call in its choice: its index, its id if a provider sends no index, or its position."""
    index = call.get("index")
    return str(index if index is not None else call.get("id") or at)


def _of_choice(choice: Event) -> Iterator[Slot]:
    """Return the pieces in a choice of a chat completion or of a completion."""
    group = _group_of(choice)
    if type(choice.get("text")) is str:
        yield Slot(f"{group}.text", group, "text", choice, "text", choice)
    delta = fields(choice, "delta")
    for name, kind in _CHAT_FIELDS:
        if type(delta.get(name)) is str:
            yield Slot(f"{group}.delta.{name}", group, kind, delta, name, choice)
    details = delta.get("reasoning_details")
    for at, detail in enumerate(details if type(details) is list else ()):
        for name in _DETAIL_FIELDS if type(detail) is dict else ():
            if type(detail.get(name)) is str:
                yield Slot(f"{group}.delta.reasoning_details[{detail.get('index', at)}].{name}", group, "reasoning", detail, name, choice)
    calls = delta.get("tool_calls")
    for at, call in enumerate(calls if type(calls) is list else ()):
        function = fields(call, "function") if type(call) is dict else {}
        place = _place_of(call, at) if type(call) is dict else ""
        if type(function.get("arguments")) is str:
            yield Slot(f"{group}.delta.tool_calls[{place}].function.arguments", group, "arguments", function, "arguments", choice, call)
        custom = fields(call, "custom") if type(call) is dict else {}
        if type(custom.get("input")) is str:
            yield Slot(f"{group}.delta.tool_calls[{place}].custom.input", group, "arguments", custom, "input", choice, call)
    legacy = fields(delta, "function_call")
    if type(legacy.get("arguments")) is str:
        yield Slot(f"{group}.delta.function_call.arguments", group, "arguments", legacy, "arguments", choice)


def _of_block(event: Event) -> list[Slot]:
    """Return the piece in an event of the Messages API. A block may begin with text."""
    delta, group = fields(event, "delta" if event["type"] == "content_block_delta" else "content_block"), f"content[{event.get('index')}]"
    return [Slot(f"{group}.{name}", group, kind, delta, name) for name, kind in _MESSAGE_FIELDS if type(delta.get(name)) is str]


def _of_cohere(event: Event) -> list[Slot]:
    """Return the piece in an event of Cohere's chat API."""
    message = fields(event, "delta", "message")
    kind, index = event["type"].removesuffix("-delta"), event.get("index")
    if kind == "tool-plan":
        return [Slot(kind, kind, "reasoning", message, "tool_plan")] if type(message.get("tool_plan")) is str else []
    group = f"{kind}[{index}]"
    if kind == "tool-call":
        function = fields(message, "tool_calls", "function")
        return [Slot(f"{group}.arguments", group, "arguments", function, "arguments")] if type(function.get("arguments")) is str else []
    content = fields(message, "content")
    kinds: tuple[tuple[str, Kind], ...] = (("text", "text"), ("thinking", "reasoning"))
    return [Slot(f"{group}.{name}", group, of, content, name) for name, of in kinds if type(content.get(name)) is str]


def _response_place(base: str, event: Event) -> str:
    """Return the channel of an event of the Responses API. Some providers change the id of an item, but not its index."""
    places = _PLACES if "output_index" in event else ("item_id", *_PLACES)
    return ".".join([base, *(str(event[name]) for name in places if name in event)])


def _response_kind(base: str) -> Kind:
    if "reasoning" in base:
        return "reasoning"
    return "arguments" if base.endswith("arguments") or base.endswith("input") else "text"
