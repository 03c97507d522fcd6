"""`balance: prefix` with the load that vLLM servers report: calls avoid a server that others keep busy, and nothing else changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest

from tests.faults.behaviours import status
from tests.faults.upstream_server import HANG, FaultUpstream, Script, play
from tests.flows.conftest import post_chat
from tests.flows.live import Live, eventually, live
from tests.flows.test_replicas_flow import HOST, Records, pods
from tests.support.vllm_metrics import serve_metrics

TEXT = "the same beginning " * 40
EVERY = "load_metrics: { every: 20ms }"


def config(servers: list[FaultUpstream], setting: str = EVERY, balance: str = "prefix") -> str:
    """Return a configuration with a split of one vLLM provider for each server."""
    entries = "".join(f"  s{index}: {{ type: vllm, base_url: '{one.base_url}', {setting} }}\n" for index, one in enumerate(servers))
    targets = ", ".join(f"s{index}/llama: 1" for index in range(len(servers)))
    return f"providers:\n{entries}models:\n  m: {{ targets: {{ {targets} }}, balance: {balance} }}\n"


@pytest.fixture
async def servers() -> AsyncIterator[list[FaultUpstream]]:
    """Return two servers without requests of others."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(FaultUpstream()) for _ in range(2)]
        for server in found:
            server.on("/metrics", serve_metrics())
        yield found


async def home(client: httpx.AsyncClient, gateway: Live) -> int:
    """Send a call with the prompt. Return the index of the server that answered."""
    answer = await post_chat(client, gateway, text=TEXT)
    assert answer.status_code == 200
    return int(answer.headers["x-gateway-target"].removesuffix("/llama").removeprefix("s"))


def others(gateway: Live, index: int) -> int | None:
    """Return the known number of requests of others at a server, or None."""
    return gateway.gateway.latencies[f"s{index}/llama"].others


def asked(server: FaultUpstream) -> int:
    """Return the number of requests for metrics."""
    return sum(request.path == "/metrics" for request in server.requests)


async def test_calls_leave_a_server_while_it_has_more_than_its_share_of_all_requests(
    servers: list[FaultUpstream], client: httpx.AsyncClient
) -> None:
    async with live(config(servers)) as gateway:
        await eventually(lambda: others(gateway, 0) == others(gateway, 1) == 0)
        first = await home(client, gateway)
        assert [await home(client, gateway) for _ in range(3)] == [first] * 3
        servers[first].on("/metrics", serve_metrics(waiting=40, running=60))
        await eventually(lambda: others(gateway, first) == 100)
        assert [await home(client, gateway) for _ in range(3)] == [1 - first] * 3
        servers[1 - first].on("/metrics", serve_metrics(waiting=40, running=58))  # the beginning is now in both caches
        await eventually(lambda: others(gateway, 1 - first) == 98)
        assert len({await home(client, gateway) for _ in range(3)}) == 1
        servers[first].on("/metrics", serve_metrics())
        await eventually(lambda: others(gateway, first) == 0)
        assert [await home(client, gateway) for _ in range(3)] == [first] * 3


@pytest.mark.parametrize("script", [status(404), play(HANG)], ids=["missing", "silent"])
async def test_without_a_current_report_only_own_calls_count(
    servers: list[FaultUpstream], client: httpx.AsyncClient, script: Script
) -> None:
    async with live(config(servers)) as gateway:
        await eventually(lambda: others(gateway, 0) == others(gateway, 1) == 0)
        first = await home(client, gateway)
        servers[first].on("/metrics", serve_metrics(waiting=100))
        await eventually(lambda: others(gateway, first) == 100)
        servers[1 - first].on("/metrics", script)
        await eventually(lambda: others(gateway, 1 - first) is None)
        assert [await home(client, gateway) for _ in range(3)] == [first] * 3


@pytest.mark.parametrize(("setting", "balance"), [("load_metrics: false", "prefix"), (EVERY, "least_busy")])
async def test_servers_are_not_asked_without_need(
    servers: list[FaultUpstream], client: httpx.AsyncClient, setting: str, balance: str
) -> None:
    async with live(config(servers, setting, balance)) as gateway:
        for _ in range(3):
            await home(client, gateway)
        assert len(gateway.gateway.probes._tasks) == 0
    assert [asked(server) for server in servers] == [0, 0]


async def test_each_replica_is_asked(client: httpx.AsyncClient) -> None:
    async with AsyncExitStack() as stack:
        servers = await pods(stack, 3)
        for server in servers:
            server.on("/metrics", serve_metrics())
        text = f"""
providers:
  pods: {{ type: vllm, base_url: "http://{HOST}:{servers[0].port}/v1", replicas: {{ every: 20ms }}, {EVERY} }}
models:
  m: {{ targets: pods/llama, balance: prefix }}
"""
        records = Records("127.0.0.1", "127.0.0.2")
        gateway = await stack.enter_async_context(live(text, resolver=records))
        await eventually(lambda: all(asked(server) > 1 for server in servers[:2]))
        assert asked(servers[2]) == 0
        records.addresses = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
        await eventually(lambda: asked(servers[2]) > 1)
        homes = Counter([(await post_chat(client, gateway, text=TEXT)).headers["x-gateway-target"] for _ in range(4)])
        (home,) = homes
        busy = servers[int(home.partition("@")[2].partition(":")[0][-1]) - 1]
        busy.on("/metrics", serve_metrics(waiting=100))
        await eventually(lambda: gateway.gateway.latencies[home].others == 100)
        assert (await post_chat(client, gateway, text=TEXT)).headers["x-gateway-target"] != home
