"""The default script of the fault upstream: OpenAI's chat, completions, embeddings and models, and rankings.

Directives in the text of a request: `#chunks=40#` sets the number of content chunks (one token each, "w0 w1 w2 ..."),
`#delay=20ms#` (us, ms or s) the time between events. `max_tokens` and `max_completion_tokens` end the answer early with
finish_reason `length`. `n` is supported.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.upstream_wire import Exchange

_DIRECTIVE = re.compile(rb"#(chunks|delay)=([0-9.]+)(us|ms|s)?#")
_UNIT = {b"us": 1e-6, b"ms": 1e-3, b"s": 1.0, b"": 1.0}
CREATED = 1760000000


class ChatPlan:
    """The content and pace of one chat answer."""

    def __init__(self, exchange: Exchange) -> None:
        body = exchange.request.body
        self.fields: dict[str, Any] = exchange.request.json
        self.model = str(self.fields.get("model", "mock"))
        self.chunks, self.delay = exchange.server.chunks, exchange.server.delay
        for name, number, unit in _DIRECTIVE.findall(body):
            if name == b"chunks":
                self.chunks = int(number)
            else:
                self.delay = float(number) * _UNIT[unit]
        cap = self.fields.get("max_completion_tokens") or self.fields.get("max_tokens")
        self.finish = "length" if cap is not None and cap <= self.chunks else "stop"
        self.chunks = min(self.chunks, cap) if cap is not None else self.chunks
        self.choices = int(self.fields.get("n") or 1)
        self.words = numbered_words(self.chunks)
        self.identity = f"chatcmpl-{exchange.link.number}-{exchange.link.requests}"
        self.prompt_tokens = exchange.request.prompt_tokens = count_words(self.fields.get("messages") or self.fields.get("prompt"))

    @property
    def usage(self) -> dict[str, int]:
        """Return the exact usage of the answer, one token for each word."""
        completion = self.chunks * self.choices
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": completion, "total_tokens": self.prompt_tokens + completion}

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Return a chat.completion.chunk."""
        head = {"id": self.identity, "object": "chat.completion.chunk", "created": CREATED, "model": self.model}
        return {**head, "choices": choices, **more}


def numbered_words(count: int) -> list[str]:
    """Return the content chunks of an answer: "w0 ", "w1 ", "w2 " and so on."""
    return [f"w{number} " for number in range(count)]


def answer_text(chunks: int = 5) -> str:
    """Return the content of the default answer with this number of chunks."""
    return "".join(numbered_words(chunks))


def count_words(value: Any) -> int:
    """Return the number of words in a text, or in the members `content` and `text` of a JSON value: its prompt tokens here."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(count_words(item) for item in value)
    if isinstance(value, dict):
        return sum(count_words(item) for key, item in value.items() if key in ("content", "text"))
    return 0


async def answer_as_openai(exchange: Exchange) -> None:
    """Answer a request as OpenAI does."""
    path = exchange.request.path.split("?")[0]
    if path.endswith("/chat/completions"):
        plan = ChatPlan(exchange)
        await (_stream_chat if plan.fields.get("stream") else _answer_chat)(exchange, plan)
    elif path.endswith("/completions"):
        plan = ChatPlan(exchange)
        if plan.fields.get("stream"):
            await _stream_text(exchange, plan)
            return
        choices = [{"index": 0, "text": "".join(plan.words), "finish_reason": plan.finish, "logprobs": None}]
        await _answer(
            exchange, {"id": plan.identity, "object": "text_completion", "model": plan.model, "choices": choices, "usage": plan.usage}
        )
    elif path.endswith("/embeddings"):
        tokens = count_words(exchange.request.json.get("input"))
        data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2, 0.3]}]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        await _answer(exchange, {"object": "list", "data": data, "model": exchange.request.model, "usage": usage})
    elif path.endswith("/rerank"):
        found = [{"index": at, "relevance_score": 0.5} for at in range(len(exchange.request.json["documents"]))]
        usage = {"prompt_tokens": 2, "total_tokens": 2}
        await _answer(exchange, {"id": "rerank-1", "model": exchange.request.model, "results": found, "usage": usage})
    elif path.endswith("/models"):
        await _answer(exchange, {"object": "list", "data": [{"id": "mock", "object": "model", "created": CREATED, "owned_by": "tests"}]})
    else:
        await _answer(exchange, {"error": {"message": "no such route", "type": "invalid_request_error", "param": None, "code": None}}, 404)


async def _answer_chat(exchange: Exchange, plan: ChatPlan) -> None:
    if plan.delay:
        await exchange.sleep(plan.delay * plan.chunks)
    message = {"role": "assistant", "content": "".join(plan.words)}
    choices = [{"index": index, "message": message, "finish_reason": plan.finish, "logprobs": None} for index in range(plan.choices)]
    answer = {"id": plan.identity, "object": "chat.completion", "created": CREATED, "model": plan.model, "choices": choices}
    if exchange.server.usage:
        answer["usage"] = plan.usage
    exchange.request.tokens += plan.chunks * plan.choices
    await _answer(exchange, answer)


async def _stream_chat(exchange: Exchange, plan: ChatPlan) -> None:
    await exchange.start_stream()
    choice_indices = range(plan.choices)
    for index in choice_indices:
        role = {"role": "assistant", "content": ""}
        await exchange.event(plan.chunk([{"index": index, "delta": role, "finish_reason": None}]))
    for word in plan.words:
        if plan.delay:
            await exchange.sleep(plan.delay)
        for index in choice_indices:
            await exchange.event(plan.chunk([{"index": index, "delta": {"content": word}, "finish_reason": None}]), tokens=1)
    for index in choice_indices:
        await exchange.event(plan.chunk([{"index": index, "delta": {}, "finish_reason": plan.finish}]))
    if exchange.server.usage and (plan.fields.get("stream_options") or {}).get("include_usage"):
        await exchange.event(plan.chunk([], usage=plan.usage))
    await exchange.event(b"[DONE]")
    await exchange.chunk(b"")


async def _stream_text(exchange: Exchange, plan: ChatPlan) -> None:
    await exchange.start_stream()
    whole = {"id": plan.identity, "object": "text_completion", "created": CREATED, "model": plan.model}
    for word in [*plan.words, ""]:
        finish = None if word else plan.finish
        choice = {"index": 0, "text": word, "logprobs": None, "finish_reason": finish}
        await exchange.event({**whole, "choices": [choice]}, tokens=1 if word else 0)
    if exchange.server.usage and (plan.fields.get("stream_options") or {}).get("include_usage"):
        await exchange.event({**whole, "choices": [], "usage": plan.usage})
    await exchange.event(b"[DONE]")
    await exchange.chunk(b"")


async def _answer(exchange: Exchange, answer: dict[str, Any], code: int = 200) -> None:
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 {code} {'OK' if code == 200 else 'Error'}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    await exchange.send(head.encode() + body)
