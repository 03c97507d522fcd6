"""Recorded streams of all provider types, translated to the Messages and Responses APIs, and the answers that their callers read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.dialects.dialect import Translator
from gateway.dialects.messages_api.dialect import MessagesTranslator
from gateway.dialects.responses_api.dialect import ResponsesTranslator
from gateway.response.upstream_answer import inband_failure
from gateway.streams.relay import DONE, Relay
from providers.base import Options, Usage
from providers.usage import read_usage
from tests.dialects.messages_api.grammar import read_message
from tests.dialects.responses_api.grammar import assemble
from tests.providers.adapting import target_for
from tests.providers.stream_shapes import SHAPES, Shape

MESSAGES_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
RESPONSES_STOPS = {"stop": "completed", "tool_calls": "completed", "length": "incomplete", "content_filter": "incomplete"}
OPENAI_USAGE = {
    "prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 3},
}  # fmt: skip
DEEPSEEK_USAGE = {
    **OPENAI_USAGE, "prompt_tokens_details": {}, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 12
}  # fmt: skip
MOONSHOT_USAGE = {**OPENAI_USAGE, "prompt_tokens_details": None, "cached_tokens": 8}
XAI_USAGE = {**OPENAI_USAGE, "completion_tokens": 4}
"""The reasoning tokens are not part of `completion_tokens`."""
ANTHROPIC_PROMPT = {"input_tokens": 10, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 2}
ANTHROPIC_OUTPUT = {"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 3}}
COHERE_USAGE = {"tokens": {"input_tokens": 20.0, "output_tokens": 7.0}, "cached_tokens": 8.0}
FORMS: dict[str, tuple[dict[str, Any], ...]] = {
    "deepseek": (DEEPSEEK_USAGE,),
    "openai-compatible": (OPENAI_USAGE, MOONSHOT_USAGE),
    "xai": (XAI_USAGE,),
}
"""The usage objects of types that have forms of their own. All others have OpenAI's."""

TARGETS = {shape.kind: target_for(shape.kind) for shape in SHAPES}


class Tokens(NamedTuple):
    """The usage of an answer."""

    prompt: int
    output: int
    cached: int
    written: int
    reasoning: int


WHOLE = Tokens(20, 7, 8, 2, 3)
"""The tokens of `OPENAI_USAGE`, and of `ANTHROPIC_PROMPT` and `ANTHROPIC_OUTPUT` together."""
NONE = Tokens(0, 0, 0, 0, 0)


class Meaning(NamedTuple):
    """The parts of an answer that a caller reads."""

    text: str
    reasoning: str
    calls: tuple[tuple[str, Any], ...]
    stop: str
    usage: Tokens


class Case(NamedTuple):
    """A recorded stream, and the tokens that the caller must read from it."""

    shape: Shape
    tokens: Tokens


def cases() -> list[Case]:
    """Return every recorded stream as it is, and with a usage that has tokens of every kind that its type reports."""
    found = []
    for shape in SHAPES:
        plain = NONE if shape.usage is None else Tokens(*shape.usage, *_plain_details(shape))
        found.append(Case(shape, plain))
        if shape.usage is not None:
            found += _detailed(shape)
    return found


def _plain_details(shape: Shape) -> tuple[int, int, int]:
    cached = 2 if shape.kind == "anthropic" and shape.name in ("text", "call") else 0
    return cached, 0, int(shape.name == "role and created of each chunk")


def _detailed(shape: Shape) -> list[Case]:
    if shape.kind == "anthropic":
        early = _with_usage(shape, {"prompt": {**ANTHROPIC_PROMPT, "output_tokens": 1}, "output": ANTHROPIC_OUTPUT})
        late = _with_usage(shape, {"prompt": {}, "output": {**ANTHROPIC_PROMPT, **ANTHROPIC_OUTPUT}})
        return [Case(early, WHOLE), Case(late, WHOLE)]
    if shape.kind == "cohere":
        return [Case(_with_usage(shape, {"cohere": COHERE_USAGE}), WHOLE._replace(written=0, reasoning=0))]
    made = []
    for usage in FORMS.get(shape.kind, (OPENAI_USAGE,)):
        written = WHOLE.written if usage["prompt_tokens_details"] else 0
        made.append(Case(_with_usage(shape, {"openai": usage}), WHOLE._replace(written=written)))
    return made


def _with_usage(shape: Shape, forms: dict[str, dict[str, Any]]) -> Shape:
    """Return a stream whose usage objects are replaced by those of `forms`."""

    def replaced(value: Any) -> Any:
        if type(value) is list:
            return [replaced(item) for item in value]
        if type(value) is not dict:
            return value
        if "openai" in forms and "prompt_tokens" in value:
            return {**value, **forms["openai"]}
        if "cohere" in forms and "tokens" in value:
            return forms["cohere"]
        if "prompt" in forms and "input_tokens" in value:
            return forms["prompt"]
        if "output" in forms and value.keys() == {"output_tokens"}:
            return forms["output"]
        return {name: replaced(given) for name, given in value.items()}

    return shape._replace(events=[(name, replaced(value)) for name, value in shape.events], name=f"{shape.name}, all tokens")


def relay_of(shape: Shape) -> Relay:
    """Return the relay of a stream of this shape."""
    target = TARGETS[shape.kind]
    return Relay(
        decoder=target.kind.decoder(target, Options(stream=True)),
        usage_asked=True,
        read_usage=read_usage,
        fail=lambda data: inband_failure(target, data),
        choices=shape.choices,
    )


def chat_pieces(shape: Shape, pieces: list[bytes]) -> tuple[list[bytes], Usage | None]:
    """Return the bytes that a caller of chat completions gets for pieces of a stream, and the recorded usage."""
    relay = relay_of(shape)
    sent = [piece for piece in map(relay.feed, pieces) if piece]
    return [*sent, relay.end() + DONE], relay.usage


def messages_translator() -> Translator:
    """Return the translator of a Messages call."""
    made = MessagesTranslator()
    body = {"model": "m", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    made.request(json.dumps(body).encode(), strict=False)
    return made


def responses_translator() -> Translator:
    """Return the translator of a Responses call."""
    made = ResponsesTranslator()
    made.request(b'{"model":"m","input":"hi","stream":true}', strict=False)
    return made


def translated(translator: Translator, pieces: list[bytes]) -> bytes:
    """Return the events that a translator makes from a chat stream."""
    *first, last = pieces
    return b"".join([*map(translator.feed, first), translator.end(last)])


def tokens_of(usage: dict[str, Any] | None) -> Tokens:
    """Return the tokens of a chat completion's usage."""
    if usage is None:
        return NONE
    given, made = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    details = given.get("cached_tokens", 0), given.get("cache_write_tokens", 0), made.get("reasoning_tokens", 0)
    return Tokens(usage["prompt_tokens"], usage["completion_tokens"], *details)


def meaning_of_message(message: dict[str, Any]) -> Meaning:
    """Return the parts of a message that a caller reads. The arguments of calls may be text or decoded."""
    content, usage = message["content"], message["usage"]
    uncached, read, written = (usage[name] for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"))
    thought = (usage.get("output_tokens_details") or {}).get("thinking_tokens", 0)
    return Meaning(
        "".join(block["text"] for block in content if block["type"] == "text"),
        "".join(block["thinking"] for block in content if block["type"] == "thinking"),
        tuple(
            (block["name"], json.loads(block["arguments"]) if "arguments" in block else block["input"])
            for block in content
            if block["type"] == "tool_use"
        ),
        message["stop_reason"],
        Tokens(uncached + read + written, usage["output_tokens"], read, written, thought),
    )


def meaning_of_response(response: dict[str, Any]) -> Meaning:
    """Return the parts of a response that a caller reads."""
    output, usage = response["output"], response["usage"]
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    thoughts = [part for item in output if item["type"] == "reasoning" for part in item.get("content") or ()]
    tokens = NONE
    if usage is not None:
        given, made = usage["input_tokens_details"], usage["output_tokens_details"]
        details = given["cached_tokens"], given["cache_write_tokens"], made["reasoning_tokens"]
        tokens = Tokens(usage["input_tokens"], usage["output_tokens"], *details)
        assert usage["total_tokens"] == tokens.prompt + tokens.output
    return Meaning(
        "".join(part["text"] for part in parts if part["type"] == "output_text"),
        "".join(part["text"] for part in thoughts),
        tuple((item["name"], json.loads(item["arguments"])) for item in output if item["type"] == "function_call"),
        response["status"],
        tokens,
    )


class Api(NamedTuple):
    """An API whose streams are translated."""

    name: str
    translator: Callable[[], Translator]
    read: Callable[[bytes], Meaning]
    """Checks the grammar of a whole stream, and returns its meaning."""
    meaning: Callable[[dict[str, Any]], Meaning]
    stops: dict[str, str]

    def expected(self, case: Case) -> Meaning:
        """Return the answer that a caller of this API must read from a recorded stream."""
        shape = case.shape
        return Meaning(shape.text, shape.reasoning, shape.calls, self.stops[shape.finish], case.tokens)


APIS = (
    Api("messages", messages_translator, lambda sent: meaning_of_message(read_message(sent)), meaning_of_message, MESSAGES_STOPS),
    Api(
        "responses",
        responses_translator,
        lambda sent: meaning_of_response(assemble(sent, typed=False)),
        meaning_of_response,
        RESPONSES_STOPS,
    ),
)
