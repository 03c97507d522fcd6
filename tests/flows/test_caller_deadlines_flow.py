"""Deadlines for request heads and bodies that stall or trickle in, and slow uploads that are served."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.faults.client import Answer, FaultClient, ask, chat, request_head
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import serving

HEADS = "callers: { headers: 600ms }\n"
BODIES = "callers: { body: 600ms }\n"
SOCKETS = 200


async def test_c7_slow_request_heads_get_408_without_delaying_other_callers(up: FaultUpstream) -> None:
    async with serving(up, HEADS) as gateway:
        head = request_head(10)

        async def trickle() -> tuple[Answer, float]:
            began = time.monotonic()
            async with await FaultClient.connect(gateway.port) as client:
                for byte in head[:20]:
                    await client.send(bytes([byte]))
                    await asyncio.sleep(0.02)
                return await client.answer(), time.monotonic() - began

        tasks = [asyncio.create_task(trickle()) for _ in range(SOCKETS)]
        statuses = [(await ask(gateway.port, chat())).status for _ in range(10)]
        results = await asyncio.gather(*tasks)
    assert statuses == [200] * 10
    refusals = {(answer.status, answer.error["code"], answer.header("connection")) for answer, _ in results}
    assert refusals == {(408, "request_timeout", "close")}
    assert all(0.6 <= took < 20 for _, took in results)  # 0.75 s on an idle machine
    assert len(up.requests) == 10


async def test_c8_idle_new_connections_are_closed(up: FaultUpstream) -> None:
    async with serving(up, HEADS) as gateway:
        clients = [await FaultClient.connect(gateway.port) for _ in range(SOCKETS)]
        assert (await ask(gateway.port, chat())).status == 200
        took = await asyncio.gather(*(client.until_closed() for client in clients))
        assert {client.received for client in clients} == {b""}
        for client in clients:
            client.fin()
    assert max(took) < 20


async def test_keep_alive_connection_may_idle_but_its_next_head_has_a_deadline(up: FaultUpstream) -> None:
    async with serving(up, HEADS) as gateway, await FaultClient.connect(gateway.port) as client:
        for _ in range(2):
            await client.post(chat())
            assert (await client.answer()).status == 200
            await asyncio.sleep(1.0)
        await client.send(b"POST /v1/chat")
        assert (await client.answer()).error["code"] == "request_timeout"
        assert await client.until_closed() < 20


@pytest.mark.parametrize("pause", [0.1, 60.0])
async def test_c9_stalled_or_trickled_body_gets_408(up: FaultUpstream, pause: float) -> None:
    async with serving(up, BODIES) as gateway, await FaultClient.connect(gateway.port) as client:
        began = time.monotonic()
        await client.send(request_head(1000) + b"{")
        sending = asyncio.create_task(_trickle(client, pause))
        answer = await client.answer()
        took = time.monotonic() - began
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await gateway.records(1)
    assert (answer.status, answer.error["code"], answer.header("connection")) == (408, "request_timeout", "close")
    assert 0.5 < took < 20
    assert up.requests == []


async def _trickle(client: FaultClient, pause: float) -> None:
    while True:
        await asyncio.sleep(pause)
        await client.send(b" ")


async def test_slow_but_steady_upload_is_served(up: FaultUpstream) -> None:
    body = json.dumps(chat(user="x" * 40_000)).encode()
    async with serving(up, "callers: { body: 3s }\n") as gateway, await FaultClient.connect(gateway.port) as client:
        await client.send(request_head(len(body)))
        began = time.monotonic()
        for start in range(0, len(body), 2000):  # 10 kB a second, so four seconds for the body
            await client.send(body[start : start + 2000])
            await asyncio.sleep(0.2)
        answer = await client.answer()
    assert time.monotonic() - began > 3.5
    assert answer.status == 200
