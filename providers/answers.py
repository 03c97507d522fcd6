"""Reads JSON answers in OpenAI's format, and repairs the deviations of some vendors.

An answer that needs no repair keeps its original bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from providers.base import Adjustment, Answer, AnswerShapeError, Failure, StreamFailure
from providers.chunk_errors import drop_empty_errors
from providers.finish_reasons import FailedFinishError, finish_reason, is_withheld
from providers.plain_usage import PlainUsage, read_of_inputs
from providers.tool_calls import ADOPTED_CALL, adopt_function_call, arguments_text, calls_of, repair_calls
from providers.usage import normalize_usage, read_usage

Repair = Callable[[dict[str, Any]], bool]
"""Changes a decoded answer or chunk in place. Returns True if it changed something."""

_ABSENT = msgspec.Raw(b"null")


class AnswerError(Exception):
    """The answer reports an error. `data` is the JSON of an object with `error`."""

    def __init__(self, data: bytes) -> None:
        super().__init__("the answer reports an error")
        self.data = data


_Name = Annotated[str, Meta(min_length=1)]


class _Function(msgspec.Struct):
    name: _Name
    arguments: Annotated[str, Meta(min_length=2)]


class _GoodCall(msgspec.Struct):
    id: _Name
    type: Literal["function"]
    function: _Function


class _GoodMessage(msgspec.Struct):
    content: str | None
    role: Literal["assistant"]
    tool_calls: list[_GoodCall] | None = None
    function_call: None = None
    reasoning: None = None
    reasoning_content: str | None = None


class _GoodChoice(msgspec.Struct):
    index: Annotated[int, Meta(ge=0)]
    message: _GoodMessage | None = None
    text: str | None = None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None = None
    error: None = None
    usage: None = None


class _GoodChat(msgspec.Struct):
    """An answer in OpenAI's shape. Most answers that need a repair do not decode as this type; `_read_unchanged` detects those that do."""

    id: _Name
    object: Literal["chat.completion", "text_completion"]
    created: Annotated[int, Meta(gt=0)]
    model: _Name
    choices: Annotated[list[_GoodChoice], Meta(min_length=1)]
    usage: PlainUsage | None = None
    error: None = None
    x_groq: Any = None
    service_tier: Annotated[str, Meta(max_length=40)] | None = None


class _Choice(msgspec.Struct):
    message: msgspec.Raw = _ABSENT
    text: msgspec.Raw = _ABSENT


class _Chat(msgspec.Struct):
    choices: list[_Choice]


_read_good = msgspec.json.Decoder(_GoodChat).decode
_read_chat = msgspec.json.Decoder(_Chat).decode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def read_answer(
    body: bytes, repairs: Iterable[Repair], *, may_be_empty: bool = False, hides_output: bool = False, model: str = "",
    is_legacy: bool = False,
) -> Answer:  # fmt: skip
    """Parse an answer of chat or completions. `model` is the model of an answer that does not name one.

    Without `is_legacy`, a `function_call` becomes a tool call, which is noted: a caller that sent no `functions` does not expect it.

    Raise AnswerShapeError if the answer has no choices (unless `may_be_empty`) or a choice without message and text, another ValueError
    if it is not JSON or has values of other types, AnswerError if it reports an error, and StreamFailure if a finish reason stands for
    an error.
    """
    if not repairs and (answer := _read_unchanged(body)) is not None:
        return answer
    source = _decode(body)
    _raise_error(source)
    if type(source.get("choices")) is not list:
        raise AnswerShapeError("it has no list 'choices'")
    chat = _read_chat(body)
    if not chat.choices and not may_be_empty:
        raise AnswerShapeError("its list 'choices' is empty")
    changed = False
    for at, choice in enumerate(chat.choices):
        if bytes(choice.message)[:1] != b"{" and bytes(choice.text)[:1] != b'"':
            if not is_withheld(source["choices"][at]):
                raise AnswerShapeError(f"choices[{at}] has neither an object 'message' nor a string 'text'")
            withheld = source["choices"][at]
            withheld |= {"text": ""} if "text" in withheld else {"message": {"role": "assistant", "content": None}}
            changed = True
    for repair in repairs:
        changed = repair(source) or changed
    changed = _complete(source, model) or changed
    notes: tuple[Adjustment, ...] = ()
    if not is_legacy and sum(adopt_function_call(message_of(choice)) for choice in choices_of(source)):
        changed, notes = True, (ADOPTED_CALL,)
    given = [choice.get("finish_reason") for choice in source["choices"]]
    changed = _repair_answer(source, hides_output) or changed
    reasons = tuple(choice["finish_reason"] if reason else None for choice, reason in zip(source["choices"], given, strict=True))
    return Answer(_encode(source) if changed else body, read_usage(source.get("usage"), source.get("service_tier")), reasons, notes)


def _read_unchanged(body: bytes) -> Answer | None:
    """Return an answer in OpenAI's shape with its original bytes, or None if it may need a repair."""
    try:
        chat = _read_good(body)
    except msgspec.ValidationError:
        return None
    is_chat = chat.object == "chat.completion"
    for choice in chat.choices:
        message = choice.message
        if (message is not None) != is_chat or (message is None and (choice.text is None or choice.finish_reason is None)):
            return None
        if message is not None and not message.tool_calls and choice.finish_reason in (None, "tool_calls"):
            return None
        if message is not None and message.tool_calls:
            calls = message.tool_calls
            if len({call.id for call in calls}) != len(calls) or choice.finish_reason in (None, "stop"):
                return None
    if len(chat.choices) > 1 and len({choice.index for choice in chat.choices}) != len(chat.choices):
        return None
    usage = chat.usage
    if usage is None and chat.x_groq is not None:
        return None
    if usage is not None and usage.total_tokens > usage.prompt_tokens + usage.completion_tokens:
        return None
    return Answer(body, None if usage is None else usage.read(chat.service_tier), tuple([choice.finish_reason for choice in chat.choices]))


def _raise_error(answer: dict[str, Any]) -> None:
    if answer.get("error"):
        raise AnswerError(_encode(answer))
    for choice in choices_of(answer):
        if choice.get("error"):
            raise AnswerError(_encode({"error": choice["error"]}))


def _complete(answer: dict[str, Any], model: str) -> bool:
    """Give an answer its id, object, time and model if they are missing, and remove empty errors. Return whether something changed."""
    known = dict(answer)
    emptied = drop_empty_errors(answer)
    is_chat = any("message" in choice for choice in choices_of(answer)) or not answer["choices"]
    answer["object"] = "chat.completion" if is_chat else "text_completion"
    if type(answer.get("id")) is not str or not answer["id"]:
        answer["id"] = f"{'chatcmpl' if is_chat else 'cmpl'}-{os.urandom(12).hex()}"
    if type(answer.get("created")) is not int or answer["created"] <= 0:
        answer["created"] = int(time.time())
    if type(answer.get("model")) is not str or not answer["model"]:
        answer["model"] = model
    return emptied or answer != known


def _repair_answer(answer: dict[str, Any], hides_output: bool) -> bool:
    """Convert the choices and the usage of an answer to OpenAI's shape. Return whether something changed."""
    changed = repair_finish_reasons(answer)
    choices = choices_of(answer)
    given = [choice.get("index") for choice in choices]
    numbered = all(type(index) is int and index >= 0 for index in given) and len(set(given)) == len(given)
    for position, choice in enumerate(choices):
        if not numbered:
            choice["index"] = position
            changed = True
        message = choice.get("message")
        if type(message) is not dict:
            message = {}
        elif _repair_message(message):
            changed = True
        reason = "tool_calls" if message.get("tool_calls") else "function_call" if message.get("function_call") else "stop"
        said = choice.get("finish_reason")
        if said is None or (said in ("stop", "tool_calls", "function_call") and reason not in ("function_call", said)):
            choice["finish_reason"] = reason
            changed = True
        if type(choice.get("usage")) is dict:
            usage = choice.pop("usage")
            answer["usage"] = answer.get("usage") or usage
            changed = True
    extra = answer.get("x_groq")
    if type(extra) is dict and type(extra.get("usage")) is dict and type(answer.get("usage")) is not dict:
        answer["usage"] = extra["usage"]
        changed = True
    usage = answer.get("usage")
    if type(usage) is dict:
        answer["usage"] = normalize_usage(usage, hides_output=hides_output)
        changed = changed or answer["usage"] is not usage
        if not usage:
            del answer["usage"]
            changed = True
    return changed


def _repair_message(message: dict[str, Any]) -> bool:
    changed = repair_content(message)
    if "content" not in message or message.get("role") != "assistant":
        message |= {"role": "assistant", "content": message.get("content")}
        changed = True
    call = message.get("function_call")
    if type(call) is dict and not call.get("arguments"):
        call["arguments"] = "{}"
        changed = True
    calls = message.get("tool_calls")
    if calls is not None and calls != []:
        repaired = repair_calls(calls_of(calls))
        if repaired != calls:
            changed = True
            if repaired:
                message["tool_calls"] = repaired
            else:
                del message["tool_calls"]
    return changed


def repair_content(message: dict[str, Any]) -> bool:
    """Convert the content of a message or delta to text or null, and the arguments of a function call to text.

    Copy reasoning from `reasoning`, the field of some vendors, to `reasoning_content`. Return whether something changed.
    """
    changed = False
    thinking = message.get("reasoning_content")
    if thinking is not None and type(thinking) is not str:
        message["reasoning_content"] = "".join(text or "" for text in text_of_content(thinking))
        changed = True
    reasoning = message.get("reasoning")
    if type(reasoning) is str and reasoning and not message.get("reasoning_content"):
        message["reasoning_content"] = reasoning
        changed = True
    content = message.get("content")
    if content is not None and type(content) is not str:
        message["content"], thought = text_of_content(content)
        if thought:
            message["reasoning_content"] = (message.get("reasoning_content") or "") + thought
        changed = True
    call = message.get("function_call")
    if call == {}:
        del message["function_call"]
        changed = True
    elif type(call) is dict and type(call.get("arguments", "")) is not str:
        call["arguments"] = arguments_text(call["arguments"])
        changed = True
    return changed


def repair_finish_reasons(answer: dict[str, Any]) -> bool:
    """Replace finish reasons with OpenAI's, and return whether one changed. Raise StreamFailure for a reason that stands for a failure."""
    changed = False
    for choice in choices_of(answer):
        reason = choice.get("finish_reason")
        try:
            known = finish_reason(reason)
        except FailedFinishError as failed:
            raise StreamFailure(Failure("inband_error", str(failed))) from None
        if known != reason:
            choice["finish_reason"] = known
            changed = True
    return changed


def choices_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the choices that are objects."""
    choices = answer.get("choices")
    return [choice for choice in choices if type(choice) is dict] if type(choices) is list else []


def message_of(choice: dict[str, Any]) -> dict[str, Any]:
    """Return the message of an answer's choice or the delta of a chunk's choice, or {} if there is neither."""
    message = choice.get("message") or choice.get("delta")
    return message if type(message) is dict else {}


def text_of_content(content: Any) -> tuple[str | None, str]:
    """Return the text and the thinking of content that is not a string: a list of parts, one part, or a number."""
    if type(content) in (list, dict):
        return _texts(content if type(content) is list else [content])
    return (None if type(content) is bool else str(content)), ""


def _texts(parts: list[Any]) -> tuple[str, str]:
    text, thought = "", ""
    for part in parts:
        if type(part) is str:
            text += part
        elif type(part) is dict and part.get("type") == "thinking":
            inner = part.get("thinking")
            thought += inner if type(inner) is str else _texts(inner)[0] if type(inner) is list else ""
        elif type(part) is dict:
            text += part["text"] if type(part.get("text")) is str else ""
    return text, thought


class _Embeddings(msgspec.Struct):
    data: list[msgspec.Raw] | None = None
    usage: Any = None


_decode_embeddings = msgspec.json.Decoder(_Embeddings).decode


def read_embeddings(body: bytes) -> Answer:
    """Parse an embeddings answer: an object with `data`. Raise ValueError, such as AnswerShapeError, otherwise.

    The vectors are not decoded.
    """
    answer = _decode_embeddings(body)
    if answer.data is None:
        raise AnswerShapeError("it has no list 'data'")
    return Answer(body, read_of_inputs(answer.usage))


def read_logits(body: bytes) -> Answer:
    """Parse an answer with next-token values: `logits` maps a token to a number. Raise ValueError otherwise."""
    answer = _decode(body)
    if type(answer.get("logits")) is not dict:
        raise AnswerShapeError("it has no object 'logits'")
    return Answer(body, read_usage(answer.get("usage")))
