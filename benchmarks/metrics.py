"""Measure the cost of recording a call, compared with prometheus-client's labels(), and how long a scrape blocks the event loop.

python -m benchmarks.metrics
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram

import providers
from gateway.call import Attempt, Call
from gateway.keys.virtual_key import VirtualKey
from gateway.metrics import Metrics, text
from gateway.metrics.declarations import COUNTERS, HISTOGRAMS, MAX_SERIES, SOURCES
from gateway.telemetry.call_metrics import CallMetrics
from providers.base import Target, Usage

CALLS, ROUNDS, SCRAPES = 3000, 9, 15
BOTH = {"model": "smart", "target": "openai/gpt-4o"}
SERVER = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_request_model": "smart"}
CLIENT = {**SERVER, "gen_ai_request_model": "gpt-4o"}


class Cost(NamedTuple):
    """CPU time of recording a call, in microseconds, with this package and with prometheus-client, and figures of a scrape.

    `stall` is the longest time in ms for which a scrape blocks the event loop, and `scrape` is its duration in ms.
    `turns` is the number of turns of the event loop during a scrape.
    """

    ours: float
    theirs: float
    updates: int
    series: int
    stall: float
    scrape: float
    turns: float


def a_call(model: str = "smart", target: str = "openai/gpt-4o", key: str = "team") -> Call:
    """Return a call that is answered with a complete stream of 200 tokens."""
    call = Call("chat", "/v1/chat/completions")
    provider, _, name = target.partition("/")
    attempt = Attempt(Target(target, provider, providers.get("openai"), name, "http://127.0.0.1/v1"), ms=900.0)
    attempt.usage, attempt.cost = Usage(900, 200), 4_250_000
    attempt.sent_at, attempt.ended_at = call.started + 0.0003, call.started + 0.9
    call.model, call.status, call.stream, call.stream_end = model, 200, True, "ok"
    call.key, call.attempts, call.answered_by = VirtualKey(key), [attempt], attempt
    call.read_at, call.first_byte_at = call.started + 0.0001, call.started + 0.2
    return call


class Theirs:
    """The same metrics in prometheus-client, with a label lookup at each update."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._counters = {name: Counter(name, text, labels, registry=registry) for name, (text, labels) in COUNTERS.items()}
        self._histograms = {
            name: Histogram(name, view.text, [label for label, _ in view.labels], registry=registry, buckets=SOURCES[view.source].buckets)
            for name, view in HISTOGRAMS.items()
        }
        self.updates = 0

    def _count(self, name: str, by: float = 1, /, **labels: str) -> None:
        self.updates += 1
        self._counters[name].labels(**labels).inc(by)

    def _observe(self, name: str, value: float, labels: dict[str, str]) -> None:
        self.updates += 1
        self._histograms[name].labels(**labels).observe(value)

    def record(self, call: Call, ended: float) -> None:
        """Record one call."""
        attempt = call.attempts[0]
        assert attempt.usage is not None
        prompt, output = attempt.usage.prompt_tokens, attempt.usage.completion_tokens
        self._count("lockgate_requests", **BOTH, provider="openai", operation="chat", status="2xx", code="ok")
        self._count("lockgate_tokens", prompt, **BOTH, kind="prompt", source="reported")
        self._count("lockgate_tokens", output, **BOTH, kind="output", source="reported")
        self._count("lockgate_cost_usd", (attempt.cost or 0) * 1e-9, **BOTH)
        self._count("lockgate_key_requests", key="team", team="none", status="2xx")
        self._count("lockgate_key_tokens", prompt, key="team", team="none", kind="prompt")
        self._count("lockgate_key_tokens", output, key="team", team="none", kind="output")
        self._count("lockgate_key_cost_usd", (attempt.cost or 0) * 1e-9, key="team", team="none")
        self._count("lockgate_stream_end", target="openai/gpt-4o", reason="ok")
        first, each = call.first_byte_at - call.started, (attempt.ended_at - call.first_byte_at) / (output - 1)
        self._observe("lockgate_request_duration_seconds", ended - call.started, BOTH)
        self._observe("lockgate_time_to_first_token_seconds", first, BOTH)
        self._observe("lockgate_time_per_output_token_seconds", each, BOTH)
        self._observe("lockgate_overhead_seconds", attempt.sent_at - call.read_at, BOTH)
        self._observe("gen_ai_server_request_duration_seconds", ended - call.started, {**SERVER, "error_type": ""})
        self._observe("gen_ai_server_time_to_first_token_seconds", first, SERVER)
        self._observe("gen_ai_server_time_per_output_token_seconds", each, SERVER)
        self._observe("gen_ai_client_operation_duration_seconds", attempt.ms / 1000, {**CLIENT, "error_type": ""})
        self._observe("gen_ai_client_token_usage", prompt, {**CLIENT, "gen_ai_token_type": "input"})
        self._observe("gen_ai_client_token_usage", output, {**CLIENT, "gen_ai_token_type": "output"})


def per_call(record: Callable[[Call, float], None], call: Call) -> float:
    """Return the CPU time of recording one call in microseconds: the best of several rounds, because other load only adds time."""
    ended, found = call.started + 0.9005, []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            record(call, ended)
        found.append((time.process_time() - began) / CALLS * 1e6)
    return min(found)


def full() -> Metrics:
    """Return metrics with the maximum number of series."""
    metrics = Metrics([f"m{at}" for at in range(30)], [f"openai/t{at}" for at in range(30)], {"openai": "openai"})
    record = CallMetrics(metrics).record
    for at in range(3000):
        call = a_call(f"m{at % 30}", f"openai/t{at * 7 % 30}", f"key-{at % 210}")
        record(call, call.started + 1)
    return metrics


async def stalls(metrics: Metrics) -> tuple[float, float, float]:
    """Return medians: the longest block of the event loop and the duration of a scrape in ms, and the number of turns of the loop."""
    worst, took, turned = [], [], []
    for _ in range(SCRAPES):
        scraping = asyncio.create_task(scrape(metrics))
        gap, turns, before = 0.0, 0, time.perf_counter()
        while not scraping.done():
            await asyncio.sleep(0)
            now = time.perf_counter()
            gap, turns, before = max(gap, now - before), turns + 1, now
        turned.append(turns)
        worst.append(gap * 1000)
        took.append(await scraping * 1000)
        await asyncio.sleep(0.01)
    return statistics.median(worst), statistics.median(took), statistics.median(turned)


async def scrape(metrics: Metrics) -> float:
    """Scrape as the admin listener does, and return the duration in seconds."""
    began = time.perf_counter()
    await asyncio.to_thread(text.classic, metrics.merged_snapshot())
    return time.perf_counter() - began


def measure() -> Cost:
    """Run all measurements and return their results."""
    call, ours, theirs = a_call(), Metrics(["smart"], ["openai/gpt-4o"], {"openai": "openai"}), Theirs()
    theirs.record(call, call.started + 1)
    updates = theirs.updates
    metrics = full()
    series = sum(not line.startswith(b"#") for line in metrics.expose().splitlines())
    stall, took, turns = asyncio.run(stalls(metrics))
    return Cost(per_call(CallMetrics(ours).record, call), per_call(theirs.record, call), updates, series, stall, took, turns)


def main() -> None:
    """Print the results."""
    found = measure()
    print(f"one call, {found.updates} updates: {found.ours:.2f} us; prometheus-client's labels() {found.theirs:.1f} us")
    print(f"ratio {found.ours / found.theirs:.1%}")
    print(f"a scrape of {found.series} series (at most {MAX_SERIES}): {found.scrape:.1f} ms, event loop blocked {found.stall:.1f} ms")


if __name__ == "__main__":
    main()
