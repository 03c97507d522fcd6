"""10,000 calls through two gateways while Redis is killed six times and one gateway three times: the ledger agrees with the upstream."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.ledger.counters import merge_copies
from gateway.ledger.journal_files import JOURNAL_SUFFIX
from gateway.ledger.records import read_journal
from tests.faults.behaviours import chat_chunk
from tests.faults.client import FaultClient
from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import Exchange
from tests.flows.live import eventually
from tests.ledger.conftest import ENVIRON, TOKEN
from tests.running import Figure, RunningGateway
from tests.support.redis import RedisServer

CALLS = 10_000
CALLERS = 24
PROMPT, CACHED, OUTPUT = 10_000, 1_000, 100_000
"""Nano-dollars per token."""
CASE = re.compile(rb"case (\S+) (\d+) (\d+) (\d+)")
KINDS = {
    "json": 35, "stream": 35,
    "json-left": 5, "stream-left": 8, "stream-left-counting": 7,
    "500": 3, "reset-after-usage": 3, "cut": 4,
}  # fmt: skip
"""Percentage of each kind of call: 57 % are streams, in 20 % the caller disconnects, in 10 % the upstream fails."""


class Oracle:
    """Answers calls, and adds up the amounts that the upstream bills for the parts of answers that it has sent."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.at_work: dict[int, asyncio.Event] = {}
        self.sums: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()

    def bill(self, prompt: int, cached: int, output: int, reasoning: int, *, estimated: bool = False) -> None:
        """Bill one answer, complete or not."""
        cost = (prompt - cached) * PROMPT + cached * CACHED + output * OUTPUT
        self.sums.update(
            prompt_tokens=prompt,
            cached_tokens=cached,
            output_tokens=output,
            reasoning_tokens=reasoning,
            cost_nanodollars=cost,
            estimated=int(estimated),
        )

    async def answer(self, exchange: Exchange) -> None:
        """Answer as the text of the request specifies. A second attempt of the same call always succeeds."""
        found = CASE.search(exchange.request.body)
        assert found is not None, exchange.request.body
        kind, number, prompt, words = found[1].decode(), int(found[2]), int(found[3]), int(found[4])
        stream = exchange.request.json.get("stream") is True
        if number in self.seen:
            kind = "stream" if stream else "json"
        self.seen.add(number)
        self.kinds[kind] += 1
        await getattr(self, "_" + kind.replace("-", "_"))(exchange, number, prompt, words)

    async def _json(self, exchange: Exchange, number: int, prompt: int, words: int) -> None:
        message = {"role": "assistant", "content": "w " * words}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "mock", "usage": usage(prompt, words)}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        self.bill(prompt, prompt // 3, words, words // 2)
        await send_json(exchange, 200, {**body, "choices": choices})

    async def _stream(self, exchange: Exchange, number: int, prompt: int, words: int) -> None:
        self.bill(prompt, prompt // 3, words, words // 2)
        await exchange.start_stream()
        for at in range(words):
            await exchange.event(chat_chunk(f"w{at} "))
        await exchange.event(chat_chunk(finish="stop"))
        await exchange.event({**chat_chunk(), "choices": [], "usage": usage(prompt, words)})
        await exchange.event(b"[DONE]")
        await exchange.chunk(b"")

    async def _json_left(self, exchange: Exchange, number: int, prompt: int, words: int) -> None:
        self.at_work.setdefault(number, asyncio.Event()).set()
        await exchange.hang()  # no output was generated, so nothing is billed

    async def _stream_left(self, exchange: Exchange, number: int, prompt: int, words: int) -> None:
        """Report prompt tokens first, as Anthropic does; the output is what was received."""
        self.bill(prompt, 0, words, 0, estimated=True)
        await exchange.start_stream()
        await exchange.event({**chat_chunk("", role="assistant"), "usage": {"prompt_tokens": prompt, "completion_tokens": 0}})
        for at in range(words):
            await exchange.event(chat_chunk(f"w{at} "))
        await exchange.hang()

    async def _stream_left_counting(self, exchange: Exchange, number: int, prompt: int, words: int) -> None:
        """Report the usage so far in every chunk, as vLLM can."""
        self.bill(prompt, prompt // 3, words, words // 2)
        await exchange.start_stream()
        for at in range(words):
            await exchange.event({**chat_chunk(f"w{at} "), "usage": usage(prompt, at + 1)})
        await exchange.hang()

    async def _500(self, exchange: Exchange, number: int, prompt: int, words: int) -> None:
        await send_json(exchange, 500, {"error": {"message": "scripted", "type": "server_error", "param": None, "code": None}})

    async def _reset_after_usage(self, exchange: Exchange, number: int, prompt: int, words: int) -> None:
        """Bill the attempt and fail, so that the call falls back."""
        self.bill(prompt, 0, 0, 0)
        await exchange.start_stream()
        await exchange.event({**chat_chunk("", role="assistant"), "usage": {"prompt_tokens": prompt, "completion_tokens": 0}})
        await exchange.sleep(0.02)
        exchange.rst()

    async def _cut(self, exchange: Exchange, number: int, prompt: int, words: int) -> None:
        self.bill(prompt, 0, words, 0, estimated=True)
        await exchange.start_stream()
        await exchange.event({**chat_chunk("", role="assistant"), "usage": {"prompt_tokens": prompt, "completion_tokens": 0}})
        for at in range(words):
            await exchange.event(chat_chunk(f"w{at} "))
        exchange.fin()


def usage(prompt: int, output: int) -> dict[str, Any]:
    """Return a usage object with all fields."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": prompt // 3},
        "completion_tokens_details": {"reasoning_tokens": output // 2},
    }


async def send_json(exchange: Exchange, code: int, body: dict[str, Any]) -> None:
    """Send one complete answer."""
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {code} Scripted\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    await exchange.send(head.encode() + data)


async def call(port: int, oracle: Oracle, number: int, draw: random.Random) -> None:
    """Make one call and end it according to its kind."""
    kind = draw.choices(list(KINDS), list(KINDS.values()))[0]
    prompt, words = draw.randrange(3, 400), draw.randrange(2, 30)
    text = f"case {kind} {number} {prompt} {words}"
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 100}
    if kind not in ("json", "json-left", "500"):
        body["stream"] = True
    headers = [("authorization", f"Bearer {TOKEN}")]
    async with await FaultClient.connect(port) as client:
        await client.post(body, headers)
        if kind == "json-left":
            await at_work(client, oracle.at_work.setdefault(number, asyncio.Event()))
            (client.rst if number % 2 else client.fin)()
        elif kind.startswith("stream-left"):
            await client.read_until(f"w{words - 1} ".encode(), within=60)
            (client.rst if number % 2 else client.fin)()
        else:
            answer = await client.answer(within=60)
            assert answer.status == 200, answer


async def at_work(client: FaultClient, upstream: asyncio.Event) -> None:
    """Wait until the upstream has received the call. Fail with the gateway's response if that arrives first."""
    answer = asyncio.create_task(client.answer(within=60))
    arrived = asyncio.create_task(upstream.wait())
    done, waiting = await asyncio.wait((answer, arrived), return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()
    await asyncio.wait((answer, arrived))
    assert arrived in done, await answer


def config(up: FaultUpstream, redis: RedisServer, journal: Path) -> str:
    """Return a configuration whose only key has a budget that is never exhausted."""
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    prices = "{ mock: { prompt: 10, output: 100, cached: 1 } }"
    return f"""
store: {redis.url}
store_deadline: 2s
journal: {journal}
retry_budget: 1.0
providers:
  up:
    type: openai-compatible
    base_url: "{up.base_url}"
    api_key: "${{UP_KEY}}"
    prices: {prices}
    bills_aborted_prompt: false # a call that is left before any output is not billed, so that the upstream knows each amount
    cooldown: {{ failures: 1000, rate: 100% }} # one call in ten fails: enough may do so in a row
models:
  m: {{ targets: up/mock, retries: 2 }}
keys:
  app: {{ hash: "sha256:{digest}", limits: {{ spend: 900000 USD/month, concurrent: 1000 }} }}
"""


class Fleet:
    """Two gateways. The first can be killed and is then replaced by a new process."""

    def __init__(self, start: Callable[..., RunningGateway], up: FaultUpstream, redis: RedisServer, folder: Path) -> None:
        self._start = start
        self._configs = [config(up, redis, folder / name) for name in ("a", "b")]
        self.running = [start(text, ENVIRON) for text in self._configs]

    @property
    def ports(self) -> list[int]:
        """Return the ports of the gateways."""
        return [int(one.url.rsplit(":", 1)[1]) for one in self.running]

    def kill_first(self) -> None:
        """Kill the first gateway and start a successor with the same journal."""
        dead = self.running[0]
        dead.process.send_signal(signal.SIGKILL)
        dead.process.wait()
        dead.process.returncode = 0  # killed on purpose, so not a failure at the end of the test
        self.running[0] = self._start(self._configs[0], ENVIRON)


async def batch(fleet: Fleet, oracle: Oracle, numbers: range, draw: random.Random) -> None:
    """Make this many calls, CALLERS at a time."""
    left = iter(numbers)

    async def caller() -> None:
        for number in left:
            await call(fleet.ports[number % 2], oracle, number, draw)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def _reached(progress: Callable[[], float], part: float) -> bool:
    return progress() >= part


async def kill_redis(redis: RedisServer, progress: Callable[[], float], at: list[float]) -> None:
    """Kill Redis, and start it again without data, when the calls have reached each of these fractions."""
    for part in at:
        await eventually(partial(_reached, progress, part), within=300)
        redis.kill()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(redis.start)


@pytest.mark.prove
@pytest.mark.timeout(600)
async def test_g01_no_token_and_no_nano_dollar_is_lost_or_counted_twice(
    gateway: Callable[..., RunningGateway], own_redis: RedisServer, up: FaultUpstream, tmp_path: Path, figure: Figure
) -> None:
    oracle, draw = Oracle(), random.Random(1)
    up.on("/v1/chat/completions", oracle.answer)
    fleet = await asyncio.to_thread(Fleet, gateway, up, own_redis, tmp_path / "journals")
    began = time.monotonic()
    kills = asyncio.create_task(kill_redis(own_redis, lambda: len(oracle.seen) / CALLS, [0.1, 0.3, 0.4, 0.65, 0.85]))
    cuts = [0, CALLS // 5, CALLS // 2, CALLS * 4 // 5, CALLS]
    for at, (first, last) in enumerate(itertools.pairwise(cuts)):
        await batch(fleet, oracle, range(first, last), draw)
        if last < CALLS:
            await eventually(lambda: journaled_requests(tmp_path) == len(oracle.seen), within=60)
            if at == 1:
                own_redis.kill()  # now only the journal has the bookings of the first gateway
            await asyncio.to_thread(fleet.kill_first)
            if at == 1:
                await asyncio.to_thread(own_redis.start)
    await kills
    expected = {"requests": len(oracle.seen), **oracle.sums}
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        found = [await settled(client, one, expected) for one in fleet.running]
        budget = await spent(own_redis)
    figure("calls", len(oracle.seen), "")
    figure("took", time.monotonic() - began, "s")
    for name in ("prompt_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_nanodollars"):
        figure(f"{name} by the upstream", expected[name], "")
        figure(f"{name} lost or doubled", max(abs(one[name] - expected[name]) for one in found), "")
    assert found == [expected, expected]
    assert budget == expected["cost_nanodollars"]
    assert len(oracle.seen) == CALLS
    assert set(oracle.kinds) == set(KINDS)


def journaled_requests(folder: Path) -> int:
    """Return the number of calls that are booked in all journals below a folder."""
    journals = [read_journal(path.read_bytes()) for path in folder.rglob(f"*{JOURNAL_SUFFIX}")]
    copies = [(incarnation, row, counts) for journal in journals for (incarnation, row), counts in journal.rows.items()]
    return sum(counts.requests for counts in merge_copies(copies).values())


async def settled(client: httpx.AsyncClient, one: RunningGateway, expected: dict[str, int]) -> dict[str, int]:
    """Return the usage that a gateway reports, waiting a while for the expected values."""
    found: dict[str, int] = {}
    for _ in range(600):
        answer = (await client.get(one.admin_url + "/admin/usage?by=key")).json()
        found = {name: answer["total"][name] for name in expected}
        if found == expected and answer["source"] == "store":
            break
        await asyncio.sleep(0.1)
    return found


async def spent(redis: RedisServer) -> int:
    """Return the settled amount of the shared budget."""
    from gateway.store.resp import connect

    console = await connect(redis.address, lambda: None)
    try:
        return int(await console.execute("HGET", "lockgate:{caller}:key:app:spend:month", "t"))
    finally:
        console.abort()
