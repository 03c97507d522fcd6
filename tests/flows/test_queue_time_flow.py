"""The wait for a slot of a target (`max_concurrent`) is shown separately from the time at the upstream, in every API."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx

from tests.faults.behaviours import canned, completion
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, RECEIPT, one_model, post_as, post_chat
from tests.flows.live import Live, eventually, live
from tests.support.apis import CHAT_API, CONVERSATIONS, Api

ENVIRON = {"UP_KEY": CREDENTIAL}
HELD_S = 0.03


def limited(up: FaultUpstream, more: str = "") -> str:
    """Return a configuration whose target takes one call at a time."""
    return one_model(up, more).replace("type:", "max_concurrent: 1, type:")


async def queued(gateway: Live, up: FaultUpstream, client: httpx.AsyncClient, api: Api = CHAT_API, **more: Any) -> list[httpx.Response]:
    """Return the answers of a call that is sent at once and of one that waits HELD_S for it."""
    release, before = asyncio.Event(), len(up.requests)

    async def hold(exchange: Any) -> None:
        await release.wait()
        await canned(completion("hi"))(exchange)

    if not more.get("stream"):
        up.once(hold)
    first = asyncio.create_task(post_as(api, client, gateway, headers=RECEIPT))
    await eventually(lambda: len(up.requests) > before)
    second = asyncio.create_task(post_as(api, client, gateway, headers=RECEIPT))
    health = next(each for each in gateway.gateway.health.all() if each.name == "up/mock")
    await eventually(lambda: health.waiting == 1)
    await asyncio.sleep(HELD_S)
    release.set()
    return [await first, await second]


async def test_wait_in_the_queue_is_shown_in_receipt_header_log_and_metrics(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(limited(up), environ=ENVIRON) as gateway:
        for api in CONVERSATIONS:
            first, second = await queued(gateway, up, client, api)
            receipts = [api.read(answer).receipt or {} for answer in (first, second)]
            assert [each["timings"]["queue_ms"] > 0 for each in receipts] == [False, True], api.name
            assert receipts[1]["time_info"]["queue_time"] >= HELD_S
            assert receipts[1]["attempts"][0]["queue_ms"] >= HELD_S * 1000
            assert "queue_ms" not in receipts[0]["attempts"][0]
            assert "queue;" not in first.headers["server-timing"]
            told = re.match(r"gateway;dur=([\d.]+), queue;dur=([\d.]+), upstream;dur=([\d.]+)$", second.headers["server-timing"])
            assert told is not None
            assert float(told[2]) >= HELD_S * 1000
        records = await gateway.records(2 * len(CONVERSATIONS))
        waits = [record.get("queue_ms", 0.0) for record in records]
        assert [wait > 0 for wait in waits] == [False, True] * len(CONVERSATIONS)
        for record, wait in zip(records, waits, strict=True):
            assert record["ms"] >= record["gateway_ms"] + wait + record["attempts"][0]["ms"] - 0.05
        async with httpx.AsyncClient(trust_env=False) as admin:
            text = (await admin.get(gateway.admin_url + "/metrics")).text
        assert f'lockgate_queue_seconds_count{{target="up/mock"}} {len(CONVERSATIONS)}' in text


async def test_earlier_attempts_are_neither_gateway_time_nor_queue_time(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    provider = f'{{ type: vllm, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}'
    yaml = f"providers: {{ a: {provider}, b: {provider} }}\nmodels: {{ m: [a/503, b/mock] }}\n"

    async def fail_late(exchange: Any) -> None:
        await asyncio.sleep(HELD_S)
        await canned(b'{"error": {"message": "down"}}', 503)(exchange)

    up.on(lambda request: request.model == "503", fail_late)
    async with live(yaml, environ=ENVIRON) as gateway:
        for stream in (False, True):
            answer = await post_chat(client, gateway, stream=stream, headers=RECEIPT)
            timing = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"]))
            assert list(timing) == ["gateway", "retries", "upstream"]
            assert float(timing["retries"]) >= HELD_S * 1000
        for record in await gateway.records(2):
            assert "queue_ms" not in record
            assert record["retries_ms"] >= record["attempts"][0]["ms"] - 0.05
            assert record["gateway_ms"] + record["retries_ms"] <= record["first_byte_ms"]


async def test_caller_that_disconnects_in_the_queue_was_not_at_the_upstream(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    release = asyncio.Event()

    async def hold(exchange: Any) -> None:
        await release.wait()
        await canned(completion("hi"))(exchange)

    up.once(hold)
    async with live(limited(up), environ=ENVIRON) as gateway:
        first = asyncio.create_task(post_chat(client, gateway))
        await up.wait_for(lambda up: len(up.requests) == 1)
        second = asyncio.create_task(post_chat(client, gateway))
        health = next(each for each in gateway.gateway.health.all() if each.name == "up/mock")
        await eventually(lambda: health.waiting == 1)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await eventually(lambda: health.waiting == 0)
        release.set()
        await first
        records = await gateway.records(2)
    (left,) = [record for record in records if record.get("aborted")]
    assert left["aborted"] == "queue"
    (attempt,) = left["attempts"]
    assert attempt["ms"] == 0
    assert attempt["queue_ms"] > 0
