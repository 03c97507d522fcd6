"""Joins the chunks of a stream into one JSON answer, for providers that always stream.

texts              joined in order      tool calls          merged by index, arguments joined
lists of deltas    appended             choices             in the order of their index
log-probabilities  appended             id, created, model  the first value
usage              the last one         anything else       the last value
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode

_WHOLE = {"chat.completion.chunk": "chat.completion"}
_FIRST = frozenset({"id", "created", "model"})
_NEVER_JOINED = frozenset({"role", "id", "type", "name"})
"""Text fields that an upstream may repeat in every chunk. They are values, not pieces of text."""


class Aggregate:
    """Collects the chunks of one stream. Call `feed` for each chunk (`[DONE]` included), then `result`."""

    def __init__(self) -> None:
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def feed(self, chunk: bytes) -> None:
        """Add one chunk. Raise ValueError (or msgspec.DecodeError) if `chunk` is not a chunk."""
        if chunk == b"[DONE]":
            return
        data = _decode(chunk)
        try:
            for choice in data.pop("choices", None) or ():
                self._feed_choice(choice)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not a chunk: {error}") from error
        for name, value in data.items():
            if value is not None and not (name in _FIRST and name in self._top):
                self._top[name] = value

    def result(self) -> bytes:
        """Return the answer as JSON. Raise ValueError if no choice has arrived."""
        if not self._choices:
            raise ValueError("the stream ended without an answer")
        shape = self._top.get("object")
        answer = {**self._top, "object": _WHOLE.get(shape, shape) if isinstance(shape, str) else "chat.completion"}
        answer["choices"] = [self._whole(self._choices[index]) for index in sorted(self._choices)]
        return _encode(answer)

    @property
    def finished(self) -> bool:
        """Return whether there are choices and each of them has a finish reason."""
        return bool(self._choices) and all(choice.get("finish_reason") is not None for choice in self._choices.values())

    def _feed_choice(self, choice: dict[str, Any]) -> None:
        index = choice.get("index", 0)
        if type(index) is not int:
            raise TypeError("a choice's index must be an integer")
        merged = self._choices.setdefault(index, {"index": index})
        for name, value in choice.items():
            if name == "delta":
                _merge(merged.setdefault("message", {}), value or {})
            elif name == "text" and isinstance(value, str):
                merged.setdefault("text", []).append(value)
            elif name == "logprobs" and isinstance(value, dict):
                _extend(merged, value)
            elif name != "index" and (value is not None or name not in merged):
                merged[name] = value

    @staticmethod
    def _whole(choice: dict[str, Any]) -> dict[str, Any]:
        """Return one choice with the fields of an answer, in the order of an answer."""
        message_choice: dict[str, Any] = {"index": choice["index"]}
        if "message" in choice or "text" not in choice:
            message = _joined(choice.get("message", {}))
            silent = any(message.get(name) is not None for name in ("tool_calls", "function_call", "refusal"))
            content = message.pop("content", None)
            message_choice["message"] = {
                "role": message.pop("role", None) or "assistant",
                "content": None if silent and not content else content or "",
            }
            message_choice["message"] |= message
        else:
            message_choice["text"] = "".join(choice["text"])
        message_choice["logprobs"] = choice.get("logprobs")
        rest = {name: value for name, value in choice.items() if name not in ("index", "message", "text", "logprobs", "finish_reason")}
        return {**message_choice, "finish_reason": choice.get("finish_reason"), **rest}


class _Pieces(list[str]):
    """The pieces of a text, not joined yet."""


def _merge(merged: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add a delta to the preceding ones."""
    for name, value in delta.items():
        if value is None:
            continue
        if name == "tool_calls":
            calls = _container(merged, name, dict)
            for position, call in enumerate(value):
                _merge(calls.setdefault(call.get("index", position), {}), {key: part for key, part in call.items() if key != "index"})
        elif isinstance(value, str) and name not in _NEVER_JOINED:
            _container(merged, name, _Pieces).append(value)
        elif isinstance(value, dict):
            _merge(_container(merged, name, dict), value)
        elif isinstance(value, list):
            _container(merged, name, list).extend(value)
        elif value != "" or name not in merged:
            merged[name] = value


def _container(merged: dict[str, Any], name: str, kind: Callable[[], Any]) -> Any:
    """Return the container for the pieces of a field: a new one if none exists, or if the upstream changed the field's type."""
    container = merged.get(name)
    if type(container) is not kind:
        container = merged[name] = kind()
    return container


def _extend(merged: dict[str, Any], logprobs: dict[str, Any]) -> None:
    """Append a chunk's log-probabilities."""
    collected = merged.get("logprobs") or {}
    merged["logprobs"] = collected
    for name, value in logprobs.items():
        if isinstance(value, list) and isinstance(collected.get(name), list):
            collected[name].extend(value)
        elif value is not None or name not in collected:
            collected[name] = value


def _joined(part: dict[str, Any]) -> dict[str, Any]:
    """Return a merged delta with joined texts and ordered tool calls."""
    result: dict[str, Any] = {}
    for name, value in part.items():
        if isinstance(value, _Pieces):
            result[name] = "".join(value)
        elif name == "tool_calls":
            result[name] = [_joined(value[index]) for index in sorted(value)]
        elif isinstance(value, dict):
            result[name] = _joined(value)
        else:
            result[name] = value
    return result
