"""A gateway whose upstream is a function: its whole pipeline, without a socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from gateway.config.load import parse
from gateway.runtime.gateway import Gateway
from gateway.telemetry.call_log import CallLog
from gateway.upstream.transport import Deadlines, Origin
from providers.base import WireRequest
from tests.support.apis import Api
from tests.support.scripted import EVENTS, JSON, Recorder, ScriptedResponse

Answer = Callable[[dict[str, Any]], list[bytes]]
"""Returns the pieces of the answer to a request body. They are a stream if the body requests one."""


class FunctionTransport:
    """Answers every request with a function, and keeps the bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.answer: Answer = lambda body: []

    async def send(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> ScriptedResponse:
        """Return the answer to a request."""
        request.written = True
        self.bodies.append(request.body)
        body = json.loads(request.body)
        return ScriptedResponse(list(self.answer(body)), EVENTS if body.get("stream") else JSON)

    async def aclose(self) -> None:
        """Close nothing."""


class InMemory:
    """A gateway with one model for each type, named after this type."""

    def __init__(self, targets: Iterable[tuple[str, str]]) -> None:
        """`targets` has the types and their models."""
        config: dict[str, Any] = {"providers": {}, "models": {}}
        for kind, model in targets:
            config["providers"][kind] = {"type": kind, "base_url": "http://127.0.0.1:1/v1", "api_key": "${K}"}
            if kind in ("openai", "azure"):
                config["providers"][kind]["native_responses"] = False  # the answers are chat completions
            config["models"][kind] = f"{kind}/{model}"
        source = json.dumps(config).encode()
        gateway = Gateway(parse(source, "g.yaml", environ={"K": "sk-k"}), CallLog(2, human=True), lambda line: None)
        gateway.generation.pipeline._log.add = lambda call, ended: None  # type: ignore[method-assign]
        self.upstream = FunctionTransport()
        self._pipeline = gateway.generation.pipeline
        for kind in config["models"]:
            for candidate in self._pipeline.router.all_candidates(self._pipeline.router.find(kind)):
                candidate.backend.transport = self.upstream

    async def call(self, api: Api, body: dict[str, Any], *headers: tuple[bytes, bytes]) -> Recorder:
        """Make one call with the body of an API, and return what its caller received."""
        recorder, source = Recorder(), json.dumps(body).encode()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": source, "more_body": False}

        sent = [(b"content-type", b"application/json"), (b"content-length", str(len(source)).encode()), *headers]
        scope = {"type": "http", "path": api.path, "headers": sent, "query_string": b""}
        await self._pipeline.serve(api.dialect, scope, receive, recorder.send)
        return recorder
