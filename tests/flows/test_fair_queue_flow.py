"""While a target is full, its queue serves keys by their priorities, whatever the number of their calls."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from tests.faults.behaviours import canned
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, one_model, post_chat
from tests.flows.live import Live, eventually, live
from tests.flows.operator import bearer, digest

ENVIRON = {"UP_KEY": CREDENTIAL}
TOKENS = {name: f"lg-{name}-key" for name in ("flood", "quiet", "loud", "open")}
KEYS = (
    "teams: {batch: {priority: 20}}\nkeys:\n"
    f"  flood: {{hash: '{digest(TOKENS['flood'])}'}}\n"
    f"  quiet: {{hash: '{digest(TOKENS['quiet'])}', priority: 100}}\n"
    f"  loud: {{hash: '{digest(TOKENS['loud'])}', priority: 300}}\n"
    f"  open: {{hash: '{digest(TOKENS['open'])}', team: batch}}\n"
)


def answer(output: int) -> bytes:
    """Return an answer with this number of output tokens."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 8, "completion_tokens": output, "total_tokens": 8 + output}
    return json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


class Queued:
    """A gateway with a target that accepts one call at a time. The first call ends when `release` is set."""

    def __init__(self, gateway: Live, up: FaultUpstream, client: httpx.AsyncClient) -> None:
        self.gateway, self.up, self.client = gateway, up, client
        self.release = asyncio.Event()
        self.ended: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

        async def hold(exchange: Any) -> None:
            await self.release.wait()
            await canned(answer(100))(exchange)

        up.once(hold)

    @property
    def waiting(self) -> int:
        """Return the number of calls in the queue."""
        return sum(each.waiting for each in self.gateway.gateway.health.all())

    async def send(self, key: str, calls: int) -> None:
        """Send calls, and return when all of them wait in the queue."""

        async def call() -> None:
            reply = await post_chat(self.client, self.gateway, headers=bearer(TOKENS[key]), max_tokens=100)
            self.ended.append(key if reply.status_code == 200 else f"{key} {reply.status_code}")

        before = self.waiting
        self.tasks += [asyncio.create_task(call()) for _ in range(calls)]
        await eventually(lambda: self.waiting == before + calls)

    async def finish(self) -> list[str]:
        """Let the calls run, and return their keys in the order of their answers."""
        self.release.set()
        await asyncio.gather(*self.tasks)
        return self.ended


def limited(up: FaultUpstream, queue: int = 100) -> str:
    return one_model(up, KEYS).replace("type:", f"max_concurrent: 1, max_queue: {queue}, max_wait: 60s, type:")


async def test_a_flood_by_one_key_costs_another_key_no_more_than_its_share(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, canned(answer(100)))
    async with live(limited(up), environ=ENVIRON) as gateway:
        queue = Queued(gateway, up, client)
        queue.tasks.append(asyncio.create_task(_first(queue)))
        await eventually(lambda: len(up.requests) == 1)
        await queue.send("flood", 40)
        await queue.send("quiet", 5)
        targets = (await client.get(gateway.admin_url + "/admin/targets")).json()["targets"]
        assert targets[0]["waiting_by_key"] == {"flood": 40, "quiet": 5}
        metrics = (await client.get(gateway.admin_url + "/metrics")).text
        assert 'lockgate_target_waiting_keys{target="up/mock"} 2' in metrics
        ended = (await queue.finish())[1:]
        assert ended[:12].count("quiet") == 5, ended[:12]
        assert ended.count("flood") == 40


async def test_priorities_of_keys_and_teams_are_shares_of_the_tokens(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, canned(answer(100)))
    async with live(limited(up), environ=ENVIRON) as gateway:
        queue = Queued(gateway, up, client)
        queue.tasks.append(asyncio.create_task(_first(queue)))
        await eventually(lambda: len(up.requests) == 1)
        for key in ("quiet", "open", "loud"):
            await queue.send(key, 20)
        ended = (await queue.finish())[1:]
        first = [ended[:21].count(key) for key in ("loud", "quiet", "open")]  # 300 : 100 : 20
        assert 13 <= first[0] <= 17, first
        assert 4 <= first[1] <= 6, first
        assert 1 <= first[2] <= 2, first


async def test_a_full_queue_rejects_calls_of_the_lowest_priority(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, canned(answer(100)))
    async with live(limited(up, queue=6), environ=ENVIRON) as gateway:
        queue = Queued(gateway, up, client)
        queue.tasks.append(asyncio.create_task(_first(queue)))
        await eventually(lambda: len(up.requests) == 1)
        await queue.send("open", 6)
        before = len(queue.ended)
        queue.tasks += [asyncio.create_task(_call(queue, "loud")) for _ in range(4)]
        await eventually(lambda: len(queue.ended) == before + 4)
        assert queue.ended[-4:] == ["open 503"] * 4
        assert (await queue.finish()).count("loud") == 4
        assert gateway.count("lockgate_shed", "up/mock") == 4


async def _first(queue: Queued) -> None:
    await _call(queue, "flood")


async def _call(queue: Queued, key: str) -> None:
    reply = await post_chat(queue.client, queue.gateway, headers=bearer(TOKENS[key]))
    queue.ended.append(key if reply.status_code == 200 else f"{key} {reply.status_code}")
