"""A new API is one dialect and one row of the table: routes, pipeline and response follow from it."""

from __future__ import annotations

import httpx

from gateway.dialects.table import DIALECTS, call_paths
from gateway.server.app import build_app
from providers.base import Operation, StreamDecoder
from tests.faults.behaviours import canned
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat, serving

COMPLETION = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}'


class WrappedChat:
    """A chat API whose answers stand under `wrapped`."""

    operation: Operation = "chat"
    paths = ("/wrapped/chat",)
    has_messages = True
    can_continue = False

    def response(self, answer: bytes) -> bytes:
        """Wrap an answer."""
        return b'{"wrapped":' + answer + b"}"

    def stream(self, inner: StreamDecoder | None) -> StreamDecoder | None:
        """Leave chunks as they are."""
        return inner


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
