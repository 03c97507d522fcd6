"""A transport that answers from a script, and a failover over it: attempts without sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from gateway.attempts.failover import Failover
from gateway.attempts.hedge import Hedges
from gateway.attempts.retry_budget import RetryBudget
from gateway.call import Call
from gateway.config.model import ModelSettings
from gateway.http.caller import Caller, CallerDeadlines
from gateway.metrics import Metrics
from gateway.targets.backend import Backend
from gateway.targets.candidate import Candidate
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import Deadlines, Origin, UpstreamError
from providers.base import WireRequest
from tests.support.attempts import target_named

JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream")]


def completion(text: str = "Hello", **choice: Any) -> bytes:
    """Return a chat completion with one choice."""
    message = {"role": "assistant", "content": text}
    first = {"index": 0, "message": message, "finish_reason": "stop", **choice}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "x", "choices": [first], "usage": usage}).encode()


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    """Return one event of a chat stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


class ScriptedResponse:
    """A response whose body arrives in the given pieces; an exception among them is raised."""

    def __init__(self, pieces: Sequence[bytes | Exception], headers: list[tuple[bytes, bytes]] = JSON, status: int = 200) -> None:
        self.status, self.headers = status, headers
        self._pieces = list(pieces)
        self.closed = False

    async def read(self) -> bytes:
        """Return the next piece."""
        piece = self._pieces.pop(0) if self._pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def body(self, limit: int) -> bytes:
        """Return all pieces."""
        body = b""
        while piece := await self.read():
            body += piece
        return body

    def unread(self) -> bytes:
        """Return nothing: `body` keeps no part."""
        return b""

    def finish(self, on_trailing: Callable[[bytes], bool] | None = None) -> None:
        """Do nothing: there is no connection to release."""

    def close(self) -> None:
        """Close the response."""
        self.closed = True


class ScriptedTransport:
    """Answers requests in order from a script of responses and errors, and keeps the requests."""

    def __init__(self, *script: ScriptedResponse | UpstreamError) -> None:
        self.script = list(script)
        self.requests: list[dict[str, Any]] = []

    async def send(self, origin: Origin, request: WireRequest, deadlines: Deadlines) -> ScriptedResponse:
        """Return the next response of the script, or raise it if it is an error."""
        request.written = True
        self.requests.append(json.loads(request.body))
        step = self.script.pop(0)
        if isinstance(step, UpstreamError):
            raise step
        return step

    async def aclose(self) -> None:
        """Close nothing."""


class Recorder:
    """A caller's side: everything that was sent to it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Record an ASGI message."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message.get("body", b"")

    def caller(self) -> Caller:
        """Return the caller that writes here."""

        async def receive() -> MutableMapping[str, Any]:
            raise AssertionError("the body has already been read")

        return Caller({"headers": [], "type": "http"}, receive, self.send, CallerDeadlines())


def candidate_over(transport: ScriptedTransport, name: str = "a/x", kind: str = "openai", **settings: Any) -> Candidate:
    """Return a candidate whose requests go to the transport."""
    backend = Backend((target_named(name, kind),), Origin("http", "upstream", 80), transport, Deadlines())
    return Candidate(backend, Deadlines(), ModelSettings(**settings))


async def run(call: Call, *candidates: Candidate) -> Recorder:
    """Run a call over the candidates and return what its caller received."""
    recorder = Recorder()
    await failover_over(TargetRegistry()).run(call, recorder.caller(), list(candidates), list)
    return recorder


def failover_over(registry: TargetRegistry, metrics: Metrics | None = None) -> Failover:
    """Return a failover whose targets have their health in `registry`."""
    metrics = metrics or Metrics(["m"], ["a/x", "b/y"], {"a": "openai", "b": "openai"})
    return Failover(metrics, None, registry, RetryBudget(), Hedges(metrics), draw=lambda: 0.0)
