"""Many calls in flight, at once and in rounds: each has one answer or is left, one log line and one row, and leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import json
import random
from collections import Counter
from typing import Any

import pytest

from gateway.fast.fast_call import FastCall
from gateway.http.rounds import MAX_STEPS
from gateway.store.limit import NANO_PER_USD
from tests.fast.test_hand_over import in_lane
from tests.faults.behaviours import END, SSE, chat_chunk, chunked, completion
from tests.faults.client import CHAT_PATH, FaultClient, chat, request_head
from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import Exchange
from tests.flows.live import Live, eventually, live
from tests.support.redis import RedisServer

CALLERS, CALLS, SEED = 200, 10, 1
pytestmark = pytest.mark.usefixtures("steps")


async def test_a_caller_that_has_its_answer_has_freed_its_slot_although_many_streams_end_together(up: FaultUpstream) -> None:
    streams, release = 4 * MAX_STEPS, asyncio.Event()

    async def end_together(exchange: Exchange) -> None:
        await exchange.send(SSE + chunked(b"data: " + json.dumps(chat_chunk("a")).encode() + b"\n\n"))
        await release.wait()
        await exchange.send(chunked(b"data: " + json.dumps(chat_chunk(finish="stop")).encode() + b"\n\ndata: [DONE]\n\n") + END)

    up.on(CHAT_PATH, end_together)
    models = "".join(f"  m{number}: {{ targets: up/mock, limits: {{ concurrent: 1 }} }}\n" for number in range(streams))
    yaml = f"providers:\n  up: {{ type: openai-compatible, base_url: '{up.base_url}', max_connections: 1000 }}\nmodels:\n{models}"
    async with live(yaml) as gateway:


        async def call_again_if_last(model: str) -> list[int]:
            async with await FaultClient.connect(gateway.port) as client:
                await client.post(chat(model, user=model, stream=True))
                answers = [(await client.answer()).status]
                if model == up.requests[streams - 1].json["user"]:
                    await client.post(chat(model, user=model, stream=True))
                    answers.append((await client.answer()).status)
                return answers

        callers = [asyncio.create_task(call_again_if_last(f"m{number}")) for number in range(streams)]
        await eventually(lambda: gateway.gateway.metrics.in_flight == streams and len(up.requests) == streams)
        release.set()
        answers = Counter(status for each in await asyncio.gather(*callers) for status in each)
        assert answers == {200: streams + 1}
        await gateway.records(streams + 1)


class Upstream:
    """Answers after random pauses: at once or in pieces, and with a connection that it keeps or closes. One in twenty answers breaks."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        draw = self._draw
        if draw.random() < 0.7:
            await exchange.sleep(draw.random() / 50)
        is_stream, fault = exchange.request.json.get("stream", False), draw.random()
        words = [chat_chunk("", role="assistant"), *[chat_chunk("x" * 100)] * draw.randrange(1, 30), chat_chunk(finish="stop")]
        body = b"".join([b"data: %b\n\n" % json.dumps(word).encode() for word in words]) + b"data: [DONE]\n\n"
        if not is_stream:
            body = completion("y" * draw.choice((1, 1000, 300_000)))
        kind = b"text/event-stream" if is_stream else b"application/json"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (kind, len(body))
        data = head + body
        cut = draw.randrange(1, len(data)) if draw.random() < 0.5 else 0
        for piece in (data[:cut], data[cut:]) if cut else (data,):
            await exchange.send(piece)
            if fault < 0.05 and cut:
                exchange.rst() if fault < 0.02 else exchange.fin()
            await exchange.sleep(draw.random() / 100 if cut else 0)
        if 0.05 < fault < 0.2:
            exchange.fin()


class Callers:
    """Callers that behave in random ways. `sent` is the number of complete requests, `answers` are the ids and statuses of the answers."""

    def __init__(self, gateway: Live, seed: int) -> None:
        self._gateway = gateway
        self._seed = seed
        self.sent = self.left = 0
        self.answers: list[tuple[str | None, int, bool]] = []

    async def run(self, number: int, calls: int) -> None:
        """Make calls as one caller. Every second caller leaves some of its calls."""
        draw = random.Random(self._seed * 1000 + number)
        client: FaultClient | None = None
        while calls > 0:
            client = client or await FaultClient.connect(self._gateway.port, 4096 if draw.random() < 0.1 else None)
            body = json.dumps(chat(draw.choice("mmmd"), stream=draw.random() < 0.4)).encode()
            request, action = request_head(len(body)) + body, draw.random()
            pipelined = 2 if action < 0.1 else 1
            calls -= pipelined
            try:
                await self._send(client, request * pipelined, draw)
            except (ConnectionResetError, BrokenPipeError):
                client.fin()
                client = None
                continue
            self.sent += pipelined
            if number % 2 and draw.random() < 0.4:
                await asyncio.sleep(draw.random() / 50 if draw.random() < 0.8 else 0)
                self.left += pipelined
                client.rst() if draw.random() < 0.5 else client.fin()
                client = None
                continue
            closes = action > 0.9
            if closes:
                client.half_close()
            for _ in range(pipelined):
                while (answer := await client.answer()).status == 100:
                    pass  # a probe of a caller that has closed its writing side
                self.answers.append((answer.header("x-request-id"), answer.status, answer.complete))
                closes = closes or not answer.complete or answer.header("connection") == "close"
            if closes:
                client.fin()
                client = None
        if client is not None:
            client.fin()

    async def _send(self, client: FaultClient, data: bytes, draw: random.Random) -> None:
        if draw.random() < 0.3:
            cut = draw.randrange(1, len(data))
            await client.send(data[:cut])
            await asyncio.sleep(draw.random() / 30)
            data = data[cut:]
        await client.send(data)


def configuration(up: FaultUpstream, store: str) -> str:
    """Return a configuration with a model with one target, and one that balances by load between two targets."""
    limits = "limits: { concurrent: 1000, requests: 1M/min, tokens: 1000M/min, spend: 1000000 USD/day }"
    provider = f'type: openai-compatible, base_url: "{up.base_url}", prices: {{ mock: {{ prompt: 1, output: 1 }} }}'
    every = f"{provider}, cooldown: {{ failures: 1000 }}"
    return f"""{store}
providers:
  up: {{ {every}, max_connections: 60, limits: {{ concurrent: 1000 }} }}
  queue: {{ {every}, max_concurrent: 20, max_queue: 1000, max_wait: 60s }}
models:
  m: {{ targets: up/mock, {limits} }}
  d: {{ targets: {{ up/mock: 1, queue/mock: 1 }}, balance: least_busy, {limits} }}
"""


@pytest.mark.parametrize("store", ["memory", "redis"])
async def test_every_call_is_answered_or_left_and_accounted_for_once(
    up: FaultUpstream, own_redis: RedisServer, store: str, entered: list[FastCall]
) -> None:
    up.on(CHAT_PATH, Upstream(SEED).answer)
    async with live(configuration(up, f"store: {own_redis.url}\nstore_deadline: 10s" if store == "redis" else "")) as gateway:
        callers = Callers(gateway, SEED)
        async with asyncio.TaskGroup() as running:
            for number in range(CALLERS):
                running.create_task(callers.run(number, CALLS))
            for _ in range(3):
                await asyncio.sleep(0.2)
                gateway.path.write_text(gateway.path.read_text() + "# a change\n")
                await gateway.reloader.reload()
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        await eventually(lambda: len(gateway.lines()) == gateway.count("lockgate_requests"))
        limiter = limiter_of(gateway)
        await eventually(lambda: (limiter._leases, limiter._open) == ({}, {}))
        check_records(gateway, callers)
        check_nothing_in_use(gateway)
        assert len(entered) > callers.sent / 2
        entered.clear()
        gc.collect()
        assert in_lane() == []


def check_records(gateway: Live, callers: Callers) -> None:
    """Check that each answer has one log line, and that the rows, the budgets and the lines have the same cost."""
    lines, counters = gateway.lines(), gateway.gateway.ledger.counters
    logged, answered = [line["id"] for line in lines], [id for id, _, _ in callers.answers]
    assert len(set(logged)) == len(logged)
    assert len(set(answered)) == len(answered)
    assert set(answered) <= set(logged)
    assert callers.sent - callers.left <= len(lines) <= callers.sent
    assert {status for _, status, _ in callers.answers} <= {200, 502}
    counts = [counters.own_counts(row) for _, row, _ in counters.all_copies()]
    is_answered = [line["status"] == 200 for line in lines]
    assert sum(is_answered) <= sum(each.requests for each in counts) <= len(lines)
    cost = round(sum(line.get("cost_usd", 0) for line in lines) * NANO_PER_USD)
    assert sum(each.cost for each in counts) == cost
    assert sum(limiter_of(gateway).settled_spend._own.values()) == cost


def check_nothing_in_use(gateway: Live) -> None:
    """Check that no call holds a place at a target."""
    runtime = gateway.gateway
    assert [name for name, each in runtime.latencies.items() if each.in_flight] == []
    health = runtime.health.all()
    assert [each for each in health if each.in_flight or each.waiting or each.probe_in_flight] == []
    assert [each.bulkhead.running for each in health if each.bulkhead is not None and each.bulkhead.running] == []


def limiter_of(gateway: Live) -> Any:
    """Return the limiter of a gateway."""
    limits = gateway.gateway.generation.limits
    assert limits is not None
    return limits.limiter
