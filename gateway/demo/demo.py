"""The state of the demo: its providers, and the calls that it sends to the gateway as a caller would."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path
from typing import Any

import msgspec

from gateway.demo.provider import BEHAVIOURS, Behaviour, DemoProvider
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import Deadlines, Origin, UpstreamError
from providers.base import WireRequest

PROVIDERS = {"north": "groq", "south": "mistral"}
"""The providers of the demo, and the vendors whose APIs they imitate."""
MODEL = "smart"
TRAFFIC_PAUSE_S = 0.5
MAX_CALLS = 40
"""Maximum number of the demo's calls in flight; at this number, no new ones are sent."""
YAML = """\
# The configuration of `lockgate serve --demo`. A change to this file applies at once. The file is deleted when the demo ends.
store: memory://
journal: state
providers:
  north:                                  # a scripted provider with the API of Groq
    {{ type: groq, base_url: "http://127.0.0.1:{north}/v1", cooldown: {{ failures: 2, time: 6s }} }}
  south:                                  # another one, with the API of Mistral
    {{ type: mistral, base_url: "http://127.0.0.1:{south}/v1", cooldown: {{ failures: 2, time: 6s }} }}
  local: {{}}                               # the embedded engine and its bundled model
models:
  smart:                                  # an order: the next one is tried if one fails
    targets: [north/llama-3.3-70b-versatile, south/mistral-small-latest, local/smollm2-135m-instruct]
    first_byte_timeout: 3s
    continue_on_cut: true
  shared:                                 # a split: each call goes to one of them
    targets: {{ north/llama-3.3-70b-versatile: 3, south/mistral-small-latest: 1 }}
  metered:                                # a limit that fills up
    targets: south/mistral-small-latest
    limits: {{ requests: 10/min, tokens: 5k/min }}
  local: local/smollm2-135m-instruct
"""
QUESTIONS = (
    "What does a gateway do?", "What happens when a provider fails?", "How is a broken stream continued?", "What is a cooldown?",
    "How are limits checked?", "What does a call cost?", "Which changes does the receipt list?",
)  # fmt: skip


class DemoChange(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /admin/demo: a provider with its new behaviour, whether calls are sent, or both."""

    provider: str | None = None
    behaviour: Behaviour | None = None
    traffic: bool | None = None


class Demo:
    """The providers and the traffic of one gateway."""

    def __init__(self) -> None:
        self.providers = {name: DemoProvider(name) for name in PROVIDERS}
        self._callers: tuple[str, int] = ("127.0.0.1", 0)
        self._transport = NativeTransport(connections=MAX_CALLS)
        self._sending: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def start(self, callers: tuple[str, int]) -> None:
        """Start the providers. `callers` is the address of the gateway's callers' listener, to which the traffic goes."""
        self._callers = callers
        for provider in self.providers.values():
            await provider.start()

    async def stop(self) -> None:
        """Stop the traffic and the providers."""
        self._set_traffic(on=False)
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._transport.aclose()
        for provider in self.providers.values():
            await provider.stop()

    def close(self) -> None:
        """Close the sockets of providers that have not started."""
        for provider in self.providers.values():
            provider.close()

    def configuration(self) -> str:
        """Return the YAML of a gateway with these providers."""
        return YAML.format(**{name: provider.port for name, provider in self.providers.items()})

    def write(self, folder: Path) -> Path:
        """Write the configuration to a file in a folder, and return its path."""
        file = folder / "demo.yaml"
        file.write_text(self.configuration())
        return file

    def describe(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        providers = {
            name: {"type": PROVIDERS[name], "behaviour": provider.behaviour, "requests": provider.requests}
            for name, provider in self.providers.items()
        }
        return {"model": MODEL, "behaviours": list(BEHAVIOURS), "traffic": self._sending is not None, "providers": providers}

    def apply(self, change: DemoChange) -> None:
        """Apply a change. Raise KeyError if there is no provider of this name."""
        if change.provider is not None:
            provider = self.providers[change.provider]
            provider.behaviour = change.behaviour or provider.behaviour
        if change.traffic is not None:
            self._set_traffic(on=change.traffic)

    def _set_traffic(self, *, on: bool) -> None:
        if on and self._sending is None:
            self._sending = asyncio.create_task(self._send_calls(), name="demo traffic")
        elif not on and self._sending is not None:
            self._sending.cancel()
            self._sending = None

    async def _send_calls(self) -> None:
        for question in itertools.cycle(QUESTIONS):
            if len(self._calls) < MAX_CALLS:
                call = asyncio.create_task(self._call(question))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
            await asyncio.sleep(TRAFFIC_PAUSE_S)

    async def _call(self, question: str) -> None:
        """Send one streamed call and read it to its end. Errors are ignored, because the page shows the outcome of every call."""
        body = {"model": MODEL, "stream": True, "max_tokens": 60, "messages": [{"role": "user", "content": question}]}
        request = WireRequest("/v1/chat/completions", [("content-type", "application/json")], msgspec.json.encode(body))
        with contextlib.suppress(UpstreamError):
            response = await self._transport.send(Origin("http", *self._callers), request, Deadlines())
            try:
                while await response.read():
                    pass
            finally:
                response.close()
