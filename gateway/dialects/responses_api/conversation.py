"""The items of `input` as the messages of a chat completion.

The items of one turn of the model (reasoning, text, tool calls) become one assistant message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.dialects.plain_messages import read_plain
from gateway.dialects.responses_api import reasoning
from gateway.dialects.responses_api.changes import Changes
from gateway.dialects.responses_api.namespaces import Member
from gateway.dialects.responses_api.parts import read_content
from gateway.dialects.responses_api.values import (
    ABSENT,
    Raw,
    decode,
    encode,
    fields,
    is_absent,
    is_string,
    objects,
    others,
    string,
    text,
    wrong_type,
)
from gateway.errors import BadRequest, refuse

EARLIER = "previous_response_id"
_CALLS = (b'"function_call"', b'"custom_tool_call"')
_ITEM = re.compile(r"input\[(\d+)\]")
_ITEM_FIELDS = frozenset({"type", "id", "status", "extra_content"})
_MESSAGE_FIELDS = _ITEM_FIELDS | {"role", "content", "phase"}
_REASONING_FIELDS = _ITEM_FIELDS | {"summary", "content", "encrypted_content"}
_CALL_FIELDS = _ITEM_FIELDS | {"call_id", "name", "namespace", "arguments", "input"}
_OUTPUT_FIELDS = _ITEM_FIELDS | {"call_id", "output", "name", "namespace"}
_ROLES = ("user", "assistant", "system", "developer")
_PLAIN_ROLES = frozenset(_ROLES)
_PLAIN_TYPES = frozenset({"", "message"})


class Origin(msgspec.Struct):
    """The items from which a message of the chat completion comes, for the caller's names in errors and receipts."""

    param: str
    content: str = ""
    """The parameter of the text."""
    calls: list[str] = []
    """The item of each tool call."""
    items: list[str] = []
    """All items that became part of the message."""


def read_input(raw: Raw) -> list[dict[str, Any]] | None:
    """Return the messages of an `input` that is a text or a list of plain messages, or None for any other input."""
    return [{"role": "user", "content": raw}] if is_string(raw) else read_plain(raw, _PLAIN_ROLES, _PLAIN_TYPES)


class Conversation:
    """The messages of one request, and the place in the request from which each of them comes."""

    __slots__ = ("_changes", "_turn", "messages", "origins")

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._turn: dict[str, Any] | None = None
        self.messages: list[dict[str, Any]] = []
        self.origins: list[Origin] = []

    def add_instructions(self, raw: Raw) -> None:
        """Add `instructions` as a system message, before all other messages."""
        self._add("instructions", {"role": "system", "content": string("instructions", raw)})

    def add_input(self, raw: Raw, earlier: Sequence[Raw] = ()) -> None:
        """Add `input`: a user's text, or a list of items. `earlier` are the items of the conversation that the request continues."""
        for item in earlier:
            self._earlier_item(fields(EARLIER, item))
        if is_string(raw):
            self._add("input", {"role": "user", "content": raw})
        elif len(raw) == 0:
            raise refuse("input", "'input' is required.", "missing_required_parameter")
        elif memoryview(raw)[0] != ord("["):
            raise wrong_type("input", "a string or a list of items")
        elif not earlier and (plain := read_plain(raw, _PLAIN_ROLES, _PLAIN_TYPES)) is not None:
            self.messages += plain
            params = [f"input[{index}]" for index in range(len(plain))]
            self.origins += [Origin(param, f"{param}.content", items=[param]) for param in params]
        else:
            for index, members in enumerate(objects("input", raw)):
                self._item(f"input[{index}]", members)
        for message in self.messages:
            if message["role"] == "assistant" and "content" not in message:
                message["content"] = None if "tool_calls" in message else ""

    def _earlier_item(self, item: Mapping[str, Raw]) -> None:
        """Add an item of the earlier conversation, unless it is a call whose arguments were cut off."""
        is_cut = bytes(item.get("status", ABSENT)) == b'"incomplete"'
        if is_cut and bytes(item.get("type", ABSENT)) in _CALLS:
            self._changes.loss(EARLIER, "a call whose arguments were cut off cannot be sent back")
        else:
            self._item(EARLIER, item)

    def _item(self, param: str, item: Mapping[str, Raw]) -> None:
        raw = item.get("type", ABSENT)
        kind = "message" if is_absent(raw) and "role" in item else text(f"{param}.type", raw)
        add = _ITEMS.get(kind)
        if add is None:
            raise _unsupported(param, kind)
        add(self, param, item)

    def message(self, param: str, item: Mapping[str, Raw]) -> None:
        """Add a message of any role."""
        role = text(f"{param}.role", item.get("role", ABSENT))
        if role not in _ROLES:
            raise refuse(f"{param}.role", f"'{param}.role' must be one of {', '.join(_ROLES)}, not '{role[:40]}'.")
        content = read_content(f"{param}.content", item.get("content", ABSENT), self._changes)
        if "phase" in item and not is_absent(item["phase"]):
            self._changes.loss(f"{param}.phase", "messages of a chat completion have no phase")
        self._lose_others(param, item, _MESSAGE_FIELDS)
        if role != "assistant":
            self._add(param, {"role": role, "content": content})
            return
        extra = {"extra_content": item["extra_content"]} if "extra_content" in item else {}
        turn = self._turn
        if turn is not None and "content" not in turn:
            turn.update(content=_simplest(content), **extra)
            self.origins[-1].content = f"{param}.content"
            self.origins[-1].items.append(param)
        elif turn is not None and "tool_calls" in turn:  # the results of the calls must follow directly
            turn["content"] = [*_as_parts(turn["content"]), *_as_parts(content)]
            self.origins[-1].items.append(param)
        else:
            self._begin(param, {"role": "assistant", "content": _simplest(content), **extra})

    def reasoning(self, param: str, item: Mapping[str, Raw]) -> None:
        """Add the reasoning of a turn."""
        self._lose_others(param, item, _REASONING_FIELDS)
        found = reasoning.read_reasoning(param, item, self._changes)
        turn = self._turn
        if turn is None or ("content" in turn and "tool_calls" not in turn):
            self._begin(param, {"role": "assistant", **found})
        else:
            reasoning.join(turn, found)
            self.origins[-1].items.append(param)

    def function_call(self, param: str, item: Mapping[str, Raw]) -> None:
        """Add a call of a function."""
        arguments = string(f"{param}.arguments", item.get("arguments", ABSENT))
        function = {"name": _name_of(param, item), "arguments": arguments}
        self._call(param, item, {"type": "function", "function": function})

    def custom_tool_call(self, param: str, item: Mapping[str, Raw]) -> None:
        """Add a call of a custom tool."""
        given = string(f"{param}.input", item.get("input", ABSENT))
        custom = {"name": _name_of(param, item), "input": given}
        self._call(param, item, {"type": "custom", "custom": custom})

    def _lose_others(self, param: str, item: Mapping[str, Raw], known: frozenset[str]) -> None:
        """Report the members of an item that a chat completion cannot express. `id` and `status` have no effect and are not reported."""
        for name in others(item, known):
            self._changes.loss(f"{param}.{name[:60]}", "a chat completion has no such field")

    def _call(self, param: str, item: Mapping[str, Raw], call: dict[str, Any]) -> None:
        self._lose_others(param, item, _CALL_FIELDS)
        call["id"] = string(f"{param}.call_id", item.get("call_id", ABSENT))
        if "extra_content" in item:
            call["extra_content"] = item["extra_content"]
        if self._turn is None:
            self._begin(param, {"role": "assistant"})
        assert self._turn is not None
        self._turn.setdefault("tool_calls", []).append(call)
        origin = self.origins[-1]
        origin.calls.append(param)
        if param not in origin.items:
            origin.items.append(param)

    def call_output(self, param: str, item: Mapping[str, Raw]) -> None:
        """Add the result of a call."""
        self._lose_others(param, item, _OUTPUT_FIELDS)
        identity = string(f"{param}.call_id", item.get("call_id", ABSENT))
        content = read_content(f"{param}.output", item.get("output", ABSENT), self._changes)
        self._add(param, {"role": "tool", "tool_call_id": identity, "content": content})
        self.origins[-1].content = f"{param}.output"

    def _begin(self, param: str, message: dict[str, Any]) -> None:
        """Begin a turn of the model."""
        self._add(param, message)
        self._turn = message

    def _add(self, param: str, message: dict[str, Any]) -> None:
        self._turn = None
        self.messages.append(message)
        self.origins.append(Origin(param, f"{param}.content", items=[param]))


_ITEMS = {
    "message": Conversation.message,
    "reasoning": Conversation.reasoning,
    "function_call": Conversation.function_call,
    "function_call_output": Conversation.call_output,
    "custom_tool_call": Conversation.custom_tool_call,
    "custom_tool_call_output": Conversation.call_output,
}


def callers_receipt(receipt: Raw, origins: Sequence[Origin]) -> Any:
    """Return a receipt in which the numbers of evicted messages are those of the caller's items."""
    if b'"evicted":[' not in bytes(receipt) or b'"evicted":[]' in bytes(receipt):
        return receipt
    decoded = decode(receipt)
    context = decoded.get("context") or {}
    evicted = [origins[index] for index in context.get("evicted") or () if index < len(origins)]
    items = [_ITEM.fullmatch(item) for origin in evicted for item in origin.items]
    context["evicted"] = sorted(int(item[1]) for item in items if item is not None)
    return decoded


def _name_of(param: str, item: Mapping[str, Raw]) -> Raw:
    """Return the name that a called tool has in the chat completion."""
    name = string(f"{param}.name", item.get("name", ABSENT))
    namespace = item.get("namespace", ABSENT)
    if is_absent(namespace):
        return name
    return Raw(encode(Member(text(f"{param}.namespace", namespace), text(f"{param}.name", name)).flat_name))


def _simplest(content: Raw | list[dict[str, Any]]) -> Raw | list[dict[str, Any]]:
    """Return the content of an assistant message: one text as a string, which every provider accepts."""
    if type(content) is list and len(content) == 1 and content[0].keys() == {"type", "text"}:
        only: Raw = content[0]["text"]
        return only
    return content


def _as_parts(content: Any) -> list[dict[str, Any]]:
    return content if type(content) is list else [{"type": "text", "text": content}]


def _unsupported(param: str, kind: str) -> BadRequest:
    if param == EARLIER:
        message = f"The conversation of '{EARLIER}' has an item of the type '{kind[:60]}', which only OpenAI and Azure can read."
        return refuse(EARLIER, message, "unsupported_content")
    instead = "send the item itself, or use 'previous_response_id'"
    why = instead if kind == "item_reference" else f"supported items are {', '.join(_ITEMS)}"
    code = "invalid_value" if kind == "item_reference" else "unsupported_content"
    return refuse(f"{param}.type", f"The item type '{kind[:60]}' is not supported: {why}.", code)
