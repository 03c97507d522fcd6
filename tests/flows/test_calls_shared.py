"""Two gateways with one Redis: each lists the calls of both."""

from __future__ import annotations

import httpx

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, one_model, post_chat
from tests.flows.live import Live, eventually, live
from tests.support.redis import RedisServer


async def listed(client: httpx.AsyncClient, gateway: Live, query: str = "") -> list[str]:
    """Return the ids of the calls that a gateway lists."""
    answer = await client.get(f"{gateway.admin_url}/admin/calls{query}")
    assert answer.status_code == 200, answer.text
    return [call["id"] for call in answer.json()["data"]]


async def test_each_gateway_lists_the_calls_of_both(up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer) -> None:
    config = f"store: {own_redis.url}\nstore_deadline: 10s\njournal: off\ncalls: {{ store: redis }}\n" + one_model(up)
    environ = {"UP_KEY": CREDENTIAL}
    async with live(config, environ=environ) as one, live(config, environ=environ) as other:
        first = (await post_chat(client, one)).headers["x-request-id"]
        assert await listed(client, one) == [first]  # the gateway lists its own calls at once
        second = (await post_chat(client, other)).headers["x-request-id"]
        assert await listed(client, other) == [second, first]
        assert await listed(client, one, "?sort=time&status=200&model=m") == [second, first]
        shown = (await client.get(f"{one.admin_url}/admin/calls/{second}")).json()["data"]
        assert shown[0]["attempts"][0]["target"] == "up/mock"
        own_redis.kill()
        refused = await client.get(f"{one.admin_url}/admin/calls")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "calls_unreadable")
        third = (await post_chat(client, other)).headers["x-request-id"]
        own_redis.start()
        await eventually(lambda: any("calls are recorded again" in line for line in other.reports))
        assert await listed(client, one, "?limit=1") == [third]
