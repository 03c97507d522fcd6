"""Tool calls in OpenAI's format: one index for each call of a choice, stable ids, arguments as JSON text.

Some vendors leave out the index or give every call the same index, leave out ids and types, or send arguments as an object.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from providers.base import Adjustment

ADOPTED_CALL = Adjustment(
    "tools", "reshape", from_="function_call", to="tool_calls", why="the upstream answered with the legacy 'function_call'"
)
_decode = msgspec.json.Decoder().decode

_KINDS = {"function": "arguments", "custom": "input"}
"""For each type of call, the field with the arguments. It is in an object that has the name of the type."""
_CALL_FIELDS = frozenset({"index", "id", "type", "function", "custom", "name", "arguments"})


def new_call_id() -> str:
    """Return a new id for a call without one."""
    return f"call_{os.urandom(12).hex()}"


def json_text(value: Any) -> str:
    """Encode a value as JSON text, with a space after each comma and colon."""
    import json

    return json.dumps(value, ensure_ascii=False)


def arguments_text(value: Any) -> str:
    """Return arguments as JSON text. An absent value becomes an empty string."""
    if type(value) is str:
        return value
    return "" if value is None else json_text(value)


class _Call:
    """One tool call of a stream."""

    __slots__ = ("index", "is_sent", "kind", "name", "named_id", "others", "public_id", "text", "upstream_index")

    def __init__(self, named_id: str, upstream_index: int | None) -> None:
        self.index = 0
        """The index that the caller gets, once the call is sent."""
        self.named_id = named_id
        """The upstream's id. Empty if there is none."""
        self.public_id = named_id or new_call_id()
        self.upstream_index = upstream_index
        self.kind = "function"
        self.name = ""
        self.text: list[str] = []
        self.others: dict[str, Any] = {}
        """Further fields, kept until the call is sent."""
        self.is_sent = False

    def is_whole(self, text: str) -> bool:
        """Return whether `text` repeats all arguments received so far. For most pieces, the first character decides."""
        first = next((piece for piece in self.text if piece), "")
        return text[:1] == first[:1] and text == "".join(self.text)

    def is_repeated_by(self, text: str) -> bool:
        """Return whether the arguments so far are a complete object and `text` starts a second one."""
        if not text.lstrip().startswith("{") or not self.text:
            return False
        try:
            return type(_decode("".join(self.text))) is dict
        except msgspec.DecodeError:
            return False


class CallStream:
    """The tool calls of one choice of a stream.

    Calls are distinguished by their ids, or, if they have no ids, by their names and indexes.
    """

    __slots__ = ("_by_id", "_by_index", "_calls", "_sent", "_shared")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._sent: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[int, _Call] = {}
        self._shared: frozenset[int] = frozenset()
        """Upstream indices that more than one call has."""

    @property
    def count(self) -> int:
        """Number of calls that have begun."""
        return len(self._calls)

    @property
    def has_sent(self) -> bool:
        """Whether a call was sent."""
        return bool(self._sent)

    def arguments_of(self, index: int) -> list[str]:
        """Return the list of pieces of a call's arguments. Pieces that are appended to this list count as received."""
        return self._sent[index].text

    def feed(self, deltas: list[Any]) -> list[dict[str, Any]]:
        """Return OpenAI's deltas for the deltas of one chunk. A call without a name is held back until its name arrives."""
        pieces = [self._piece(delta) for delta in deltas if type(delta) is dict and not is_server_call(delta)]
        return [piece for piece in pieces if piece is not None]

    def close(self) -> list[dict[str, Any]]:
        """Return the deltas that give an empty object to calls of functions that ended without arguments."""
        pieces = []
        for call in self._sent:
            if call.kind == "function" and not "".join(call.text).strip():
                call.text.append("{}")
                pieces.append({"index": call.index, "function": {"arguments": "{}"}})
        return pieces

    def _piece(self, delta: dict[str, Any]) -> dict[str, Any] | None:
        kind, name, text = _read_call(delta)
        index = delta.get("index")
        call = self._find(_text(delta.get("id")), name, text, index if type(index) is int else None)
        if call is None or (name and call.is_sent and text and call.is_whole(text)):
            return None  # no call has begun, or the upstream repeats a whole call
        others = {key: value for key, value in delta.items() if key not in _CALL_FIELDS}
        call.text.append(text)
        if call.is_sent:
            fields = {"arguments" if call.kind == "function" else "input": text}
            if name and name != call.name:
                call.name += name
                fields = {"name": name, **fields}
            piece: dict[str, Any] = {"index": call.index, call.kind: fields, **others}
            return {**piece, "type": call.kind} if delta.get("type") == call.kind else piece
        call.kind = kind
        call.name = call.name or name
        call.others |= others
        if not call.name:
            return None
        call.is_sent, call.index = True, len(self._sent)
        self._sent.append(call)
        body = {"name": call.name, _KINDS[kind]: "".join(call.text)}
        return {"index": call.index, "id": call.public_id, "type": kind, kind: body, **call.others}

    def _find(self, call_id: str, name: str, text: str, index: int | None) -> _Call | None:
        """Return the call that a delta belongs to, which may be a new one, or None if no call has begun."""
        holder = None if index is None else self._by_index.get(index)
        if call_id:
            return self._find_by_id(call_id, name, index, holder)
        last = self._calls[-1] if self._calls else None
        if name:
            call = holder if index is not None else last
            if call is None or (call.name == name and call.is_repeated_by(text)):
                return self._open("", index)
            continues = call.named_id and not any(call.text) and (index is not None or not text)  # a piece of the name
            same = not call.name or call.name == name or continues
            return call if same else self._open("", index)
        if holder is not None and index not in self._shared:
            return holder
        return last or (self._open("", index) if text else None)

    def _find_by_id(self, call_id: str, name: str, index: int | None, holder: _Call | None) -> _Call:
        known = self._by_id.get(call_id)
        if known is not None:
            moved = index is not None and known.upstream_index is not None and known.upstream_index != index
            renamed = bool(known.name) and known.name != name and holder is not known
            # Another call with the same id gets an id of its own.
            return self._open("", index) if name and (moved or renamed) else known
        if holder is not None and not holder.named_id and not (name and holder.name):
            self._by_id[call_id] = holder  # the id of a call that began without one
            if not holder.is_sent:
                holder.named_id = holder.public_id = call_id
            return holder
        return self._open(call_id, index)

    def _open(self, call_id: str, index: int | None) -> _Call:
        call = _Call(call_id, index)
        self._calls.append(call)
        if call_id:
            self._by_id[call_id] = call
        if index is not None:
            if index in self._by_index:
                self._shared |= {index}
            self._by_index[index] = call
        return call


def calls_of(value: Any) -> list[Any]:
    """Return the value of `tool_calls` as a list. Raise ValueError if it is neither a list of calls nor one call."""
    calls = [value] if type(value) is dict else value
    if type(calls) is not list or not all(call is None or type(call) is dict for call in calls):
        raise ValueError("tool_calls is not a list of objects")
    return calls


def repair_calls(calls: list[Any]) -> list[dict[str, Any]]:
    """Return the calls of a JSON answer in OpenAI's format, without those that the caller cannot carry out."""
    seen: set[str] = set()
    repaired = []
    for call in calls:
        if type(call) is not dict or is_server_call(call):
            continue
        kind, name, text = _read_call(call)
        if not name:
            continue
        call_id = _text(call.get("id"))
        if not call_id or call_id in seen:
            call_id = new_call_id()
        seen.add(call_id)
        others = {key: value for key, value in call.items() if key not in _CALL_FIELDS or key == "index"}
        body = call[kind] if type(call.get(kind)) is dict else {}
        if kind == "function" and not text.strip():
            text = "{}"
        repaired.append({"id": call_id, "type": kind, kind: {**body, "name": name, _KINDS[kind]: text}, **others})
    return repaired


def adopt_function_call(message: dict[str, Any], *, has_calls: bool = False) -> bool:
    """Turn the legacy `function_call` of a message or delta into a tool call. Return whether there was one.

    With `has_calls`, or if the message has tool calls, it is only removed: the upstream sends the call in both forms.
    """
    call = message.get("function_call")
    if type(call) is not dict or not call:
        return False
    del message["function_call"]
    if not has_calls and not message.get("tool_calls"):
        message["tool_calls"] = [{"function": call}]
    return True


def is_server_call(call: dict[str, Any]) -> bool:
    """Return whether a call is one that the vendor carries out itself, such as xAI's `web_search_call`."""
    kind = call.get("type")
    return type(kind) is str and (kind.endswith("_call") or kind == "server_tool_use")


def _read_call(call: dict[str, Any]) -> tuple[str, str, str]:
    """Return the type, the name and the arguments of a call or a part of one."""
    kind = "custom" if type(call.get("custom")) is dict else "function"
    body = call.get(kind)
    if type(body) is not dict:
        body = call
    arguments = body.get(_KINDS[kind])
    # An empty object before the first piece of text is a placeholder. `close` adds it if nothing follows.
    return kind, _text(body.get("name")), "" if arguments == {} else arguments_text(arguments)


def _text(value: Any) -> str:
    """Return an id or a name as text. Some servers send integers as ids, and Mistral sends "null" for a missing id."""
    if type(value) is int:
        return str(value)
    return value if type(value) is str and value != "null" else ""
