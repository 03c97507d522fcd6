"""Converts the tool calls of an answer to the caller's form, and checks them against the caller's schemas.

legacy    the caller sent `functions`, which were sent as tools: the answer has `function_call`
custom    custom tools were sent as functions with one argument: the answer has calls of custom tools
checked   functions with `strict: true` that the upstream does not enforce: invalid arguments are reported

This module does no I/O. It is used only in these cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.emulate.custom_input import InputReader, read_input
from gateway.emulate.json_schema import Schema
from gateway.streams.chunk_filter import ChunkFilter
from providers.base import Adjustment, Answer, Body, Options, StreamDecoder
from providers.rules.custom_tools import CUSTOM_TOOLS
from providers.rules.legacy_functions import LEGACY_CALLS
from providers.rules.schemas import CHECKED_ARGUMENTS

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_CALLED = ("tool_calls", "stop")
"""Finish reasons of an answer with a call. A call that the caller forced ends with `stop` at some vendors."""
_ONE_CALL = "the model made several calls, and 'function_call' holds only the first"


class ToolCalls(msgspec.Struct, frozen=True):
    """The conversions and checks of the tool calls of one answer."""

    is_legacy: bool = False
    custom: frozenset[str] = frozenset()
    """Names of the custom tools that were sent as functions."""
    schemas: Mapping[str, Schema] = {}
    """The schemas of the functions whose arguments are checked."""

    def finish(self, answer: Answer) -> list[Adjustment]:
        """Convert and check the calls of a JSON answer. Return the notes on the answer."""
        decoded = _decode(answer.body)
        notes: list[Adjustment] = []
        changed = False
        reasons = list(answer.finish_reasons)
        for position, choice in enumerate(decoded.get("choices") or ()):
            calls = (choice.get("message") or {}).get("tool_calls")
            if not calls:
                continue
            notes += [note for note in self._checked(calls, choice.get("finish_reason")) if note not in notes]
            if self.is_legacy or any(_name(call) in self.custom for call in calls):
                changed = True
                notes += self._convert(choice, calls)
                if position < len(reasons):
                    reasons[position] = choice.get("finish_reason")
        if changed:
            answer.body, answer.finish_reasons = _encode(decoded), tuple(reasons)
        return notes

    def check(self, name: str, arguments: str, finish: str | None) -> Adjustment | None:
        """Return a note on the arguments of a call, or None if the arguments are valid or are not checked."""
        schema = self.schemas.get(name)
        if schema is None:
            return None
        if schema.problem is not None:
            why = f"the arguments of a call of '{name[:64]}' are not checked, because its schema is not valid: {schema.problem}"
            return _warn("tools", why)
        problem = "they are cut off by the output limit" if finish == "length" else _problem(schema, arguments)
        return None if problem is None else _warn("tools", f"the arguments of a call of '{name[:64]}' do not match its schema: {problem}")

    def _checked(self, calls: list[dict[str, Any]], finish: str | None) -> list[Adjustment]:
        found = [self.check(_name(call), (call.get("function") or {}).get("arguments") or "", finish) for call in calls]
        return [note for note in found if note is not None]

    def _convert(self, choice: dict[str, Any], calls: list[dict[str, Any]]) -> list[Adjustment]:
        message = choice["message"]
        if not self.is_legacy:
            message["tool_calls"] = [self._as_custom(call) if _name(call) in self.custom else call for call in calls]
            return []
        del message["tool_calls"]
        message["function_call"] = calls[0]["function"]
        if choice.get("finish_reason") in _CALLED:
            choice["finish_reason"] = "function_call"
        return [_warn("function_call", _ONE_CALL)] if len(calls) > 1 else []

    def _as_custom(self, call: dict[str, Any]) -> dict[str, Any]:
        custom = {"name": _name(call), "input": read_input(call["function"].get("arguments") or "")}
        return {**{name: value for name, value in call.items() if name != "function"}, "type": "custom", "custom": custom}


FUNCTION_FIELDS = frozenset({"tools", "functions"})


def functions_of(body: Body | None) -> list[dict[str, Any]]:
    """Return the functions of a request, the legacy ones included."""
    if body is None:
        return []
    tools, functions = body.get("tools"), body.get("functions")
    return [*(tool.get("function") or {} for tool in tools or ()), *(functions or ())]


def read_tool_calls(options: Options, functions: list[dict[str, Any]]) -> ToolCalls | None:
    """Return the conversions and checks that the answers need, or None. `functions` are the caller's functions."""
    memo = options.memo
    checked = memo.get(CHECKED_ARGUMENTS, frozenset())
    if not (checked or CUSTOM_TOOLS in memo or LEGACY_CALLS in memo):
        return None
    schemas = {
        function["name"]: Schema(function["parameters"])
        for function in functions
        if function.get("name") in checked and type(function.get("parameters")) is dict
    }
    return ToolCalls(LEGACY_CALLS in memo, memo.get(CUSTOM_TOOLS, frozenset()), schemas)


class ToolCallStream(ChunkFilter):
    """A stream decoder that converts and checks tool calls, after `inner` (if any) has converted the events to OpenAI chunks."""

    def __init__(self, inner: StreamDecoder | None, calls: ToolCalls) -> None:
        super().__init__(inner)
        self._calls = calls
        self._choices: dict[int, _Choice] = {}

    def notes(self) -> list[Adjustment]:
        """Return the notes on the complete answer."""
        found: list[Adjustment] = []
        for choice in self._choices.values():
            for call in choice.calls.values():
                note = self._calls.check(call.name, "".join(call.arguments), choice.finish)
                found += [note] if note is not None and note not in found else []
            if self._calls.is_legacy and len(choice.calls) > 1:
                found.append(_warn("function_call", _ONE_CALL))
        return found

    def _pass(self, data: bytes) -> Sequence[bytes]:
        if data == b"[DONE]":
            return (data,)
        chunk = _decode(data)
        choices = chunk.get("choices")
        if not choices or chunk.get("error"):
            return (data,)
        changed = False
        for choice in choices:
            changed = self._read(choice) or changed
        if not changed:
            return (data,)
        left = [choice for choice in choices if choice.get("delta") or choice.get("finish_reason")]
        return (_encode({**chunk, "choices": left}),) if left or chunk.get("usage") else ()

    def _read(self, choice: dict[str, Any]) -> bool:
        """Convert the calls of one choice. Return whether something changed."""
        state = self._choices.setdefault(choice.get("index", 0), _Choice())
        delta = choice.get("delta") or {}
        pieces = delta.get("tool_calls") or []
        out: list[dict[str, Any]] = []
        for piece in pieces:
            out += self._piece(state, piece)
        finish = choice.get("finish_reason")
        if finish:
            state.finish = finish
            for index, call in state.calls.items():
                rest = call.input.finish() if call.input is not None else ""
                out += [{"index": index, "custom": {"input": rest}}] if rest else []
        if not self._calls.is_legacy:
            if out == pieces:
                return False
            choice["delta"] = _with(delta, "tool_calls", out or None)
            return True
        if state.calls and finish in _CALLED:
            choice["finish_reason"] = "function_call"
        if pieces:
            choice["delta"] = _with(_with(delta, "tool_calls", None), "function_call", out[0]["function"] if out else None)
        return bool(pieces) or bool(finish)

    def _piece(self, state: _Choice, piece: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the piece of a call for the caller, as a list that is empty if there is nothing to send."""
        index, function = piece.get("index", 0), piece.get("function") or {}
        call = state.calls.get(index)
        if call is None:
            name = str(function.get("name") or "")
            call = state.calls[index] = _Call(name, InputReader() if name in self._calls.custom else None)
            opening = True
        else:
            opening = False
        text = function.get("arguments") or ""
        if call.name in self._calls.schemas:
            call.arguments.append(text)
        if self._calls.is_legacy:
            return [piece] if index == 0 else []
        if call.input is None:
            return [piece]
        shown = call.input.feed(text)
        rest = {name: value for name, value in piece.items() if name not in ("function", "type")}
        if opening:
            return [{**rest, "type": "custom", "custom": {"name": call.name, "input": shown}}]
        return [{**rest, "custom": {"input": shown}}] if shown else []


class _Call:
    """One call of a stream."""

    __slots__ = ("arguments", "input", "name")

    def __init__(self, name: str, input: InputReader | None) -> None:
        self.name = name
        self.input = input
        """Reads the input of a custom tool; None for a function."""
        self.arguments: list[str] = []


class _Choice:
    """The calls of one choice of a stream."""

    __slots__ = ("calls", "finish")

    def __init__(self) -> None:
        self.calls: dict[int, _Call] = {}
        self.finish: str | None = None


def _with(fields: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return the fields with `name` set to `value`, or without `name` if `value` is None."""
    left = {key: each for key, each in fields.items() if key != name}
    return left if value is None else {**left, name: value}


def _problem(schema: Schema, arguments: str) -> str | None:
    try:
        value = _decode_any(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        return "they are not JSON"
    return schema.find_error(value)


def _name(call: dict[str, Any]) -> str:
    return str((call.get("function") or {}).get("name") or "")


def _warn(param: str, why: str) -> Adjustment:
    return Adjustment(param, "warn", why=why)
