"""OpenAI's legacy completions for callers: checks of requests, and answers of chat providers as text completions.

Providers that offer completions get the request as it is; for providers that have only chat, `gateway.emulate.completions`
converts the request to a chat. Answers are converted by their shape, so a call may fall back from a provider with
completions to one with chat only, and the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.dialects.described import described
from gateway.dialects.embeddings import check_inputs, schema_of_inputs
from gateway.dialects.field_checks import check_fields
from gateway.dialects.parameters import CHECKS, MAX_LOGPROBS, MAX_TOKENS, integer
from gateway.errors import refuse
from gateway.streams.chunk_filter import ChunkFilter
from providers.base import Body, Operation, StreamDecoder

MAX_BEST_OF = 20
MAX_PROMPTS = 128
_TYPE = "invalid_type"
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class CompletionsApi:
    """POST /completions."""

    operation: Operation = "completions"
    has_messages = False
    can_continue = False
    native = None

    def __init__(self, paths: tuple[str, ...]) -> None:
        self.paths = paths

    def check(self, body: Body) -> None:
        """Check the parameters of a completion."""
        check_completions(body)

    def translator(self) -> None:
        """Return None: the request is not translated before a target is chosen."""

    def response(self, answer: bytes) -> bytes:
        """Return the answer as a text completion. An answer that is already a text completion stays as it is."""
        return to_text_completion(answer)

    def stream(self, inner: StreamDecoder | None) -> StreamDecoder | None:
        """Return a decoder that converts the chunks of a chat to those of a text completion."""
        return TextStream(inner)


def check_completions(body: Body) -> None:
    """Check the known fields of a request without changing them. Raise BadRequest for the first error."""
    check_fields(body, FIELDS)
    if "messages" in body:
        raise refuse("messages", "A completion has a 'prompt': send 'messages' to /v1/chat/completions.", "unsupported_parameter")
    if body.get("prompt") is None:
        raise refuse("prompt", "'prompt' is required.", "missing_required_parameter")
    best_of, n = body.get("best_of"), body.get("n")
    if best_of is not None and best_of < (n or 1):
        raise refuse("best_of", f"'best_of' ({best_of}) must be at least 'n' ({n or 1}).")
    if best_of is not None and best_of > 1 and body.get("stream"):
        raise refuse("best_of", "'best_of' above 1 cannot be streamed.")


def to_text_completion(answer: bytes) -> bytes:
    """Return a chat completion as a text completion. An answer that is already a text completion keeps its bytes."""
    completion = _decode(answer)
    choices = completion.get("choices") or []
    if not any(type(choice) is dict and ("message" in choice or _is_of_chat(choice.get("logprobs"))) for choice in choices):
        return answer
    _rename(completion)
    completion["choices"] = [_text_choice(choice, choice.get("message")) for choice in choices]
    return _encode(completion)


def _rename(completion: dict[str, Any]) -> None:
    """Replace the kind and the id of a chat completion, or of a chunk of one, with those of a text completion."""
    completion["object"] = "text_completion"
    if type(chat_id := completion.get("id")) is str and chat_id.startswith("chatcmpl-"):
        completion["id"] = chat_id.removeprefix("chat")


def _is_of_chat(logprobs: Any) -> bool:
    """Return whether log probabilities have the format of a chat. llama.cpp sends this format with completions as well."""
    return type(logprobs) is dict and "content" in logprobs


def _text_choice(choice: dict[str, Any], said: Any) -> dict[str, Any]:
    """Return the choice of a completion. `said` is the message or delta of a chat, or None."""
    text, logprobs = said.get("content") if type(said) is dict else choice.get("text"), choice.get("logprobs")
    return {
        "text": text if type(text) is str else "",
        "index": choice.get("index", 0),
        "logprobs": _text_logprobs(logprobs) if _is_of_chat(logprobs) else logprobs,
        "finish_reason": choice.get("finish_reason"),
    }


def _text_logprobs(logprobs: Any) -> dict[str, Any] | None:
    """Return a chat's log probabilities in the format of a completion, with offsets from the beginning of the text.

    Return None if `content` is not a list.
    """
    listed = logprobs.get("content")
    if type(listed) is not list:
        return None
    offsets, at = [], 0
    for each in listed:
        offsets.append(at)
        at += len(each["token"])
    tops = [{top["token"]: top["logprob"] for top in each.get("top_logprobs") or ()} for each in listed]
    return {
        "tokens": [each["token"] for each in listed],
        "token_logprobs": [each["logprob"] for each in listed],
        "top_logprobs": tops if any(tops) else None,
        "text_offset": offsets,
    }


def _has_chat(data: bytes) -> bool:
    """Return whether chunks have the form of chunks of a chat completion."""
    return b'"delta"' in data or b'"chat.completion.chunk"' in data or b'"logprobs":{"content"' in data


class TextStream(ChunkFilter):
    """Converts the chunks of a chat to those of a text completion. Chunks of a text completion keep their bytes."""

    def __init__(self, inner: StreamDecoder | None) -> None:
        super().__init__(inner)
        self._shown: dict[int, int] = {}
        self._is_text = False
        """Whether the latest chunk was one of a text completion. If so, `inner` may convert the next chunks alone."""

    @property
    def frame(self) -> tuple[bytes, bytes] | None:
        """The bytes around the text of events that need no change, or None if each event must be decoded."""
        return self._inner.frame if self._inner is not None and self._is_text else None

    def convert(self, events: bytes) -> bytes | None:
        """Return the result of `inner` for events that contain only text of a text completion, else None."""
        if self._inner is None or not self._is_text:
            return None
        converted = self._inner.convert(events)
        return None if converted is None or _has_chat(converted) else converted

    def take_usage(self) -> bytes | None:
        """Return the chunk whose usage `inner` left out, or None if there is no such chunk."""
        return self._inner.take_usage() if self._inner is not None else None

    def _pass(self, data: bytes) -> Sequence[bytes]:
        if not _has_chat(data):
            self._is_text = True
            return (data,)
        self._is_text = False
        chunk = _decode(data)
        if chunk.get("error"):
            return (data,)
        _rename(chunk)
        given = chunk.get("choices") or []
        chunk["choices"] = [self._text(choice) for choice in given if self._says_something(choice)]
        return (_encode(chunk),) if chunk["choices"] or chunk.get("usage") else ()

    def _says_something(self, choice: dict[str, Any]) -> bool:
        """Return whether a choice has text or ends. A completion has no chunk for a role alone."""
        text = choice.get("text") or (choice.get("delta") or {}).get("content")
        return bool(text) or choice.get("finish_reason") is not None

    def _text(self, choice: dict[str, Any]) -> dict[str, Any]:
        text = _text_choice(choice, choice.get("delta"))
        shown = self._shown.get(text["index"], 0)
        self._shown[text["index"]] = shown + len(text["text"])
        if _is_of_chat(choice.get("logprobs")) and text["logprobs"] is not None:
            text["logprobs"]["text_offset"] = [shown + offset for offset in text["logprobs"]["text_offset"]]
        return text


@described(schema_of_inputs(MAX_PROMPTS, may_be_empty=True))
def _prompt(param: str, value: Any) -> None:
    check_inputs(param, value, MAX_PROMPTS, may_be_empty=True)


@described({"type": "boolean"})
def _echo(param: str, value: Any) -> None:
    if type(value) is not bool:
        raise refuse(param, f"'{param}' must be a boolean.", _TYPE)


@described({"type": "string"})
def _suffix(param: str, value: Any) -> None:
    if type(value) is not str:
        raise refuse(param, f"'{param}' must be a string.", _TYPE)


FIELDS = {
    **CHECKS,
    "prompt": _prompt,
    "max_tokens": integer(0, MAX_TOKENS),  # with `echo` and `logprobs`, 0 requests the log probabilities of the prompt alone
    "logprobs": integer(0, MAX_LOGPROBS),
    "best_of": integer(1, MAX_BEST_OF),
    "echo": _echo,
    "suffix": _suffix,
}
