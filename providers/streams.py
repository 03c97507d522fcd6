"""`ChunkNormalizer`: the stream decoder of every provider with OpenAI's wire format. docs/streams.md lists its guarantees."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from providers.answers import Repair, repair_content
from providers.base import CHOICES, Failure, StreamDecoder, StreamFailure, add_note
from providers.chunk_errors import drop_empty_errors, error_of, has_readable_choices
from providers.chunk_templates import ChunkTemplates
from providers.clean_chunks import CHAT_CHUNKS, TEXT_CHUNKS, CleanChunk, CleanReader, CleanTextChunk, frame_of, with_role
from providers.failures import read_failure
from providers.finish_reasons import FailedFinishError, finish_reason
from providers.rules.legacy_functions import ONLY_FUNCTIONS
from providers.stream_choices import SURPLUS, StreamChoice
from providers.tool_calls import ADOPTED_CALL
from providers.usage import normalize_usage, read_usage

_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

_OBJECTS = {"chat": "chat.completion.chunk", "completions": "text_completion"}
_MAX_HELD_CHUNKS = 16


class ChunkNormalizer(StreamDecoder):
    """Converts an upstream's chunks to OpenAI's shape. A chunk that already has this shape keeps its bytes."""

    def __init__(
        self,
        repairs: tuple[Repair, ...] = (),
        *,
        operation: str = "chat",
        model: str = "",
        hides_output: bool = False,
        memo: dict[str, Any] | None = None,
    ) -> None:
        """`repairs` are the vendor's own repairs. `hides_output` is explained in `normalize_usage`. `memo` is `Options.memo`."""
        self._memo = {ONLY_FUNCTIONS: True} if memo is None else memo
        self._most = self._memo.get(CHOICES)
        self._has_surplus = False
        """Whether the newest decoded chunk had a choice beyond the requested ones, which is left out."""
        self._repairs = repairs
        self._is_chat = operation != "completions"
        self._object = _OBJECTS["chat" if self._is_chat else "completions"]
        self._model = model
        self._hides_output = hides_output
        self._identity: dict[str, Any] = {}
        self._held: list[dict[str, Any]] = []
        """Chunks without choices that arrived before the id of the stream was known, such as Azure's first chunk."""
        self._choices: dict[int, StreamChoice] = {}
        self._templates = ChunkTemplates(any_values=not repairs)
        self._is_clean = not repairs
        """Whether every chunk so far was clean."""
        self._clean: CleanReader[CleanChunk] | CleanReader[CleanTextChunk] = CHAT_CHUNKS if self._is_chat else TEXT_CHUNKS
        self._clean_frame: tuple[bytes, bytes] | None = None

    @property
    def frame(self) -> tuple[bytes, bytes] | None:
        """The bytes before and after the text in the latest events, if such events need no change."""
        return self._clean_frame if self._is_clean else self._templates.frame

    def convert(self, events: bytes) -> bytes | None:
        """Return the result of `feed`, without usage, or None if an event must be fed, such as one that begins or ends a choice."""
        if not self._is_clean:
            known = self._templates.convert(events)
            return self._decode_each(events) if known is None and self._templates.gave_up else known
        chunks = self._clean.read_events(events)
        return events if chunks is not None and self._has_text_alone(chunks) else None

    def _decode_each(self, events: bytes) -> bytes | None:
        """Convert each event by itself. If an event is more than a piece of text, return None and record nothing."""
        sent = []
        for event in events[:-2].split(b"\n\n"):
            if event[:6] != b"data: " or event.find(b"\n") >= 0:
                return None
            try:
                chunk = _decode_any(event[6:])
                if not self._is_text(chunk):
                    return None
                for repair in self._repairs:
                    repair(chunk)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, StreamFailure):
                return None
            for choice in chunk["choices"]:
                if self._is_chat:
                    choice["delta"].pop("role", None)
                    repair_content(choice["delta"])
            chunk |= self._identity
            sent.append(b"data: " + _encode(chunk) + b"\n\n")
        return b"".join(sent)

    def _is_text(self, chunk: Any) -> bool:
        """Return whether a chunk has only text, for choices that have begun but not ended."""
        if type(chunk) is not dict or chunk.get("error") is not None or chunk.get("usage") is not None or chunk.get("object") == "error":
            return False
        choices = chunk.get("choices")
        if type(choices) is not list or not choices:
            return False
        for choice in choices:
            if type(choice) is not dict or type(choice.get("index")) is not int:
                return False
            state = self._choices.get(choice["index"])
            if state is None or any(choice.get(name) is not None for name in ("finish_reason", "error", "usage")):
                return False
            if self._is_chat and not state.goes_on(choice.get("delta")):
                return False
        return True

    def take_usage(self) -> bytes | None:
        """Return the newest chunk whose usage `convert` left out, in OpenAI's shape and without choices."""
        data = self._templates.take_usage()
        if data is None:
            return None
        chunk = _decode_any(data)
        usages = (chunk.get("usage"), *[choice.get("usage") for choice in chunk["choices"]])
        usage = next(usage for usage in usages if type(usage) is dict)
        chunk |= {"choices": [], "usage": normalize_usage(usage, hides_output=self._hides_output)}
        self._share_identity(chunk)
        return _encode(chunk)

    def _has_text_alone(self, chunks: Sequence[CleanChunk | CleanTextChunk]) -> bool:
        """Return whether clean chunks have only text, for choices that have begun."""
        if not self._identity:
            return False
        id, created, model = self._identity["id"], self._identity["created"], self._identity["model"]
        for chunk in chunks:
            if chunk.id != id or chunk.model != model or chunk.created != created or chunk.usage is not None or not chunk.choices:
                return False
            choice = chunk.choices[0]
            if choice.has_role or choice.finish_reason is not None or choice.index not in self._choices:
                return False
        return True

    def _is_same_stream(self, chunk: CleanChunk | CleanTextChunk) -> bool:
        known = self._identity
        return chunk.id == known.get("id") and chunk.model == known["model"] and chunk.created == known["created"]

    def _pass_clean(self, data: bytes) -> bytes | None:
        """Record and return a chunk that needs at most a role. Return None for any other chunk."""
        given, chunk = data, self._clean.read(data)
        if chunk is None or self._held or (self._identity and not self._is_same_stream(chunk)):
            return None
        if chunk.usage is not None and (self._hides_output or not chunk.usage.is_complete):
            return None
        if chunk.choices:
            if chunk.usage is not None and chunk.choices[0].finish_reason is None:
                return None  # templates leave out a usage that every chunk has
            choice = chunk.choices[0]
            state = self._choices.get(choice.index)
            if state is None:
                if self._most is not None and choice.index >= self._most:
                    return None
                state = self._choices[choice.index] = StreamChoice()
            has_role, finishes = choice.has_role, choice.finish_reason is not None
            if (state.has_role and has_role) or (state.finished and finishes):
                return None
            if self._is_chat and not state.has_role and not has_role:
                data = with_role(data)
            state.has_role = True
            state.finished = state.finished or finishes
            state.has_delta = True
            if not has_role and not finishes and chunk.usage is None:
                self._clean_frame = frame_of(given, chunk)
        if not self._identity:
            self._identity = {name: getattr(chunk, name) for name in ("id", "object", "created", "model")}
        return data

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """Return the chunk in OpenAI's shape, after the chunks that were held. Return nothing if this chunk is held.

        Raise StreamFailure for an error with a status of its own and for a finish reason that stands for a failure, and
        ValueError for data that is not JSON.
        """
        if self._is_clean and not event:
            if (passed := self._pass_clean(data)) is not None:
                return (passed,)
            self._is_clean = False
        if not event and (known := self._templates.convert(b"data: " + data + b"\n\n", hide_usage=False)) is not None:
            return (known[6:-2],)
        chunk = _decode_any(data)
        error = error_of(chunk, event)
        if error is not None:
            if type(chunk) is dict and type(chunk.get("status_code")) is int:
                raise StreamFailure(read_failure(chunk["status_code"], {}, data))
            return (data,) if error is chunk else (_encode(error),)
        if not has_readable_choices(chunk):
            return (data,)  # rejected later
        changed = drop_empty_errors(chunk)
        has_own_repairs = False
        for repair in self._repairs:
            has_own_repairs = repair(chunk) or has_own_repairs
        changed = self._shape(chunk) or has_own_repairs or changed
        if (self._has_surplus and not chunk["choices"] and not chunk.get("usage")) or not self._identify(chunk):
            return ()
        changed = self._share_identity(chunk) or changed
        held, self._held = self._held, []
        for earlier in held:
            self._share_identity(earlier)
        sent = _encode(chunk) if changed else data
        if type(chunk.get("usage")) is dict and read_usage(chunk["usage"]) is not None:
            self._templates.take_usage()  # the usage in the templates is older
        if not self._templates.gives_up(len(self._choices)):
            if has_own_repairs or self._has_surplus:
                self._templates.miss()
            elif not self._templates.would_hide_usage(data):
                self._learn(data, sent, chunk)
        return (*(_encode(earlier) for earlier in held), sent)

    def end(self) -> Sequence[bytes]:
        """Return nothing: chunks that are still held have no content."""
        return ()

    def _learn(self, data: bytes, sent: bytes, chunk: dict[str, Any]) -> None:
        """Remember how a chunk was sent, for later chunks like it, unless the chunk begins or ends a choice or a call."""
        call_texts: dict[tuple[int, int], list[str]] = {}
        for position, choice in enumerate(chunk["choices"]):
            delta = choice.get("delta")
            if choice.get("finish_reason") is not None or (delta and "role" in delta):
                return
            for number, call in enumerate((delta and delta.get("tool_calls")) or ()):
                if "id" in call or "name" in (call.get("function") or call.get("custom")):
                    return
                call_texts[position, number] = self._choices[choice["index"]].calls.arguments_of(call["index"])
        names_calls = bool(call_texts) and b'"name"' in data
        if not chunk["choices"] or (names_calls and not all("".join(text).startswith("{") for text in call_texts.values())):
            return
        if type(chunk.get("usage")) is dict:
            sent = _encode({name: value for name, value in chunk.items() if name != "usage"})
        self._templates.learn(data, sent, call_texts, names_calls=names_calls)

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
            "id": chunk["id"] if known else f"{'chatcmpl' if self._is_chat else 'cmpl'}-{os.urandom(12).hex()}",
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
        self._has_surplus = False
        if changed:
            chunk["choices"] = choices
        for position, choice in enumerate(choices):
            changed = self._repair_choice(choice, position) or changed
            if type(choice.get("usage")) is dict:
                usage = choice.pop("usage")
                changed = True
                if type(chunk.get("usage")) is not dict:
                    chunk["usage"] = usage
        if self._has_surplus:
            chunk["choices"] = [choice for choice in choices if choice["index"] in self._choices]
            add_note(self._memo, SURPLUS)
        extra = chunk.get("x_groq")
        if type(extra) is dict and type(extra.get("usage")) is dict and type(chunk.get("usage")) is not dict:
            chunk["usage"] = extra["usage"]  # also from a proxy in front of Groq
            changed = True
        usage = chunk.get("usage")
        if type(usage) is dict:
            chunk["usage"] = normalize_usage(usage, hides_output=self._hides_output)
            changed = changed or chunk["usage"] is not usage
            if read_usage(usage) is None:  # such as {}; it would stand before the usage that is shown last
                del chunk["usage"]
                changed = True
        return changed

    def _repair_choice(self, choice: dict[str, Any], position: int) -> bool:
        changed = False
        index = choice.get("index")
        if type(index) is not int or index < 0:
            index = choice["index"] = position
            changed = True
        state = self._choices.get(index)
        if state is None:
            if self._most is not None and index >= self._most:
                self._has_surplus = True
                return True
            state = self._choices[index] = StreamChoice()
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

    def _repair_delta(self, choice: dict[str, Any], state: StreamChoice, *, finishes: bool) -> bool:
        delta = choice.get("delta")
        changed = type(delta) is not dict
        if type(delta) is not dict:
            message, text = choice.pop("message", None), choice.pop("text", None)
            if type(text) is str:
                delta = text  # some servers send the chunks of text completions
            # Some servers end a stream with the whole message. Such a message is new only if nothing preceded it.
            delta = message if type(message) is dict and not state.has_delta else {"content": delta} if type(delta) is str else {}
            choice["delta"] = delta
        state.has_delta = state.has_delta or bool(delta)
        changed = repair_content(delta) or changed
        changed = state.repair_role(delta) or changed
        if delta.get("function_call") and ONLY_FUNCTIONS not in self._memo and state.adopt_function_call(delta):
            add_note(self._memo, ADOPTED_CALL)
            changed = True
        if "tool_calls" in delta:
            known = state.calls.count
            changed = state.repair_calls(delta) or changed
            if state.calls.count != known:
                self._templates.forget_calls()
        if finishes and (closing := state.calls.close()):
            delta["tool_calls"] = [*(delta.get("tool_calls") or ()), *closing]
            changed = True
        state.has_function_call = state.has_function_call or bool(delta.get("function_call"))
        if finishes and not state.has_function_call and choice["finish_reason"] in ("stop", "tool_calls", "function_call"):
            reason = "tool_calls" if state.calls.has_sent else "stop"
            changed = changed or reason != choice["finish_reason"]
            choice["finish_reason"] = reason
        return changed
