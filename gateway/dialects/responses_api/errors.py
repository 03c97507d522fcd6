"""Errors and adjustments with the caller's names for the parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.dialects.responses_api.conversation import Origin

NAMES = MappingProxyType({
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": "include",
    "messages": "input",
    "context_length_exceeded_behavior": "truncation",
})  # fmt: skip
"""Parameters of the chat completion, and the caller's parameters from which they come."""

_FIRST = re.compile(r"[^.\[]*")
_MESSAGE = re.compile(r"messages\[(\d+)\](.*)", re.DOTALL)
_CALL = re.compile(r"\.tool_calls\[(\d+)\](.*)", re.DOTALL)
_TOOL = re.compile(r"(?:tools\[(\d+)\]|tool_choice)(?:\.(?:function|custom|allowed_tools)\b)?")
_THOUGHTS = (".reasoning", ".thinking_blocks")
_QUOTED = re.compile(r"'([a-z_]+(?:\[\d+\]|\.[a-z_]+)*)'")
_NUMBER = re.compile(rb'"sequence_number":\s*(\d{1,18})\b')
_PARTS = (
    (".image_url.url", ".image_url"),
    (".file.", "."),
    (".json_schema", ""),
    (".function.", "."),
    (".custom.", "."),
)

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Names:
    """The caller's names for the parameters of one chat completion."""

    __slots__ = ("_given", "_origins", "_tools")

    def __init__(
        self, given: frozenset[str], origins: Sequence[Origin], tools: Sequence[str] = ()
    ) -> None:
        """Create the names. `origins` and `tools` are the caller's parameters from which the messages and the tools come."""
        self._given = given
        self._origins = origins
        self._tools = tools

    def of(self, name: str) -> str:
        """Return the caller's name for a parameter."""
        if match := _MESSAGE.fullmatch(name):
            return self._in_input(int(match[1]), match[2])
        first = _FIRST.match(name)
        head = first[0] if first is not None else name
        if head not in NAMES or head in self._given:
            return _TOOL.sub(self._tool, name)
        return _shortened(NAMES[head] + name[len(head) :])

    def _tool(self, match: re.Match[str]) -> str:
        index = match[1]
        if index is None:
            return "tool_choice"
        return self._tools[int(index)] if int(index) < len(self._tools) else f"tools[{index}]"

    def _in_input(self, index: int, rest: str) -> str:
        if index >= len(self._origins):
            return f"input{rest}"
        origin = self._origins[index]
        if match := _CALL.fullmatch(rest):
            number, calls = int(match[1]), origin.calls
            return _shortened((calls[number] if number < len(calls) else origin.param) + match[2].replace(".id", ".call_id"))
        if not origin.param.startswith("input[") or rest == ".role" or rest.startswith(_THOUGHTS):
            return origin.param
        if rest.startswith(".content"):
            return _shortened(origin.content + rest[len(".content") :])
        return _shortened(origin.param + rest.replace(".tool_call_id", ".call_id"))


def _shortened(name: str) -> str:
    for theirs, ours in _PARTS:
        name = name.replace(theirs, ours)
    return name


def to_error(body: bytes, names: Names) -> bytes:
    """Return OpenAI's error object with the caller's names."""
    whole: dict[str, Any] = _decode(body)
    error = whole.get("error")
    if type(error) is dict and type(param := error.get("param")) is str:
        error["param"] = names.of(param)
    if type(error) is dict and type(message := error.get("message")) is str:
        error["message"] = _QUOTED.sub(lambda match: f"'{names.of(match[1])}'", message)
    return _encode(whole)


def error_event(event: bytes) -> bytes:
    """Return the `error` event for the error in a chat event.

    The `error` event ends a stream of the provider's own events. `number_after` sets the event's sequence number.
    """
    error: dict[str, Any] = _decode(event.removeprefix(b"data: "))["error"]
    said = {"type": "error", "sequence_number": 0, **{name: error.get(name) for name in ("code", "message", "param")}}
    return b"event: error\ndata: %b\n\n" % _encode(said)


def number_after(error: bytes, earlier: bytes) -> bytes:
    """Return an `error` event with the sequence number that follows those of the provider's `earlier` events."""
    numbers = _NUMBER.findall(earlier)
    if not numbers:
        return error
    return error.replace(b'"sequence_number":0', b'"sequence_number":%d' % (int(numbers[-1]) + 1), 1)
