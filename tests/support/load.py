"""Mixed traffic: every kind of call that the metrics distinguish, to one scripted upstream, with counts of the callers.

    python -m tests.support.load --config           # prints a configuration; replace UPSTREAM by the base URL of `upstream_server`
    python -m tests.support.load --port 8080 --seconds 60

A token is a word, and the upstream counts the tokens it sends, so the totals at /metrics can be compared with its counts.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.faults.client import FaultClient

TOKENS = {name: f"lg-load-{name}-0123456789abcdef" for name in ("search", "app", "tight", "gone")}
"""Tokens of the virtual keys by name."""
_HASH = {name: hashlib.sha256(token.encode()).hexdigest() for name, token in TOKENS.items()}

_YAML = """
store: {store}
store_deadline: 5s
retry_budget: 1
admin: {{ listen: "127.0.0.1:0" }}
providers:
  good: {{ type: openai-compatible, base_url: "{upstream}", api_key: "${{K:-sk-load}}", prices: {{ "*": {{ prompt: 1, output: 2 }} }} }}
  vendor: {{ type: groq, base_url: "{upstream}", api_key: "${{K:-sk-load}}",
          prices: {{ "*": {{ prompt: 3, output: 15, cached: 1 }} }} }}
  sick: {{ type: openai-compatible, base_url: "{upstream}", api_key: "${{K:-sk-load}}", cooldown: {{ failures: {failures} }},
          prices: {{ "*": {{ prompt: 1, output: 1 }} }} }}
  dead: {{ type: openai-compatible, base_url: "http://127.0.0.1:1/v1", api_key: "${{K:-sk-load}}", cooldown: {{ failures: {failures} }},
          prices: {{ "*": {{ prompt: 1, output: 1 }} }} }}
  cutter: {{ type: openai-compatible, base_url: "{upstream}", api_key: "${{K:-sk-load}}", cooldown: {{ failures: 100, rate: 100% }},
          prices: {{ "*": {{ prompt: 1, output: 1 }} }} }}
  narrow: {{ type: openai-compatible, base_url: "{upstream}", api_key: "${{K:-sk-load}}", limits: {{ requests: 5/s }},
          prices: {{ "*": {{ prompt: 0.5, output: 0.5 }} }} }}
models:
  chat: good/mock
  vendor: vendor/mock
  fallback: [sick/503, good/mock]
  retried: {{ targets: [sick/500, good/mock], retries: 1 }}
  unreachable: [dead/mock, good/mock]
  narrow: [narrow/mock, good/mock]
  cut: {{ targets: cutter/stall-mid-stream, idle_timeout: 300ms }}
  refused: good/404
keys:
  search: {{ hash: "sha256:{search}" }}
  app: {{ hash: "sha256:{app}", limits: {{ requests: 1M/min, tokens: 1G/min, spend: 1000 USD/day }} }}
  tight: {{ hash: "sha256:{tight}", limits: {{ requests: 5/min }} }}
  gone: {{ hash: "sha256:{gone}", disabled: true }}
"""


def configuration(upstream: str, store: str = "memory://", *, failures: int = 5, more: str = "") -> str:
    """Return a configuration for this traffic. `failures` is the number of failures that start a cooldown; `more` is appended."""
    return _YAML.format(upstream=upstream, store=store, failures=failures, **_HASH) + more


@dataclass(frozen=True)
class CallKind:
    """One kind of call: weight, key and body. With `leave`, the caller disconnects in mid-stream."""

    weight: int
    body: Mapping[str, Any] | bytes
    key: str | None = "search"
    leave: bool = False


def _chat(model: str = "chat", text: str = "tell me about the sea and the sky", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


_SLOW = "tell me slowly #chunks=12# #delay=8ms#"
_ENDLESS = "tell me slowly #chunks=2000# #delay=8ms#"
"""It lasts 16 s, so that the upstream is cut off before its end, however late the gateway detects that the caller has disconnected."""
CALL_KINDS: dict[str, CallKind] = {
    "json": CallKind(30, _chat()),
    "json of another key": CallKind(10, _chat(max_tokens=3), "app"),
    "stream": CallKind(15, _chat(stream=True)),
    "stream of another key": CallKind(5, _chat(stream=True, stream_options={"include_usage": True}), "app"),
    "slow stream": CallKind(4, _chat(text=_SLOW, stream=True)),
    "two choices": CallKind(3, _chat("vendor", n=2)),
    "adjusted": CallKind(6, _chat("vendor", logit_bias={"1": 2}, top_k=3, max_tokens=5)),
    "adjusted stream": CallKind(3, _chat("vendor", logprobs=True, stream=True)),
    "fallback": CallKind(4, _chat("fallback")),
    "fallback stream": CallKind(2, _chat("fallback", stream=True)),
    "retried": CallKind(2, _chat("retried")),
    "unreachable": CallKind(2, _chat("unreachable")),
    "narrow": CallKind(3, _chat("narrow")),
    "cut": CallKind(2, _chat("cut", stream=True)),
    "refused": CallKind(2, _chat("refused")),
    "tight": CallKind(2, _chat(), "tight"),
    "left": CallKind(2, _chat(text=_ENDLESS, stream=True), leave=True),
    "unknown model": CallKind(1, _chat("no-such-model")),
    "wrong value": CallKind(1, _chat(temperature="hot")),
    "no json": CallKind(1, b"{"),
    "no key": CallKind(1, _chat(), None),
    "disabled key": CallKind(1, _chat(), "gone"),
}


@dataclass
class CallCounts:
    """Counts of the callers."""

    begun: int = 0
    answered: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Complete answers by kind and status."""
    left: int = 0
    """Calls from which the caller disconnected on purpose."""
    broken: int = 0
    """Calls whose connection closed before the answer was complete."""

    @property
    def answers(self) -> int:
        """Return the number of complete answers."""
        return sum(self.answered.values())


class Load:
    """Callers that make `calls` calls, or call until they are stopped."""

    def __init__(
        self, port: int, *, callers: int = 16, calls: int | None = None, seed: int = 1, kinds: Mapping[str, CallKind] = CALL_KINDS
    ) -> None:
        self.counts = CallCounts()
        self._port = port
        self._callers = callers
        self._calls_left = calls
        self._draw = random.Random(seed)
        self._kinds = [(name, _EncodedCall(kind)) for name, kind in kinds.items()]
        self._weights = [kind.weight for kind in kinds.values()]
        self.going = asyncio.Event()
        """While cleared, no call begins."""
        self.going.set()
        self.open = 0
        """Calls in flight."""
        self.epoch = 0
        """After a change, every caller uses a new connection for its next call."""

    async def run(self, until: Callable[[], bool] = lambda: False) -> CallCounts:
        """Make calls until `calls` are made or `until()` is true. Return the counts."""
        await asyncio.gather(*(self._call_repeatedly(until) for _ in range(self._callers)))
        return self.counts

    async def _call_repeatedly(self, until: Callable[[], bool]) -> None:
        client: FaultClient | None = None
        epoch = self.epoch
        while not until():
            await self.going.wait()
            if client is not None and epoch != self.epoch:
                client.fin()
                client = None
            epoch = self.epoch
            if self._calls_left is not None:
                if self._calls_left <= 0:
                    break
                self._calls_left -= 1
            ((name, kind),) = self._draw.choices(self._kinds, self._weights)
            self.open += 1
            try:
                client = await self._call(client, name, kind)
            finally:
                self.open -= 1
        if client is not None:
            client.fin()

    async def _call(self, client: FaultClient | None, name: str, kind: _EncodedCall) -> FaultClient | None:
        """Make one call. Return the connection if it can be used again."""
        self.counts.begun += 1
        try:
            client = client or await FaultClient.connect(self._port)
            await client.post(kind.body, kind.headers)
            if kind.leave:
                await client.read_until(b"data: ")
                client.fin()
                self.counts.left += 1
                return None
            answer = await client.answer()
        except (AssertionError, OSError):
            answer = None
        if answer is None or not answer.complete:
            self.counts.broken += 1
        else:
            self.counts.answered[name, answer.status] += 1
            if answer.header("connection") != "close":
                return client
        if client is not None:
            client.fin()
        return None


class _EncodedCall:
    """A kind of call with its encoded body and headers."""

    def __init__(self, kind: CallKind) -> None:
        self.body = kind.body if isinstance(kind.body, bytes) else json.dumps(kind.body).encode()
        self.headers = [("authorization", f"Bearer {TOKENS[kind.key]}")] if kind.key else []
        self.leave = kind.leave


async def main() -> None:
    """Send traffic to a running gateway, or print a configuration for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", action="store_true", help="print a configuration for this traffic and exit")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--callers", type=int, default=16)
    options = parser.parse_args()
    if options.config:
        print(configuration("UPSTREAM"))  # noqa: T201 - the output of the program
        return
    end = time.monotonic() + options.seconds
    counts = await Load(options.port, callers=options.callers).run(lambda: time.monotonic() > end)
    for (name, status), count in sorted(counts.answered.items()):
        print(f"{count:7} {status} {name}")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
