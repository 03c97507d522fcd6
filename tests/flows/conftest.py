"""What flow tests share: a scripted upstream, an HTTP client without the environment's proxies, and bodies."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import Live, live

CREDENTIAL = "sk-upstream-credential"


def chat(model: str = "m", text: str = "hello", **more: Any) -> dict[str, Any]:
    """A chat body."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def one_model(up: FaultUpstream, rest: str = "", kind: str = "openai-compatible") -> str:
    """A configuration with the model `m` at `up`, named `mock` there."""
    return f"""
providers:
  up: {{ type: {kind}, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
models:
  m: up/mock
{rest}"""


def serving(up: FaultUpstream, rest: str = "", kind: str = "openai-compatible", **more: Any) -> AbstractAsyncContextManager[Live]:
    """A gateway with one model."""
    return live(one_model(up, rest, kind), environ={"UP_KEY": CREDENTIAL}, **more)


def events(text: str) -> list[str]:
    """The data of a stream's events."""
    return [part.removeprefix("data: ") for part in text.split("\n\n") if part]
