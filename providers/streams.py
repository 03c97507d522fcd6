"""`ChunkNormalizer`: the stream decoder of every provider with OpenAI's wire format. docs/streams.md lists its guarantees."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from providers.answers import Repair, repair_content
from providers.base import Failure, StreamDecoder, StreamFailure
from providers.chunk_templates import ChunkTemplates
from providers.clean_chunks import CleanChunk, frame_of, read_clean, read_clean_events
from providers.failures import read_failure
from providers.finish_reasons import FailedFinishError, finish_reason
from providers.tool_calls import CallStream, calls_of
from providers.usage import normalize_usage

_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

_OBJECTS = {"chat": "chat.completion.chunk", "completions": "text_completion"}
_TEXT_FIELDS = ("content", "reasoning_content", "reasoning", "refusal")
_MAX_HELD_CHUNKS = 16


class _Choice:
    """The state of one choice of a stream."""

    __slots__ = ("calls", "finished", "has_delta", "has_role")

    def __init__(self) -> None:
        self.calls = CallStream()
        self.finished = False
        self.has_delta = False
        self.has_role = False


class ChunkNormalizer(StreamDecoder):
    """Converts an upstream's chunks to OpenAI's shape. A chunk that already has this shape keeps its bytes."""

    def __init__(
        self,
        repairs: tuple[Repair, ...] = (),
        *,
        operation: str = "chat",
        model: str = "",
        hides_output: bool = False,
    ) -> None:
        """`repairs` are the vendor's own. `hides_output` is explained in `normalize_usage`."""
        self._repairs = repairs
        self._is_chat = operation != "completions"
        self._object = _OBJECTS["chat" if self._is_chat else "completions"]
        self._model = model
        self._hides_output = hides_output
        self._identity: dict[str, Any] = {}
        self._held: list[dict[str, Any]] = []
        """Chunks without choices that arrived before the id of the stream was known, such as Azure's first chunk."""
        self._choices: dict[int, _Choice] = {}
        self._templates = ChunkTemplates()
        self._is_clean = self._is_chat and not repairs
        """Whether every chunk so far was clean."""
        self._clean_frame: tuple[bytes, bytes] | None = None

    @property
    def frame(self) -> tuple[bytes, bytes] | None:
        """The bytes before and after the text in the latest events, if such events need no change."""
        return self._clean_frame if self._is_clean else self._templates.frame

    def convert(self, events: bytes) -> bytes | None:
        """Return what `feed` would return for these events if they differ from earlier ones in text alone, otherwise None."""
        if not self._is_clean:
            return self._templates.convert(events)
        chunks = read_clean_events(events)
        return events if chunks is not None and self._has_text_alone(chunks) else None

    def _has_text_alone(self, chunks: list[CleanChunk]) -> bool:
        """Return whether clean chunks have only text, for choices that have begun."""
        if not self._identity:
            return False
        id, created, model = self._identity["id"], self._identity["created"], self._identity["model"]
        for chunk in chunks:
            if chunk.id != id or chunk.model != model or chunk.created != created or chunk.usage is not None or not chunk.choices:
                return False
            choice = chunk.choices[0]
            if choice.delta.role is not UNSET or choice.finish_reason is not None or choice.index not in self._choices:
                return False
        return True

    def _is_same_stream(self, chunk: CleanChunk) -> bool:
        known = self._identity
        return chunk.id == known.get("id") and chunk.model == known["model"] and chunk.created == known["created"]

    def _pass_clean(self, data: bytes) -> bool:
        """Return whether a chunk needs no change, and record it if so."""
        chunk = read_clean(data)
        if chunk is None or self._held or (self._identity and not self._is_same_stream(chunk)):
            return False
        if chunk.usage is not None and (self._hides_output or not chunk.usage.is_complete):
            return False
        if chunk.choices:
            choice, delta = chunk.choices[0], chunk.choices[0].delta
            state = self._choices.setdefault(choice.index, _Choice())
            has_role, finishes = delta.role is not UNSET, choice.finish_reason is not None
            if (state.has_role and has_role) or (state.finished and finishes):
                return False
            state.has_role = state.has_role or has_role
            state.finished = state.finished or finishes
            state.has_delta = True
            if not has_role and not finishes and chunk.usage is None:
                self._clean_frame = frame_of(data, chunk)
        if not self._identity:
            self._identity = {name: getattr(chunk, name) for name in ("id", "object", "created", "model")}
        return True

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """Return the chunk in OpenAI's shape. Raises StreamFailure for an error with a status of its own."""
        if self._is_clean and not event:
            if self._pass_clean(data):
                return (data,)
            self._is_clean = False
        if not event and (known := self._templates.convert(b"data: " + data + b"\n\n")) is not None:
            return (known[6:-2],)
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
        has_own_repairs = False
        for repair in self._repairs:
            has_own_repairs = repair(chunk) or has_own_repairs
        changed = self._shape(chunk) or has_own_repairs
        if not self._identify(chunk):
            return ()
        changed = self._share_identity(chunk) or changed
        held, self._held = self._held, []
        for earlier in held:
            self._share_identity(earlier)
        sent = _encode(chunk) if changed else data
        if not has_own_repairs:
            self._learn(data, sent, chunk)
        return (*(_encode(earlier) for earlier in held), sent)

    def end(self) -> Sequence[bytes]:
        """Return nothing: chunks that are still held have no content."""
        return ()

    def _learn(self, data: bytes, sent: bytes, chunk: dict[str, Any]) -> None:
        """Remember a chunk if later ones of the same kind differ from it in text alone."""
        if len(chunk["choices"]) != 1 or chunk.get("usage"):
            return
        choice = chunk["choices"][0]
        if choice.get("finish_reason") is not None:
            return
        if not self._is_chat:
            if type(choice.get("text")) is str and choice["text"]:
                self._templates.learn(data, sent, choice["text"])
            return
        delta = choice["delta"]
        if "role" in delta:
            return  # the next role is removed
        texts = [delta[name] for name in _TEXT_FIELDS if delta.get(name)]
        calls = delta.get("tool_calls")
        if calls:
            call = calls[0]
            if len(calls) == 1 and not texts and "id" not in call and call.get("function", {}).get("arguments"):
                arguments = self._choices[choice["index"]].calls.arguments_of(call["index"])
                self._templates.learn(data, sent, call["function"]["arguments"], arguments)
        elif len(texts) == 1 and type(texts[0]) is str and "function_call" not in delta:
            self._templates.learn(data, sent, texts[0])

    def _identify(self, chunk: dict[str, Any]) -> bool:
        """Find the id of the stream. Return False if the chunk is held until the id is known."""
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
        if "role" in delta:
            changed = _repair_role(delta, state) or changed
        if "tool_calls" in delta:
            known = state.calls.count
            changed = _repair_calls(delta, state.calls) or changed
            if state.calls.count != known:
                self._templates.forget_calls()
        if finishes and (closing := state.calls.close()):
            delta["tool_calls"] = [*(delta.get("tool_calls") or ()), *closing]
            changed = True
        return changed


def _repair_role(delta: dict[str, Any], state: _Choice) -> bool:
    """Make the role `assistant`, and remove it after the first time: the `openai` package joins roles like other texts."""
    if state.has_role:
        del delta["role"]
        return True
    state.has_role = True
    changed: bool = delta["role"] != "assistant"
    delta["role"] = "assistant"
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
    """Return an object with the error that a chunk reports (the chunk itself if possible), or None if it reports no error."""
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
