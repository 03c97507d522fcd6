"""Several upstream requests of one call for embeddings: at most a few at a time, together within one time limit."""

from __future__ import annotations

import asyncio

import httpx

from gateway.response.embeddings_response import MAX_PARALLEL_REQUESTS
from tests.faults.upstream_server import Exchange, FaultUpstream
from tests.flows.conftest import serving
from tests.providers.strict_embeddings import script, vector_of


async def test_few_requests_run_at_the_same_time(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    running = most = 0
    full = asyncio.Event()
    answer = script("siati")

    async def counted(exchange: Exchange) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == MAX_PARALLEL_REQUESTS:
            full.set()
        await full.wait()
        await answer(exchange)
        running -= 1

    up.on("/v1/embeddings", counted)
    texts = [f"t{number}" for number in range(32 * 20)]
    async with serving(up, kind="siati") as gateway:
        got = await client.post(gateway.base_url + "/embeddings", json={"model": "m", "input": texts})
    assert [each["embedding"] for each in got.json()["data"]] == [vector_of(text) for text in texts]
    assert len(up.requests) == 20
    assert most == MAX_PARALLEL_REQUESTS
