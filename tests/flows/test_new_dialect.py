"""A new API is one dialect and one row of the table: routes, pipeline and response follow from it."""

from __future__ import annotations

import httpx
import msgspec

from gateway.dialects.dialect import Translator
from gateway.dialects.parameters import check_parameters
from gateway.dialects.table import DIALECTS, call_paths
from gateway.errors import BadRequest, Headers, refuse
from gateway.server.app import build_app
from providers.base import Adjustment, Body, Operation, StreamDecoder, Target
from tests.faults.behaviours import canned, sse
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat, serving

COMPLETION = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}'


class WrappedChat:
    """A chat API whose answers are under `wrapped`."""

    operation: Operation = "chat"
    paths = ("/wrapped/chat",)
    has_messages = True
    can_continue = False
    native = None

    def check(self, body: Body) -> None:
        """Check a chat completion."""
        check_parameters(body)

    def translator(self) -> Translator | None:
        """Translate nothing: requests are chat completions."""
        return None

    def response(self, answer: bytes) -> bytes:
        """Wrap an answer."""
        return b'{"wrapped":' + answer + b"}"

    def stream(self, inner: StreamDecoder | None) -> StreamDecoder | None:
        """Leave chunks as they are."""
        return inner


class Prompt:
    """Translates requests with a `prompt` and a `limit`; answers are plain text in upper case."""

    used_headers: frozenset[str] = frozenset()
    refusal: BadRequest | None = None
    loss: BadRequest | None = None

    def __init__(self) -> None:
        self.adjustments: list[Adjustment] = []

    def request(self, source: bytes, *, strict: bool) -> bytes:
        """Return the chat completion of a prompt."""
        body = Body(source)
        if body.pop("colour") is not None:
            if strict:
                raise refuse("colour", "'colour' cannot be honoured.", "unsupported_parameter")
            self.adjustments.append(Adjustment("colour", "drop"))
        body.set("messages", [{"role": "user", "content": body.pop("prompt")}])
        body.rename("limit", "max_tokens")
        return body.encode()

    def fit_to(self, body: Body, target: Target, *, strict: bool) -> list[Adjustment]:
        """Change nothing."""
        return []

    def param(self, name: str) -> str:
        """Return the caller's name for a parameter."""
        return {"max_tokens": "limit", "messages": "prompt"}.get(name, name)

    def headers(self, headers: Headers) -> Headers:
        """Add a header."""
        return [*headers, (b"x-prompt", b"yes")]

    def answer(self, answer: bytes) -> bytes:
        """Return the text in upper case."""
        text: bytes = msgspec.json.decode(answer)["choices"][0]["message"]["content"].upper().encode()
        return text

    def error(self, status: int, body: bytes) -> bytes:
        """Return the status and the parameter."""
        return f"{status} {self.param(msgspec.json.decode(body)['error']['param'])}".encode()

    def feed(self, events: bytes) -> bytes:
        """Return nothing before the end."""
        return b""

    def end(self, events: bytes) -> bytes:
        """Return an event that states whether the last bytes end with [DONE]."""
        return b"event: end\ndata: " + str(events.endswith(b"data: [DONE]\n\n")).encode() + b"\n\n"


class PromptDialect(WrappedChat):
    """An API of prompts, which is translated."""

    paths = ("/prompt",)

    def translator(self) -> Translator | None:
        """Translate each call."""
        return Prompt()

    def response(self, answer: bytes) -> bytes:
        """Leave answers to the translator."""
        return answer


async def test_translated_dialect_gets_its_own_requests_answers_errors_and_events(up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", canned(COMPLETION))
    async with serving(up) as gateway:
        app = build_app(gateway.gateway, (*DIALECTS, PromptDialect()))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            asked = {"model": chat()["model"], "prompt": "Hi", "limit": 5, "colour": "red"}
            answered = await client.post("/prompt", json=asked)
            sent = up.requests[-1].json
            refused = await client.post("/prompt", json={**asked, "limit": 0})
            strict = await client.post("/prompt", json=asked, headers={"x-gateway-strict": "true"})
    assert answered.text == "HELLO"
    assert answered.headers["x-prompt"] == "yes"
    assert answered.headers["content-length"] == "5"
    assert answered.headers["x-gateway-adjusted"].startswith('"colour";drop')
    assert sent["messages"] == [{"role": "user", "content": "Hi"}]
    assert (refused.status_code, refused.text) == (400, "400 limit")
    assert strict.text == "400 colour"


async def test_translated_dialect_gets_its_own_events_alone(up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", sse(b'{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}', b"[DONE]"))
    async with serving(up) as gateway:
        app = build_app(gateway.gateway, (*DIALECTS, PromptDialect()))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            asked = {"model": chat()["model"], "prompt": "Hi", "limit": 5, "stream": True}
            answered = await client.post("/prompt", json=asked)
    assert answered.headers["x-prompt"] == "yes"
    assert answered.text == "event: end\ndata: True\n\n"


async def test_toy_dialect_is_served_on_its_path_and_in_its_form(up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", canned(COMPLETION))
    async with serving(up) as gateway:
        app = build_app(gateway.gateway, (*DIALECTS, WrappedChat()))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            wrapped = await client.post("/wrapped/chat", json=chat())
            plain = await client.post("/v1/chat/completions", json=chat())
            wrong_method = await client.get("/wrapped/chat")
    assert wrapped.json()["wrapped"]["choices"][0]["message"]["content"] == "Hello"
    assert plain.json()["choices"][0]["message"]["content"] == "Hello"
    assert wrong_method.status_code == 405


def test_every_path_belongs_to_one_dialect() -> None:
    paths = [path for dialect in DIALECTS for path in dialect.paths]
    assert len(paths) == len(set(paths)) == len(call_paths(DIALECTS))
    assert call_paths(DIALECTS)["/v1/chat/completions"].operation == "chat"
    assert call_paths(DIALECTS)["/api/inference/v1/chat-attribution/compute-logits"].operation == "logits"
