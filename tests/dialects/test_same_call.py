"""A conversation reaches the upstream as the same request, and its answer means the same, in every API that a caller may use."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.providers.wires import chunk
from tests.support.apis import CHAT_API, CONVERSATIONS, MESSAGES_API, Api, Tokens, Told
from tests.support.in_memory import InMemory
from tests.support.search import FULL

TARGETS = (
    ("openai", "gpt-5.1"), ("groq", "openai/gpt-oss-120b"), ("mistral", "mistral-large-latest"), ("vllm", "m"),
    ("fireworks", "m"), ("deepseek", "deepseek-v4-pro"), ("openai-compatible", "m"), ("gemini", "gemini-3-pro"),
    ("xai", "grok-4"), ("openrouter", "m"), ("together", "m"), ("ollama", "m"), ("llamacpp", "m"), ("cerebras", "gpt-oss-120b"),
    ("friendli", "m"), ("siati", "m"),
)  # fmt: skip
TEXTS = ("a", "Hello", 'é "\\\n', "😀", " x ", "{}")
PNG = "data:image/png;base64,aGk="
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
FUNCTIONS = [
    {"name": "look", "description": "Looks", "parameters": {"type": "object", "properties": {"at": {"type": "number"}}}},
    {"name": "go", "parameters": {**SCHEMA}, "strict": True},
]
PLACES = re.compile(r"messages|input|system|instructions|tools")
"""Parameters that are places in the conversation, which each API numbers in its own way."""
RECEIPT = (b"x-gateway-receipt", b"body")
STRICT = (b"x-gateway-strict", b"true")


def random_content(random: Random) -> Any:
    """Return the content of a user message or of a tool result: a text, or texts and images."""
    if random.random() < 0.6:
        return random.choice(TEXTS)
    parts = [{"type": "text", "text": random.choice(TEXTS)} for _ in range(random.randrange(1, 3))]
    if random.random() < 0.5:
        url = random.choice((PNG, "https://example.org/a.png"))
        parts.insert(random.randrange(len(parts) + 1), {"type": "image_url", "image_url": {"url": url}})  # type: ignore[dict-item]
    return parts


def random_turns(random: Random) -> list[dict[str, Any]]:
    """Return the messages of a conversation that ends with a user message or a tool result."""
    messages: list[dict[str, Any]] = []
    if random.random() < 0.5:
        messages.append({"role": "system", "content": random.choice(TEXTS)})
    messages.append({"role": "user", "content": random_content(random)})
    for turn in range(random.randrange(3)):
        called = [f"call_{turn}_{number}" for number in range(random.choice((0, 0, 1, 3)))]
        message: dict[str, Any] = {"role": "assistant", "content": random.choice(TEXTS)}
        if random.random() < 0.3:
            message["reasoning_content"] = random.choice(TEXTS)
        if called:
            message["content"] = random.choice((None, *TEXTS[:2]))
            arguments = [json.dumps({"at": random.choice((1.5, 2, "é"))}, ensure_ascii=False) for _ in called]
            message["tool_calls"] = [
                {"id": id, "type": "function", "function": {"name": "look", "arguments": given}}
                for id, given in zip(called, arguments, strict=True)
            ]
        messages.append(message)
        messages += [{"role": "tool", "tool_call_id": id, "content": random.choice(TEXTS)} for id in called]
        if not called or random.random() < 0.5:
            messages.append({"role": "user", "content": random_content(random)})
    return messages


def random_chat(random: Random) -> dict[str, Any]:
    """Return a request as a chat completion."""
    chat: dict[str, Any] = {"model": random.choice(TARGETS)[0], "messages": random_turns(random), "max_tokens": random.randrange(1, 500)}
    has_calls = any("tool_calls" in message for message in chat["messages"])
    if has_calls or random.random() < 0.3:
        chat["tools"] = [{"type": "function", "function": function} for function in FUNCTIONS]
        if random.random() < 0.5:
            named = {"type": "function", "function": {"name": "go"}}
            chat["tool_choice"] = random.choice(("auto", "none", "required", named))
            if random.random() < 0.5:
                chat["parallel_tool_calls"] = False
    optional = {
        "temperature": random.choice((0, 0.5, 1)),
        "top_p": random.choice((0.1, 1)),
        "stop": random.sample(("X", "é\n", "END"), k=random.randrange(1, 3)),
        "reasoning_effort": random.choice(("low", "medium", "high")),
        "user": "u-1",
        "response_format": {"type": "json_schema", "json_schema": {"name": "output", "schema": SCHEMA, "strict": True}},
        "seed": random.randrange(100),
        "service_tier": "default",
    }
    chat |= {name: value for name, value in optional.items() if random.random() < 0.25}
    if random.random() < 0.5:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat


class ScriptedAnswer:
    """An answer of the upstream, as JSON or as a stream in random chunks."""

    def __init__(self, random: Random, chat: dict[str, Any]) -> None:
        self._random = random
        self.refusal = "No." if random.random() < 0.1 else ""
        names = random.choice((("look",), ("look", "go", "look"))) if "tools" in chat and random.random() < 0.5 else ()
        self.calls = tuple((f"c{number}", name, {"at": number, "é": '"'}) for number, name in enumerate(names))
        self.reasoning = random.choice(("", "", 'Hm "é"\n'))
        self.text = "" if (self.calls and random.random() < 0.5) or self.refusal else random.choice(TEXTS)
        self.finish = "tool_calls" if self.calls else random.choice(("stop", "stop", "length", "content_filter"))
        self.usage = {"prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49}
        if random.random() < 0.7:
            self.usage |= {
                "prompt_tokens_details": {"cached_tokens": 16, "cache_write_tokens": random.choice((0, 3))},  # type: ignore[dict-item]
                "completion_tokens_details": {"reasoning_tokens": random.choice((0, 4))},  # type: ignore[dict-item]
            }

    def _calls(self) -> list[dict[str, Any]]:
        return [
            {"index": number, "id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
            for number, (id, name, given) in enumerate(self.calls)
        ]

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        optional = {"reasoning_content": self.reasoning, "refusal": self.refusal, "tool_calls": self._calls()}
        return message | {name: value for name, value in optional.items() if value}

    def json(self) -> list[bytes]:
        """Return the pieces of a chat completion."""
        choice = {"index": 0, "message": self._message(), "finish_reason": self.finish}
        answer = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": self.usage}
        return [json.dumps(answer).encode()]

    def stream(self) -> list[bytes]:
        """Return the pieces of a stream."""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        for name, whole in (("reasoning_content", self.reasoning), ("content", self.text), ("refusal", self.refusal)):
            deltas += [{name: piece} for piece in self._cut(whole)]
        for call in self._calls():
            first, *rest = self._cut(call["function"].pop("arguments"))
            deltas.append({"tool_calls": [{**call, "function": {**call["function"], "arguments": first}}]})
            deltas += [{"tool_calls": [{"index": call["index"], "function": {"arguments": piece}}]} for piece in rest]
        chunks = [*map(chunk, deltas), chunk({}, self.finish), {**chunk({}), "choices": [], "usage": self.usage}]
        wire = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks) + b"data: [DONE]\n\n"
        cuts = sorted(self._random.randrange(len(wire)) for _ in range(self._random.randrange(6)))
        return [wire[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True) if start < stop]

    def _cut(self, text: str) -> list[str]:
        cuts = sorted(self._random.randrange(len(text) + 1) for _ in range(2))
        return [piece for piece in (text[: cuts[0]], text[cuts[0] : cuts[1]], text[cuts[1] :]) if piece]

    def told(self, api: Api) -> Told:
        """Return the answer that a caller of an API must get."""
        details = self.usage.get("prompt_tokens_details", {}), self.usage.get("completion_tokens_details", {})
        given, made = details  # type: ignore[assignment]
        counts = given.get("cached_tokens", 0), given.get("cache_write_tokens", 0), made.get("reasoning_tokens", 0)  # type: ignore[union-attr]
        told = Told(self.text, self.reasoning, self.refusal, self.calls, self.finish, Tokens(40, 9, *counts))
        if api is MESSAGES_API and self.refusal:
            # A message has no field for a refusal: the refusal is its text, and `content_filter` replaces the stop reason `stop`.
            stop = "content_filter" if self.finish == "stop" else self.finish
            return told._replace(text=self.text + self.refusal, refusal="", stop=stop)
        return told


def same_form(api: Api, body: bytes) -> str:
    """Return the upstream's body without the differences that the APIs may have. There may be no others."""
    sent = json.loads(body)
    # The order of the members of an object has no meaning; each API has its own order.
    for message in sent["messages"]:
        for call in message.get("tool_calls") or ():
            # Messages has the arguments as an object, whose text the caller's JSON encoder chooses.
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    # A stream always ends with its usage in Messages and Responses, so chat completions here ask for it.
    # `max_tokens` of Messages keeps its name; `max_output_tokens` of Responses is the newer name of the same cap.
    if "max_completion_tokens" in sent:
        sent["max_tokens"] = sent.pop("max_completion_tokens")
    # Messages can forbid parallel calls only together with a choice, so its requests state the default choice.
    return json.dumps(sent, sort_keys=True, ensure_ascii=False)


def check_refusals(chat: dict[str, Any], told: list[Told]) -> None:
    """Check that every API refuses a parameter that would be lost, each under its own name for the parameter."""
    params = [each.error["param"] for each in told if each.error is not None]
    assert len(params) == len(CONVERSATIONS), "all or none refuse"
    for api, param in zip(CONVERSATIONS, params, strict=True):
        assert named(param, str) == named(params[0], api.param), api.name
        value: Any = api.body(chat)
        for key in re.findall(r"[a-z_]+|\d+", param):  # the caller's request has a value at the place that the name states
            value = value[int(key) if type(value) is list else key]


def named(param: str, name: Callable[[str], str]) -> str:
    """Return the name of a parameter, or one text for all places in the conversation."""
    return name(param) if PLACES.match(param) is None else "in the conversation"


async def check(gateway: InMemory, random: Random) -> int:
    """Make one random call in every API. Return 1 if it was refused, else 0."""
    chat = random_chat(random)
    answer = ScriptedAnswer(random, chat)
    gateway.upstream.answer = lambda body: answer.stream() if body.get("stream") else answer.json()
    gateway.upstream.bodies.clear()
    told: list[Told] = []
    stream, strict = chat.get("stream", False), random.random() < 0.25
    for api in CONVERSATIONS:
        recorder = await gateway.call(api, api.body(chat), RECEIPT, *([STRICT] if strict else []))
        told.append(api.read_bytes(recorder.body, stream=stream and recorder.status == 200))
        assert recorder.status in (200, 400), (api.name, told[-1].error)
    if any(each.error for each in told):
        assert gateway.upstream.bodies == []
        check_refusals(chat, told)
        return 1
    for api, each in zip(CONVERSATIONS, told, strict=True):
        assert each._replace(receipt=None) == answer.told(api), api.name
    receipts = [each.receipt for each in told]
    expected, *others = [same_form(api, body) for api, body in zip(CONVERSATIONS, gateway.upstream.bodies, strict=True)]
    for api, other in zip(CONVERSATIONS[1:], others, strict=True):
        assert other == expected, api.name
    for api, receipt in zip(CONVERSATIONS[1:], receipts[1:], strict=True):
        assert meaning_of_receipt(receipt, str) == meaning_of_receipt(receipts[0], api.param), api.name
    return 0


def meaning_of_receipt(receipt: dict[str, Any] | None, name: Callable[[str], str]) -> Any:
    """Return the target, the cost and the adjustments. `name` returns the name of a parameter."""
    assert receipt is not None
    adjustments = [
        (named(each["param"], name), each["action"])
        for each in receipt["adjustments"]
        if each["action"] != "rename"  # of the output cap, which has another name in each API
        and each["param"] != "stream_options"  # only chat completions have to request usage
        and not (each["action"] == "warn" and each["param"].endswith(".strict"))  # the default of the Responses API alone
    ]
    return receipt["target"], receipt["cost_usd"], adjustments


async def check_calls(count: int, seed: int) -> None:
    """Check random calls."""
    gateway, refused = InMemory(TARGETS), 0
    for number in range(count):
        random = Random(f"{seed} {number}")
        try:
            refused += await check(gateway, random)
        except AssertionError as error:
            raise AssertionError(f"{number}: {json.dumps(random_chat(Random(f'{seed} {number}')))}") from error
    assert 0 < refused < count / 4


@pytest.mark.search
async def test_same_call_means_the_same_in_every_api() -> None:
    await check_calls(2_000 if FULL else 100, 13)


async def test_the_writers_state_what_a_chat_completion_states() -> None:
    chat = {"model": "vllm", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "stop": "x", "user": "u"}
    assert CHAT_API.body(chat) == chat
    assert MESSAGES_API.body(chat) == {
        "model": "vllm", "max_tokens": 5, "messages": chat["messages"], "stop_sequences": ["x"], "metadata": {"user_id": "u"},
    }  # fmt: skip
