"""Property tests: the fast lane and the pipeline give the same answers, records and counts."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from gateway.fast.fast_call import FastCall
from tests.fast.conftest import Pair, StartPair
from tests.faults.client import Answer, ask
from tests.faults.upstream_server import BEHAVIOURS, FaultUpstream
from tests.flows.live import Live, eventually
from tests.support.search import examples

pytestmark = pytest.mark.usefixtures("steps")

SLOW = frozenset({
    "infinite", "drip-head", "drip-body", "endless-event", "big-header", "endless-interim", "silent", "silent-after-head",
    "stall-mid-stream",
})  # fmt: skip
"""Behaviours that do not end, end with a timeout or send a lot of data. The fault tests cover them."""
TIMED = frozenset({"401", "402", "404", "429", "429-quota"})
"""Behaviours after which the target is in cooldown for a time."""
VARYING = re.compile(
    rb'(?:req|resp|msg|rs|fc)_[0-9a-f_]+|(?:chat)?cmpl-[0-9a-f-]+|"(?:created|\w*(?:ms|_at))":[0-9.]+|\b\d+ (?:ms|s)\b|in [0-9.]+m?s'
)
"""Parts of an answer that differ between any two calls: ids and times."""
VARYING_HEADERS = frozenset({"date", "content-length", "server-timing", "retry-after", "retry-after-ms"})
VARYING_FIELDS = frozenset({"time", "ms", "gateway_ms", "first_byte_ms", "sent_ms", "head_ms", "retries_ms", "queue_ms", "id"})
TEXTS = ("say something", "#chunks=3#", "#chunks=40#", "é ☂ \U0001f600", "x" * 3000, "")
SCHEMA = {"name": "s", "schema": {"type": "object", "required": ["a"]}}
FIELDS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("temperature", (0, 0.5, 3, "hot")),
    ("max_tokens", (1, 16, -1)),
    ("n", (1, 2)),
    ("stop", ("x", [])),
    ("user", ("u1",)),
    ("response_format", ({"type": "json_object"}, {"type": "text"}, {"type": "json_schema", "json_schema": SCHEMA})),
    ("tools", ([], [{"type": "function", "function": {"name": "f", "parameters": {}}}])),
    ("stream_options", ({"include_usage": True}, {})),
    ("seed", (7, None)),
    ("unknown_field", (1,)),
    ("logprobs", (True,)),
    ("metadata", ({"a": "b"},)),
)
HEADERS = (("x-request-id", "mine"), ("x-gateway-strict", "true"), ("traceparent", "00-1-2-01"))


COOLDOWN = "{ failures: 1000, rate: 100% }"


def configuration(up: FaultUpstream, more: str = "") -> str:
    """Return a configuration with one model for each behaviour of the upstream, with and without a second target."""
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", cooldown: {COOLDOWN} }}
  vllm: {{ type: vllm, base_url: "{up.base_url}", cooldown: {COOLDOWN} }}
models:
  "alone-*": {{ targets: up/*, limits: {{ concurrent: 100 }} }}
  "two-*": {{ targets: [up/*, vllm/mock] }}
  "vllm-*": vllm/*
{more}"""


def call(draw: random.Random, behaviours: list[str]) -> tuple[bytes, list[tuple[str, str]]]:
    """Return the body and the headers of one call."""
    model = draw.choice(("alone-", "two-", "vllm-")) + draw.choice([*behaviours, *["mock"] * len(behaviours)])
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": draw.choice(TEXTS)}]}
    for name, values in FIELDS:
        if draw.random() < 0.12:
            body[name] = draw.choice(values)
    if draw.random() < 0.5:
        body["stream"] = True
    names = list(body)
    draw.shuffle(names)
    body = {name: body[name] for name in names}
    separators = draw.choice(((",", ":"), (", ", ": ")))
    text = json.dumps(body, separators=separators, indent=draw.choice((None, None, 1)))
    return text.encode(), [header for header in HEADERS if draw.random() < 0.05]


def comparable(answer: Answer) -> tuple[object, ...]:
    """Return an answer without the parts that differ between any two calls."""
    assert answer.header("content-length") in (None, str(len(answer.body))) or not answer.complete
    headers = [(name, VARYING.sub(b"~", value.encode())) for name, value in answer.headers if name not in VARYING_HEADERS]
    return answer.status, headers, VARYING.sub(b"~", answer.body), answer.complete


def without_times(value: Any) -> Any:
    """Return a log record without its ids and times."""
    if isinstance(value, dict):
        return {name: without_times(each) for name, each in value.items() if name not in VARYING_FIELDS}
    if isinstance(value, list):
        return [without_times(each) for each in value]
    return VARYING.sub(b"~", value.encode()).decode() if isinstance(value, str) else value


def counts(gateway: Live) -> dict[str, Any]:
    """Return the counters of a gateway, except the one that depends on the pieces in which the network delivers a stream."""
    gateway.gateway.metrics.refresh()  # counters of connections are read from the transport
    counters = gateway.gateway.metrics.counts
    return {name: dict(sorted(values.items())) for name, values in counters.items() if name != "lockgate_sse_normalised"}


@pytest.mark.search
async def test_both_ways_give_the_same_answers_records_and_counts(
    start_pair: StartPair, up: FaultUpstream, entered: list[FastCall]
) -> None:
    pair = await start_pair(configuration(up))
    draw = random.Random(1)
    behaviours = sorted(BEHAVIOURS.keys() - SLOW - TIMED)
    number = examples(300)
    for _ in range(number):
        body, headers = call(draw, behaviours)
        answers = [await ask(gateway.port, body, headers) for gateway in pair.both]
        assert comparable(answers[0]) == comparable(answers[1]), (body, headers)
        await settled(pair)
    await assert_same_state(pair, number)
    assert len(entered) > number / 3


async def settled(pair: Pair) -> None:
    """Wait until both gateways have accounted for their calls, so that the records have the order of the calls."""
    await eventually(lambda: not any(gateway.gateway.metrics.in_flight for gateway in pair.both))


async def assert_same_state(pair: Pair, number: int) -> None:
    """Check that both gateways have recorded and counted the same, and have nothing in flight."""
    records = [await gateway.records(number) for gateway in pair.both]
    for fast, slow in zip(*records, strict=True):
        assert without_times(fast) == without_times(slow)
    assert counts(pair.fast) == counts(pair.slow)
    for gateway in pair.both:
        assert len(gateway.gateway.sweeper) == 0
        assert gateway.gateway.generation.pipeline.calls == 0
