"""`ChunkNormalizer`: the stream decoder of every provider with OpenAI's wire format. docs/streams.md says what it guarantees."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from providers.answers import Repair, repair_content
from providers.base import Failure, StreamDecoder, StreamFailure
from providers.failures import read_failure
from providers.finish_reasons import FailedFinishError, finish_reason
from providers.tool_calls import CallStream, calls_of
from providers.usage import normalize_usage

_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

_OBJECTS = {"chat": "chat.completion.chunk", "completions": "text_completion"}
_TEXT_START = re.compile(rb'"(?:delta":\s?\{(?:"role":\s?"assistant",\s?)?"(?:content|reasoning_content|reasoning)|text)":\s?"')
"""The last bytes that every chunk of text has in common with the preceding one."""
_TEXT = re.compile(rb'(?:[^"\\]|\\.)*', re.DOTALL)
"""The text of a JSON string."""
_NULLS = (b":null", b": null")
_MAX_PREFIXES = 4
_MAX_HELD_CHUNKS = 16


class _Choice:
    """What one choice of a stream has brought so far."""

    __slots__ = ("calls", "finished", "has_delta")

    def __init__(self) -> None:
        self.calls = CallStream()
        self.finished = False
        self.has_delta = False


class ChunkNormalizer(StreamDecoder):
    """Gives chunks OpenAI's shape, whatever the upstream sends. A chunk that has it keeps its bytes.

    A chunk of text whose first bytes equal those of a chunk that needed no change is not decoded: it differs in the text
    alone, unless one of a few words comes later.
    """

    def __init__(
        self,
        repairs: tuple[Repair, ...] = (),
        words: tuple[bytes, ...] = (),
        *,
        operation: str = "chat",
        model: str = "",
        hides_output: bool = False,
    ) -> None:
        """`repairs` are the vendor's own, and `words` the bytes of chunks that may need them."""
        self._repairs = repairs
        self._words = words
        self._is_chat = operation != "completions"
        self._object = _OBJECTS["chat" if self._is_chat else "completions"]
        self._model = model
        self._hides_output = hides_output
        self._identity: dict[str, Any] = {}
        self._held: list[dict[str, Any]] = []
        """Chunks without choices from before the identity of the stream was known, such as Azure's first."""
        self._choices: dict[int, _Choice] = {}
        self._prefixes: tuple[bytes, ...] = ()
        self._event_prefixes: tuple[bytes, ...] = ()
        self._common = 0
        self._suffixes: tuple[bytes, ...] = ()
        self._common_end = 0

    def passes(self, events: bytes) -> bool:
        """Return whether `feed` would return these events as they are."""
        prefixes = self._event_prefixes
        if not prefixes:
            return False
        start = self._common + len(b"data: ")
        suffixes, rest = self._suffixes, -self._common_end
        for event in events[:-2].split(b"\n\n"):
            if not event.startswith(prefixes):
                return False
            if event.endswith(suffixes) and b'"' not in event[start:rest]:
                continue  # nothing but text is new
            if self._is_special(event[start:]):
                return False
        return True

    def _is_special(self, rest: bytes) -> bool:
        """Return whether what follows the common bytes of a chunk may need a change."""
        if b"_call" in rest or b'"delta"' in rest or b'"error"' in rest or b'"content"' in rest or b'"reasoning"' in rest:
            return True
        at = rest.find(b'"finish_reason"')
        if at >= 0 and not rest.startswith(_NULLS, at + 15):
            return True
        at = rest.find(b'"usage"')
        if at >= 0 and not rest.startswith(_NULLS, at + 7):
            return True
        return any(word in rest for word in self._words)

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """Return the chunk in OpenAI's shape. Raises StreamFailure for an error with a status of its own."""
        if self._prefixes and data.startswith(self._prefixes) and not self._is_special(data[self._common :]):
            return (data,)
        try:
            chunk = _decode_any(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return (data,)  # rejected later
        error = _error_of(chunk, event)
        if error is not None:
            if type(chunk) is dict and type(chunk.get("status_code")) is int:
                raise StreamFailure(read_failure(chunk["status_code"], {}, data))
            return (data,) if error is chunk else (_encode(error),)
        if not _has_readable_choices(chunk):
            return (data,)  # rejected later
        changed = False
        for repair in self._repairs:
            changed = repair(chunk) or changed
        changed = self._shape(chunk) or changed
        if not self._identify(chunk):
            return ()
        changed = self._share_identity(chunk) or changed
        held, self._held = self._held, []
        for earlier in held:
            self._share_identity(earlier)
        if not changed:
            self._learn(data, chunk)
        return (*(_encode(earlier) for earlier in held), _encode(chunk) if changed else data)

    def end(self) -> Sequence[bytes]:
        """Return nothing: chunks that are still held have no content."""
        return ()

    def _learn(self, data: bytes, chunk: dict[str, Any]) -> None:
        """Remember how a chunk of text begins, if it is one that needed no change."""
        if len(chunk["choices"]) != 1 or chunk.get("usage") or (self._words and any(word in data for word in self._words)):
            return
        start = _TEXT_START.search(data)
        if start is None or self._is_special(data[start.end() :]):
            return
        end = _TEXT.match(data, start.end())
        assert end is not None
        prefix, suffix = data[: start.end()], data[end.end() :]
        if prefix not in self._prefixes:
            self._prefixes = (*self._prefixes, prefix)[-_MAX_PREFIXES:]
            self._event_prefixes = tuple(b"data: " + known for known in self._prefixes)
            self._common = min(len(known) for known in self._prefixes)
        if suffix not in self._suffixes:
            self._suffixes = (*self._suffixes, suffix)[-_MAX_PREFIXES:]
            self._common_end = min(len(known) for known in self._suffixes)

    def _identify(self, chunk: dict[str, Any]) -> bool:
        """Find the id of the stream. Return False if the chunk is held until it is known."""
        if self._identity:
            return True
        known = type(chunk.get("id")) is str and chunk["id"] != ""
        if not known and not chunk["choices"] and len(self._held) < _MAX_HELD_CHUNKS:
            self._held.append(chunk)
            return False
        created, model = chunk.get("created"), chunk.get("model")
        self._identity = {
            "id": chunk["id"] if known else f"chatcmpl-{os.urandom(12).hex()}",
            "object": self._object,
            "created": created if type(created) is int and created > 0 else int(time.time()),
            "model": model if type(model) is str and model else self._model,
        }
        return True

    def _share_identity(self, chunk: dict[str, Any]) -> bool:
        changed = False
        for name, value in self._identity.items():
            if chunk.get(name) != value:
                chunk[name] = value
                changed = True
        return changed

    def _shape(self, chunk: dict[str, Any]) -> bool:
        """Repair choices and usage. Return whether something changed."""
        source = chunk.get("choices")
        given = source if type(source) is list else [source]
        choices = [choice for choice in given if type(choice) is dict]
        changed = type(source) is not list or len(choices) != len(source)
        if changed:
            chunk["choices"] = choices
        for position, choice in enumerate(choices):
            changed = self._repair_choice(choice, position) or changed
            if type(choice.get("usage")) is dict:
                usage = choice.pop("usage")
                changed = True
                if type(chunk.get("usage")) is not dict:
                    chunk["usage"] = usage
        usage = chunk.get("usage")
        if type(usage) is dict:
            chunk["usage"] = normalize_usage(usage, hides_output=self._hides_output)
            changed = changed or chunk["usage"] is not usage
        return changed

    def _repair_choice(self, choice: dict[str, Any], position: int) -> bool:
        changed = False
        index = choice.get("index")
        if type(index) is not int or index < 0:
            index = choice["index"] = position
            changed = True
        state = self._choices.get(index)
        if state is None:
            state = self._choices[index] = _Choice()
        try:
            reason = finish_reason(choice.get("finish_reason"))
        except FailedFinishError as failed:
            raise StreamFailure(Failure("inband_error", str(failed))) from None
        finishes = reason is not None and not state.finished
        if not finishes:
            reason = None  # a choice ends once
        if reason != choice.get("finish_reason"):
            choice["finish_reason"] = reason
            changed = True
        if self._is_chat:
            changed = self._repair_delta(choice, state, finishes=finishes) or changed
        state.finished = state.finished or finishes
        return changed

    def _repair_delta(self, choice: dict[str, Any], state: _Choice, *, finishes: bool) -> bool:
        delta = choice.get("delta")
        changed = type(delta) is not dict
        if type(delta) is not dict:
            message = choice.pop("message", None)
            # Some servers end a stream with the whole message. It is new only if nothing preceded it.
            delta = message if type(message) is dict and not state.has_delta else {"content": delta} if type(delta) is str else {}
            choice["delta"] = delta
        state.has_delta = state.has_delta or bool(delta)
        changed = repair_content(delta) or changed
        if "role" in delta and delta["role"] not in ("assistant", None):
            delta["role"] = "assistant"
            changed = True
        if "tool_calls" in delta:
            changed = _repair_calls(delta, state.calls) or changed
        if finishes and (closing := state.calls.close()):
            delta["tool_calls"] = [*(delta.get("tool_calls") or ()), *closing]
            changed = True
        return changed


def _repair_calls(delta: dict[str, Any], stream: CallStream) -> bool:
    source = delta["tool_calls"]
    if source is None or source == []:
        return False
    calls = stream.feed(calls_of(source))
    if calls == source:
        return False
    if calls:
        delta["tool_calls"] = calls
    else:
        del delta["tool_calls"]
    return True


def _has_readable_choices(chunk: Any) -> bool:
    """Return whether a chunk is an object whose choices, if there are any, are objects."""
    if type(chunk) is not dict:
        return False
    choices = chunk.get("choices")
    return all(choice is None or type(choice) is dict for choice in (choices if type(choices) is list else (choices,)))


def _error_of(chunk: Any, event: str) -> Any:
    """Return the error that a chunk reports, as an object with `error`; the chunk itself if it is one. None if it reports none."""
    if type(chunk) is list:
        return chunk[0] if chunk and type(chunk[0]) is dict and chunk[0].get("error") else None
    if type(chunk) is not dict:
        return None
    if chunk.get("error") or chunk.get("object") == "error" or (event == "error" and not chunk.get("choices")):
        return chunk
    choices = chunk.get("choices")
    for choice in choices if type(choices) is list else ():
        if type(choice) is dict and choice.get("error"):
            return {"error": choice["error"]}
    if not choices and type(chunk.get("message")) is str and (chunk.get("code") or chunk.get("status_code")):
        return {"error": chunk}
    return None
