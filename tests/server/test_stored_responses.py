"""The paths of stored responses: prefixes, methods, and unsupported requests for a stored response."""

from __future__ import annotations

import httpx

from gateway.server.stored_responses import StoredResponses
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import serving
from tests.flows.test_responses_flow import post


async def test_stored_response_has_its_paths_under_every_prefix(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        stored = (await post(client, gateway, store=True)).json()
        for prefix in ("/v1", "", "/openai/v1"):
            url = f"{gateway.url}{prefix}/responses/{stored['id']}"
            assert (await client.get(url)).json() == stored
            assert (await client.get(f"{url}/input_items")).json()["object"] == "list"
        streamed = await client.get(url, params={"stream": "true"})
        cancelled = await client.post(f"{url}/cancel")
        wrong = await client.put(url)
        deleted = await client.delete(url)
    assert (streamed.status_code, streamed.json()["error"]["param"]) == (400, "stream")
    assert (cancelled.status_code, cancelled.json()["error"]["param"]) == (400, "background")
    assert (wrong.status_code, set(wrong.headers["allow"].split(", "))) == (405, {"GET", "HEAD", "DELETE"})
    assert deleted.status_code == 200
    assert all(hasattr(StoredResponses, name) for name in ("response", "input_items", "cancel"))


async def test_unknown_ids_are_not_found(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        for id in ("resp_1", "resp_" + "0" * 32, "chatcmpl-1", "x" * 5000, "..%2f..", "resp_%00"):
            url = f"{gateway.base_url}/responses/{id}"
            answers = [
                await client.get(url),
                await client.delete(url),
                await client.get(f"{url}/input_items"),
                await client.post(f"{url}/cancel"),
            ]
            assert [answer.status_code for answer in answers] == [404] * 4
            assert all(len(answer.text) < 400 for answer in answers)


async def test_compaction_is_rejected_under_every_prefix(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        for prefix in ("/v1", "", "/openai/v1"):
            answer = await client.post(f"{gateway.url}{prefix}/responses/compact", json={"model": "m", "input": "hello"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_operation")
            assert "'truncation: auto'" in answer.json()["error"]["message"]
    assert up.requests == []
