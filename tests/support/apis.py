"""The APIs of the gateway that answer a conversation: the form of requests and answers in each.

A test states a request as a chat completion. `Api.body` writes it for an API, and `Api.read` reads what the caller of
that API gets. So one test covers all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from unittest.mock import ANY

import httpx
import pytest

from gateway.dialects.dialect import Dialect
from gateway.dialects.table import CHAT, COHERE_CHAT, COMPLETIONS, MESSAGES, RESPONSES
from tests.dialects.cohere_api.grammar import read_stream as read_cohere_stream
from tests.dialects.messages_api.grammar import read_events, read_message
from tests.dialects.responses_api.grammar import assemble
from tests.support.api_requests import to_cohere, to_completion, to_message, to_response

Json = dict[str, Any]


class Tokens(NamedTuple):
    """The usage of an answer."""

    prompt: int
    output: int
    cached: int = 0
    written: int = 0
    reasoning: int = 0


class Told(NamedTuple):
    """The parts of an answer that a caller reads.

    `stop` is a finish reason of chat completions, or None if the answer broke off.
    """

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[tuple[str, str, Any], ...] = ()
    """Id, name and arguments of each call."""
    stop: str | None = None
    tokens: Tokens | None = None
    receipt: Json | None = None
    error: Json | None = None
    """Message, param and code of an error, which may follow a part of the answer."""


class Api(NamedTuple):
    """One API. `names` has the parameters that it calls differently."""

    name: str
    dialect: Dialect
    path: str
    body: Callable[[Json], Json]
    read_json: Callable[[Json], Told]
    read_stream: Callable[[bytes], Told]
    names: Mapping[str, str]

    def read(self, answer: httpx.Response) -> Told:
        """Return the content of an answer of any kind."""
        return self.read_bytes(answer.content, stream=answer.headers["content-type"].startswith("text/event-stream"))

    def read_bytes(self, answer: bytes, *, stream: bool) -> Told:
        """Return the content of the body of an answer."""
        if stream:
            return self.read_stream(answer)
        decoded: Json = json.loads(answer)
        if decoded.get("error"):
            return Told(error=_error(decoded["error"]), receipt=decoded.get("gateway"))
        return self.read_json(decoded)

    def param(self, name: str) -> str:
        """Return the name of a parameter of chat completions in this API."""
        first, dot, rest = name.partition(".")
        return self.names.get(first, first) + dot + rest

    def limit_header(self, answer: httpx.Response, field: str, kind: str) -> str | None:
        """Return a rate-limit header, such as `remaining` of `tokens`."""
        name = f"anthropic-ratelimit-{kind}-{field}" if self.name == "messages" else f"x-ratelimit-{field}-{kind}"
        value: str | None = answer.headers.get(name)
        return value


def _error(error: Json) -> Json:
    code = error.get("gateway_code") or error.get("code")  # a failed response has codes of OpenAI's
    return {"message": error["message"], "param": error.get("param"), "code": code}


def _of_chat(usage: Json | None) -> Tokens | None:
    if not usage:
        return None
    given, made = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    details = given.get("cached_tokens", 0), given.get("cache_write_tokens", 0), made.get("reasoning_tokens", 0)
    return Tokens(usage["prompt_tokens"], usage["completion_tokens"], *details)


def _chat_calls(calls: Iterable[Json] | None) -> tuple[tuple[str, str, Any], ...]:
    return tuple((call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls or ())


def _read_completion(answer: Json) -> Told:
    """Read a chat completion, or a completion, which has a text in place of a message."""
    (choice, *_) = answer["choices"]
    message = choice.get("message") or {"content": choice.get("text")}
    return Told(
        message.get("content") or "",
        message.get("reasoning_content") or "",
        message.get("refusal") or "",
        _chat_calls(message.get("tool_calls")),
        choice["finish_reason"],
        _of_chat(answer.get("usage")),
        answer.get("gateway"),
    )


def _read_chunks(stream: bytes) -> Told:
    """Read the first choice of the stream of a chat completion or of a completion."""
    events = [event.removeprefix(b"data: ") for event in stream.split(b"\n\n") if event and not event.startswith(b":")]
    chunks: list[Json] = [json.loads(event) for event in events if event != b"[DONE]"]
    said: Json = {"content": "", "reasoning_content": "", "refusal": ""}
    calls: list[Json] = []
    last: Json = {}
    stop = None
    for chunk in chunks:
        last |= {name: chunk[name] for name in ("usage", "gateway", "error") if chunk.get(name)}
        for choice in chunk.get("choices") or ():
            if choice["index"] != 0:
                continue
            delta = choice.get("delta") or {"content": choice.get("text")}
            for name in said:
                said[name] += delta.get(name) or ""
            for call in delta.get("tool_calls") or ():
                if call["index"] == len(calls):
                    calls.append({"id": call["id"], "function": {"name": call["function"]["name"], "arguments": ""}})
                calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
            stop = choice.get("finish_reason") or stop
    assert ("error" in last) is not (events[-1] == b"[DONE]"), "a stream ends with [DONE] or an error"
    error = _error(last["error"]) if "error" in last else None
    told_calls = () if error is not None else _chat_calls(calls)
    return Told(*said.values(), told_calls, stop, _of_chat(last.get("usage")), last.get("gateway"), error)


_STOPS = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"
}  # fmt: skip


def _read_message(message: Json) -> Told:
    content, usage = message["content"], message["usage"]
    uncached, cached, written = (usage[name] for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"))
    thought = (usage.get("output_tokens_details") or {}).get("thinking_tokens", 0)
    return Told(
        "".join(block["text"] for block in content if block["type"] == "text"),
        "".join(block["thinking"] for block in content if block["type"] == "thinking"),
        "",
        tuple(
            (block["id"], block["name"], json.loads(block["arguments"]) if "arguments" in block else block["input"])
            for block in content
            if block["type"] == "tool_use"
        ),
        _STOPS[message["stop_reason"]],
        Tokens(uncached + cached + written, usage["output_tokens"], cached, written, thought),
        message.get("gateway"),
    )


def _read_message_stream(stream: bytes) -> Told:
    events = read_events(stream)
    if events[-1]["type"] == "error":
        text = "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")
        return Told(text, error=_error(events[-1]["error"]), receipt=events[-1].get("gateway"))
    last = next(event for event in events if event["type"] == "message_delta")
    return _read_message({**read_message(stream), "gateway": last.get("gateway")})


def _read_response(response: Json) -> Told:
    output, usage = response["output"], response["usage"]
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    thoughts = [part for item in output if item["type"] == "reasoning" for part in item.get("content") or ()]
    calls = [item for item in output if item["type"] == "function_call"]
    tokens = None
    if usage:
        given, made = usage["input_tokens_details"], usage["output_tokens_details"]
        details = given["cached_tokens"], given["cache_write_tokens"], made["reasoning_tokens"]
        tokens = Tokens(usage["input_tokens"], usage["output_tokens"], *details)
    cut = (response.get("incomplete_details") or {}).get("reason")
    stop = {"max_output_tokens": "length", None: "tool_calls" if calls else "stop"}.get(cut, cut)
    failed = response["status"] == "failed"
    return Told(
        "".join(part["text"] for part in parts if part["type"] == "output_text"),
        "".join(part["text"] for part in thoughts),
        "".join(part["refusal"] for part in parts if part["type"] == "refusal"),
        () if failed else tuple((call["call_id"], call["name"], json.loads(call["arguments"])) for call in calls),
        None if failed else stop,
        tokens,
        response.get("gateway"),
        _error(response["error"]) if failed else None,
    )


def _read_cohere(answer: Json) -> Told:
    message, usage = answer["message"], answer["usage"]
    texts = {kind: "".join(part.get(kind, "") for part in message.get("content") or ()) for kind in ("text", "thinking")}
    counts = usage["tokens"]
    tokens = Tokens(
        counts["input_tokens"], counts["output_tokens"], usage["cached_tokens"],
        usage.get("cache_write_tokens", 0), usage.get("reasoning_tokens", 0),
    )  # fmt: skip
    failed = answer["finish_reason"] == "ERROR"
    return Told(
        texts["text"],
        texts["thinking"],
        "",
        () if failed else _chat_calls(message.get("tool_calls")),
        None if failed else _COHERE_STOPS[answer["finish_reason"]],
        tokens,
        answer.get("gateway"),
        _cohere_error(answer["error"]) if failed else None,
    )


_COHERE_STOPS = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls"}


def _cohere_error(message: str) -> Json:
    """Return an error. Cohere's errors have neither a parameter nor a code, so these two are equal to any value."""
    return {"message": message, "param": ANY, "code": ANY}


def _read_cohere_json(answer: Json) -> Told:
    if "message" in answer and type(answer["message"]) is str:
        return Told(error=_cohere_error(answer["message"]), receipt=answer.get("gateway"))
    return _read_cohere(answer)


def _read_cohere_stream(stream: bytes) -> Told:
    return _read_cohere({"usage": _NO_COHERE_USAGE, **read_cohere_stream(stream)})


_NO_COHERE_USAGE = {"tokens": {"input_tokens": 0, "output_tokens": 0}, "cached_tokens": 0}

CHAT_API = Api("chat", CHAT, "/v1/chat/completions", dict, _read_completion, _read_chunks, {})
COMPLETIONS_API = Api("completions", COMPLETIONS, "/v1/completions", to_completion, _read_completion, _read_chunks, {})
MESSAGES_API = Api(
    "messages", MESSAGES, "/v1/messages", to_message, _read_message, _read_message_stream,
    {"max_completion_tokens": "max_tokens", "stop": "stop_sequences", "user": "metadata.user_id",
     "response_format": "output_config.format", "reasoning_effort": "output_config.effort",
     "parallel_tool_calls": "tool_choice.disable_parallel_tool_use"},
)  # fmt: skip
RESPONSES_API = Api(
    "responses", RESPONSES, "/v1/responses", to_response, _read_response, lambda stream: _read_response(assemble(stream, typed=False)),
    {"max_completion_tokens": "max_output_tokens", "max_tokens": "max_output_tokens", "messages": "input",
     "response_format": "text.format", "reasoning_effort": "reasoning.effort"},
)  # fmt: skip
COHERE_API = Api(
    "cohere", COHERE_CHAT, "/v2/chat", to_cohere, _read_cohere_json, _read_cohere_stream,
    {"max_completion_tokens": "max_tokens", "stop": "stop_sequences", "top_p": "p", "top_k": "k"},
)  # fmt: skip
TRANSLATED = (MESSAGES_API, RESPONSES_API)
CONVERSATIONS = (CHAT_API, *TRANSLATED)
ALL = (CHAT_API, COMPLETIONS_API, *TRANSLATED, COHERE_API)
ALL_CONVERSATIONS = (*CONVERSATIONS, COHERE_API)
"""The APIs of conversations, including Cohere's, whose errors have only a message."""
ALL_WAYS = tuple((api, stream) for api in ALL_CONVERSATIONS for stream in (False, True))
WAYS = tuple((api, stream) for api in CONVERSATIONS for stream in (False, True))
"""Each API with JSON and with a stream."""
EACH_WAY = pytest.mark.parametrize(("api", "stream"), WAYS, ids=[f"{api.name}-{'stream' if stream else 'json'}" for api, stream in WAYS])
