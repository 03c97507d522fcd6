"""Calls, callers and candidates without a server, for tests of single attempts."""

from __future__ import annotations

import time
from collections.abc import MutableMapping, Sequence
from typing import Any, cast

import providers
from gateway.attempts.progress import Progress
from gateway.call import Call
from gateway.config.model import ModelSettings
from gateway.http.caller import Caller, CallerDeadlines
from gateway.targets.backend import Backend
from gateway.targets.candidate import Candidate
from gateway.upstream.transport import Deadlines, Origin, Transport
from providers.base import Body, Target


def target_named(name: str = "a/x", kind: str = "openai", credential: str | None = None) -> Target:
    """Return a target `provider/model`."""
    provider, _, model = name.partition("/")
    return Target(name, provider, providers.get(kind), model, "http://upstream/v1", credential)


def candidate(name: str = "a/x", *, credentials: int = 1, deadlines: Deadlines | None = None, **settings: Any) -> Candidate:
    """Return a candidate with these settings of its model. Its backend has no transport: nothing can be sent."""
    deadlines = deadlines or Deadlines()
    targets = tuple(target_named(name, credential=f"key-{number}") for number in range(credentials))
    backend = Backend(targets, Origin("http", "upstream", 80), cast("Transport", None), deadlines)
    return Candidate(backend, deadlines, ModelSettings(**settings))


def call_with(body: bytes = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}', **fields: Any) -> Call:
    """Return a call in the state in which the pipeline starts attempts."""
    return Call("chat", "/v1/chat/completions", body=Body(body), body_bytes=len(body), model="m", route="m", **fields)


def caller() -> Caller:
    """Return a connected caller that discards its response."""

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("the body has already been read")

    async def send(message: MutableMapping[str, Any]) -> None:
        return

    return Caller({"headers": [], "type": "http"}, receive, send, CallerDeadlines())


def progress_of(call: Call, *, elapsed: float = 0.0, total_s: float = 60.0, candidates: Sequence[Candidate] = ()) -> Progress:
    """Return the progress of a call that started `elapsed` seconds ago and may be sent to `candidates`, which are two by default."""
    call.started = time.monotonic() - elapsed
    progress = Progress(call, caller(), total_s)
    progress.candidates = lambda: candidates or (candidate("a/x"), candidate("b/y"))
    return progress
