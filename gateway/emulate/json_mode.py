"""JSON mode with the same meaning on every provider: requested by an instruction if necessary, and validated.

instructed   the provider's rules dropped or downgraded response_format: a system message requests JSON, and the answer is validated
cut          more than 512 blank characters in a row end an answer (models in JSON mode may write white space until the limit)
flagged      JSON that the output limit cut off, or an invalid answer, is returned as it is, with a warning
unfenced     the code fence around the answer to an instructed request is removed
repaired     with `json_repair: true`, one more request names the error; streams are not repaired, because they have already been sent

This module does no I/O. It is used only for calls with response_format.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.emulate.fences import FenceRemover, without_fence
from gateway.emulate.json_schema import Schema
from gateway.streams.chunk_filter import ChunkFilter
from providers.base import Adjustment, Body, Options, StreamDecoder, Target
from providers.rules.schema_descriptions import described_schema

MAX_BLANKS = 512
PARAM = "response_format"
CUT_OFF = "the JSON is cut off by the output limit"
UNFENCED = "the code fence around the answer was removed"
RUNAWAY = f"cut after {MAX_BLANKS} blank characters in a row"

_BLANK = " \t\r\n"
_RUNAWAY = re.compile(rf"[{_BLANK}]{{{MAX_BLANKS}}}(?=[{_BLANK}])")
_PLACE = re.compile(r"^messages\[(\d+)\]")
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class JsonFormat(msgspec.Struct, frozen=True, dict=True):
    """The JSON that the caller requests: any object, or a value that matches a schema."""

    schema: Any = None

    def find_error(self, text: str) -> str | None:
        """Return the reason why `text` is not the requested JSON, or None."""
        try:
            value = _decode_any(text)
        except (msgspec.DecodeError, RecursionError):
            return "it is not JSON"
        if self.schema is not None:
            return self.compiled().find_error(value)
        return None if type(value) is dict else "it is not a JSON object"

    def compiled(self) -> Schema:
        """Return the compiled schema."""
        compiled: Schema | None = self.__dict__.get("compiled schema")
        if compiled is None:
            compiled = self.__dict__["compiled schema"] = Schema(self.schema)
        return compiled

    def instruction(self) -> str:
        """Return the instruction that requests the JSON from a model."""
        start = "Answer with one valid JSON object and nothing else: no explanation, no code fence."
        if self.schema is None:
            return start
        schema = _encode(self.schema).decode()
        return f"Answer with JSON that is valid against this JSON Schema, and nothing else: no explanation, no code fence.\n{schema}"


def read_format(body: Body) -> JsonFormat | None:
    """Return the format that response_format requests, if it is JSON."""
    value = body.get(PARAM)
    kind = value.get("type") if type(value) is dict else None
    if kind == "json_object":
        return JsonFormat()
    if kind == "json_schema":
        return JsonFormat(described_schema(value["json_schema"]))
    return None


def adapt(body: Body, target: Target, options: Options, *, may_repair: bool = False) -> tuple[Body, list[Adjustment], JsonValidator | None]:
    """Apply the provider's rules.

    Return the body, its adjustments and the validator of the answer (None without JSON mode). Raise Refusal if the rules refuse the body.
    """
    kind = target.kind
    asked = read_format(body) if PARAM in body and options.operation == "chat" else None
    if asked is None:
        return body, kind.adapt(body, target, options), None
    given = body.copy()
    adjustments = kind.adapt(body, target, options)
    lost = any(one.param == PARAM and one.action in ("drop", "downgrade") for one in adjustments)
    if lost and not given.get("tools"):
        body = given.copy()
        note = _instruct(body, asked)
        is_longer = len(body.get("messages")) > len(given.get("messages"))
        adjustments = kind.adapt(body, target, options)
        adjustments = [note, *(map(_without_instruction, adjustments) if is_longer else adjustments)]
        return body, adjustments, JsonValidator(asked, given, is_checked=True, may_repair=may_repair, removes_fence=True)
    checked = (may_repair and not lost) or any(item.param == PARAM and item.action == "enforce_locally" for item in adjustments)
    return body, adjustments, JsonValidator(asked, given, is_checked=checked, may_repair=may_repair)


def _instruct(body: Body, asked: JsonFormat) -> Adjustment:
    """Request JSON in the leading system message, or in a new one. Return the adjustment."""
    messages = body.get("messages")
    first = messages[0] if messages else {}
    if first.get("role") in ("system", "developer") and type(first.get("content")) is str:
        joined = {**first, "content": f"{first['content']}\n\n{asked.instruction()}"}
        body.set("messages", [joined, *messages[1:]])
    else:
        body.set("messages", [{"role": "system", "content": asked.instruction()}, *messages])
    why = "an instruction requests JSON, because response_format is not honoured upstream; the answer is checked"
    return Adjustment("messages[0]", "set_default", why=why)


def _without_instruction(adjustment: Adjustment) -> Adjustment:
    """Return an adjustment with the caller's message number: one less, because an instruction precedes the messages."""
    param, to = (_PLACE.sub(_lowered, text) if type(text) is str else text for text in (adjustment.param, adjustment.to))
    return msgspec.structs.replace(adjustment, param=param, to=to)


def _lowered(place: re.Match[str]) -> str:
    return f"messages[{max(0, int(place[1]) - 1)}]"


class JsonValidator:
    """Validates the answers of one call in JSON mode."""

    def __init__(
        self, format: JsonFormat, original: Body, *, is_checked: bool, may_repair: bool, removes_fence: bool = False
    ) -> None:
        """`original` is the body before the provider's rules. If `is_checked` is False, answers are not compared with the format."""
        self.format = format
        self.removes_fence = removes_fence
        self.may_repair = may_repair
        self._given = original
        self._checked = is_checked
        self.error: str | None = None
        """The error of the last answer checked, if a repair could help."""
        self.notes: list[Adjustment] = []
        """The notes on the last answer checked."""

    def check_text(self, text: str, finish: str | None) -> Adjustment | None:
        """Return a note on the text of one choice, or None if the text needs no note."""
        if finish == "length":
            return _warn(CUT_OFF)
        if self._checked and finish == "stop":
            problem = None if self.format.schema is None else self.format.compiled().problem
            if problem is not None:
                return _warn(f"the answer is not checked, because the schema is not valid: {problem}")
            self.error = self.format.find_error(text)
            return _warn(f"the answer is not the requested JSON: {self.error}") if self.error else None
        return None

    def check_answer(self, answer: bytes) -> tuple[bytes, list[Adjustment]]:
        """Return an answer without its code fence, cut at runaway white space, and the notes on it."""
        self.error = None
        decoded = _decode(answer)
        notes: list[Adjustment] = []
        changed = False
        for choice in decoded.get("choices") or ():
            content = (choice.get("message") or {}).get("content")
            if type(content) is not str or choice["message"].get("tool_calls"):
                continue
            inner = without_fence(content) if self.removes_fence else None
            if inner is not None:
                content = choice["message"]["content"] = inner
                changed = True
                notes += [] if _UNFENCED in notes else [_UNFENCED]
            runaway = _RUNAWAY.search(content)
            if runaway is not None:
                choice["message"]["content"] = content[: runaway.end()]
                choice["finish_reason"] = "length"
                changed = True
            note = _warn(RUNAWAY) if runaway else self.check_text(content, choice.get("finish_reason"))
            notes += [note] if note is not None and note not in notes else []
        self.notes = notes
        return (_encode(decoded) if changed else answer), notes

    def repair_request(self, answer: bytes) -> Body:
        """Return the caller's request, followed by the invalid answer and its error."""
        said = _decode(answer)["choices"][0]["message"]["content"]
        wrong = f"That was not valid: {self.error}. {self.format.instruction()}"
        body = self._given.copy()
        _instruct(body, self.format)
        messages = body.get("messages")
        body.set("messages", [*messages, {"role": "assistant", "content": said}, {"role": "user", "content": wrong}])
        return body


def _warn(why: str) -> Adjustment:
    return Adjustment(PARAM, "warn", why=why)


_UNFENCED = Adjustment(PARAM, "reshape", why=UNFENCED)


class _ChoiceText:
    """The text of one choice so far."""

    __slots__ = ("blanks", "fence", "finish", "is_over", "pieces")

    def __init__(self, *, removes_fence: bool) -> None:
        self.fence = FenceRemover() if removes_fence else None
        self.pieces: list[str] = []
        self.blanks = 0
        self.finish: str | None = None
        self.is_over = False

    def feed(self, text: str) -> str:
        """Return the part of `text` to show: all of it, or the part up to the permitted number of blanks in a row."""
        size = len(text) - len(text.lstrip(_BLANK))
        if self.blanks + size > MAX_BLANKS:
            self.is_over = True
            return text[: MAX_BLANKS - self.blanks]
        runaway = _RUNAWAY.search(text)
        if runaway is not None:
            self.is_over = True
            return text[: runaway.end()]
        self.blanks = self.blanks + size if size == len(text) else len(text) - len(text.rstrip(_BLANK))
        return text


class JsonStream(ChunkFilter):
    """A stream decoder that validates an answer in JSON mode, after `inner` (if any) has converted the events to OpenAI chunks."""

    def __init__(self, inner: StreamDecoder | None, watch: JsonValidator, choices: int) -> None:
        super().__init__(inner)
        self._watch = watch
        self._choices = choices
        self._texts: dict[int, _ChoiceText] = {}
        self._ended = False

    def notes(self) -> list[Adjustment]:
        """Return the notes on the complete answer."""
        found = [_UNFENCED] if any(text.fence is not None and text.fence.is_removed for text in self._texts.values()) else []
        for text in self._texts.values():
            note = _warn(RUNAWAY) if text.is_over else self._watch.check_text("".join(text.pieces), text.finish)
            found += [note] if note is not None and note not in found else []
        return found

    def _pass(self, data: bytes) -> Sequence[bytes]:
        if self._ended:
            return ()
        if data == b"[DONE]":
            return (data,)
        chunk = _decode(data)
        choices = chunk.get("choices")
        if not choices or chunk.get("error"):
            return (data,)
        left = [choice for choice in choices if not self._text(choice).is_over]
        changed = len(left) < len(choices)
        for choice in left:
            changed = self._read(choice) or changed
        out = [(_encode({**chunk, "choices": left}) if changed else data)] if left else []
        if sum(text.is_over for text in self._texts.values()) >= self._choices:
            self._ended = True
            out.append(b"[DONE]")
        return out

    def _text(self, choice: dict[str, Any]) -> _ChoiceText:
        text = self._texts.get(choice.get("index", 0))
        if text is None:
            text = self._texts[choice.get("index", 0)] = _ChoiceText(removes_fence=self._watch.removes_fence)
        return text

    def _read(self, choice: dict[str, Any]) -> bool:
        """Add the text of one choice. Return whether the choice had to be changed."""
        text = self._text(choice)
        delta = choice.get("delta") or {}
        content = delta.get("content")
        if delta.get("tool_calls"):
            text.finish = "tool_calls"
            return False
        given = content if type(content) is str else ""
        unfenced = given if text.fence is None else _without_fence(text.fence, given, choice)
        shown = text.feed(unfenced) if unfenced else ""
        text.pieces.append(shown)
        if text.is_over:
            delta["content"] = shown
            choice["finish_reason"] = "length"
            return True
        text.finish = choice.get("finish_reason") or text.finish
        if unfenced == given:
            return False
        choice["delta"] = {**delta, "content": unfenced}
        return True


def _without_fence(fence: FenceRemover, text: str, choice: dict[str, Any]) -> str:
    """Return the text to show for a piece of a choice, and all text that is still held if the choice is finished."""
    shown = fence.feed(text) if text else ""
    return shown + fence.finish() if choice.get("finish_reason") else shown
