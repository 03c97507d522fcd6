"""The replicas behind a name (`replicas: dns`) are added and removed without a reload, and each is a target of its own."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import httpx
import pytest

from gateway.config import load
from gateway.config.problem import ConfigError
from gateway.upstream.resolver import Address
from tests.faults.behaviours import status
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import post_chat
from tests.flows.live import eventually, live

HOST = "pods.example"


class Records:
    """A resolver whose records a test changes. Names without records do not exist."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """Return the records."""
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, (address, port)) for address in self.addresses]

    def forget(self, host: str, port: int) -> None:
        """Do nothing, because nothing is cached."""


def config(port: int, more: str = "", balance: str = "") -> str:
    """Return a configuration with the model `m` at the replicas of one host."""
    return f"""
providers:
  pods: {{ type: vllm, base_url: "http://{HOST}:{port}/v1", replicas: {{ every: 20ms }}{more} }}
models:
  m: {{ targets: pods/llama{balance} }}
"""


async def pods(stack: AsyncExitStack, count: int) -> list[FaultUpstream]:
    """Start servers at 127.0.0.1, 127.0.0.2 ... with the same port."""
    first = await stack.enter_async_context(FaultUpstream())
    others = [await stack.enter_async_context(FaultUpstream(first.port, f"127.0.0.{number}")) for number in range(2, count + 1)]
    return [first, *others]


async def test_replicas_come_and_go_without_a_reload(client: httpx.AsyncClient) -> None:
    async with AsyncExitStack() as stack:
        servers = await pods(stack, 3)
        port = servers[0].port
        names = [f"pods/llama@127.0.0.{number}:{port}" for number in (1, 2, 3)]
        records = Records("127.0.0.1", "127.0.0.2")
        gateway = await stack.enter_async_context(live(config(port), resolver=records))

        async def targets(calls: int = 30) -> set[str]:
            answers = [await post_chat(client, gateway) for _ in range(calls)]
            assert {answer.status_code for answer in answers} == {200}
            return {answer.headers["x-gateway-target"] for answer in answers}

        async def shown() -> set[str]:
            listed = (await client.get(gateway.admin_url + "/admin/targets")).json()["targets"]
            return {target["target"] for target in listed if "@" in target["target"]}

        assert await targets() == set(names[:2])
        assert {dict(request.headers)["host"] for request in servers[1].requests} == {f"{HOST}:{port}"}
        records.addresses = ("127.0.0.2", "127.0.0.3")
        await eventually(lambda: f"127.0.0.3:{port}" in gateway.gateway.replicas.addresses["pods"])
        assert await targets() == set(names[1:])
        assert await shown() == set(names[1:])
        records.addresses = ()
        await eventually(lambda: any("cannot be resolved" in line for line in gateway.reports))
        assert await targets(6) <= set(names[1:])  # the last addresses stay in use
        assert gateway.reports[:2] == [
            f"provider pods: {HOST} has 2 replicas",
            f"provider pods: {HOST} has 2 replicas (1 new, 1 removed)",
        ]
        assert gateway.count("lockgate_attempts", "pods/llama", "ok") == 66  # metrics do not name the replicas
        records_of_calls = await gateway.records(66)
        assert {record["target"] for record in records_of_calls} == set(names)


async def test_each_replica_has_its_own_health_and_another_one_answers_instead(client: httpx.AsyncClient) -> None:
    async with AsyncExitStack() as stack:
        servers = await pods(stack, 3)
        servers[1].on(lambda request: True, status(500))
        records = Records("127.0.0.1", "127.0.0.2", "127.0.0.3")
        text = config(servers[0].port, ", cooldown: { failures: 2 }", ", retries: 0, balance: least_busy")
        gateway = await stack.enter_async_context(live(text, resolver=records))
        answers = [await post_chat(client, gateway) for _ in range(40)]
        assert {answer.status_code for answer in answers} == {200}
        states = {health.name.partition("@")[2]: health.state for health in gateway.gateway.health.all() if "@" in health.name}
        assert Counter(states.values()) == {"live": 2, "cooling": 1}
        assert states[f"127.0.0.2:{servers[0].port}"] == "cooling"
        assert len(servers[1].requests) == 2


async def test_a_name_that_never_resolved_is_an_upstream_error_until_it_does(client: httpx.AsyncClient) -> None:
    async with AsyncExitStack() as stack:
        (server,) = await pods(stack, 1)
        records = Records()
        gateway = await stack.enter_async_context(live(config(server.port), resolver=records))
        assert (await post_chat(client, gateway)).status_code in (502, 503)
        records.addresses = ("127.0.0.1",)
        await eventually(lambda: "pods" in gateway.gateway.replicas.addresses)
        assert (await post_chat(client, gateway)).status_code == 200


async def test_probes_reach_every_replica(client: httpx.AsyncClient) -> None:
    async with AsyncExitStack() as stack:
        servers = await pods(stack, 2)
        text = config(servers[0].port, ", probe: { path: /probe, every: 20ms }")
        await stack.enter_async_context(live(text, resolver=Records("127.0.0.1", "127.0.0.2")))
        await eventually(lambda: all(any(request.path.endswith("/probe") for request in server.requests) for server in servers))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("type: openai, replicas: dns", "requires base_url"),
        ("type: vllm, base_url: 'http://10.0.0.1:8000/v1', replicas: dns", "not an address"),
        ("type: vllm, base_url: 'http://pods:8000/v1', replicas: dns, transport: httpx", "cannot be combined with a proxy"),
    ],
)
def test_settings_under_which_replicas_cannot_be_found_are_reported(settings: str, problem: str) -> None:
    with pytest.raises(ConfigError) as failed:
        load.parse(f"providers: {{pods: {{{settings}}}}}\nmodels: {{m: pods/llama}}\n".encode(), "g.yaml", environ={})
    assert problem in str(failed.value)
    assert "providers.pods.replicas" in str(failed.value)
