"""What the catalogue's tests share: the whole gateway in front of scripted upstreams, examined when the test is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.http.caller import CallerDeadlines
from gateway.store.memory import MemoryLimiter
from gateway.upstream.resolver import Resolver
from tests.faults.client import Answer, FaultClient, ask
from tests.faults.tls import Certificates
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import Live, eventually, live

CANARY = "sk-canary-5c1f9a7be2d04468"
"""The gateway's credential at every upstream: it may appear in requests to them and nowhere else."""

LEASED = {"concurrent": 10_000}
"""A limit that every call and every attempt takes a lease of: all of them must be given back."""

Place = tuple[FaultUpstream | str, str]
"""An upstream (or a base URL) and the model that is asked for there, which picks a behaviour."""


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One authority for the whole run."""
    return Certificates(tmp_path_factory.mktemp("tls"))


def configuration(
    places: tuple[Place, ...],
    first: Mapping[str, Any],
    every: Mapping[str, Any],
    model: Mapping[str, Any],
    top: Mapping[str, Any],
    more: Mapping[str, Any],
) -> str:
    """A configuration whose model `m` tries `places` in order; `first` are settings of the first provider alone, `more` are models."""
    providers = {}
    targets = []
    for at, (place, name) in enumerate(places):
        base_url = place if isinstance(place, str) else place.base_url
        settings = {"type": "openai-compatible", "base_url": base_url, "api_key": "${CANARY}", "limits": LEASED}
        settings |= {**every, **(first if at == 0 else {})}
        providers[f"p{at}"] = settings
        targets.append(f"p{at}/{name}")
    return json.dumps({**top, "providers": providers, "models": {"m": {"targets": targets, "limits": LEASED, **model}, **more}})


class Gate(Live):
    """A gateway that is examined at the end."""

    async def ask(self, body: bytes | Mapping[str, Any], headers: tuple[tuple[str, str], ...] = ()) -> Answer:
        """One call on a connection of its own."""
        answer = await ask(self.port, body, headers)
        assert CANARY.encode() not in answer.body
        assert CANARY not in str(answer.headers)
        return answer

    async def record(self, **expected: Any) -> dict[str, Any]:
        """The record of the only call so far, with these values in it."""
        (found,) = await self.records(1)
        assert {name: found.get(name) for name in expected} == expected, found
        return found

    def metric(self, name: str) -> float:
        """The value of a series without labels, as an operator would scrape it."""
        lines = self.gateway.metrics.expose().decode().splitlines()
        return next(float(line.split(" ")[1]) for line in lines if line.startswith(name + " "))

    def leases(self) -> dict[str, set[str]]:
        """What calls and attempts hold of limits on concurrency."""
        limits = self.gateway.generation.limits
        assert limits is not None
        assert isinstance(limits.limiter, MemoryLimiter)
        return limits.limiter._leases

    async def examine(self) -> None:
        """Nothing is left over, nothing reserved, nothing failed inside, no secret came out."""
        gateway = self.gateway
        await eventually(lambda: gateway.metrics.in_flight == 0 and len(gateway.sweeper) == 0)
        await eventually(lambda: gateway.resources.native.in_use == 0 and gateway.resources.native.waiting == 0)
        assert gateway.metrics.counts["lockgate_internal_errors"] == {}, self.lines()
        assert self.leases() == {}
        written = json.dumps([self.lines(), self.reports]) + gateway.metrics.expose().decode()
        assert CANARY not in written


Serve = Callable[..., Awaitable[Gate]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start gateways: `serve((up, "mock"), first={"connect": "150ms"}, every={}, model={}, top={}, caller=CallerDeadlines())`."""
    async with AsyncExitStack() as stack:
        gates: list[Gate] = []

        async def start(
            *places: Place,
            first: Mapping[str, Any] | None = None,
            every: Mapping[str, Any] | None = None,
            model: Mapping[str, Any] | None = None,
            top: Mapping[str, Any] | None = None,
            more: Mapping[str, Any] | None = None,
            caller: CallerDeadlines | None = None,
            resolver: Resolver | None = None,
        ) -> Gate:
            text = configuration(places, first or {}, every or {}, model or {}, top or {}, more or {})
            settings = live(text, deadlines=caller, environ={"CANARY": CANARY}, resolver=resolver)
            found = await stack.enter_async_context(settings)
            gate = Gate(found.gateway, found.url, found.admin_url, found._log)
            gate.reports = found.reports
            gates.append(gate)
            return gate

        yield start
        for gate in gates:
            await gate.examine()


@pytest.fixture
def trusted(certificates: Certificates) -> Path:
    """The PEM file of the tests' authority."""
    return certificates.ca


async def refusals(gate: Gate, up: FaultUpstream, bodies: list[bytes]) -> list[Answer]:
    """The answers to bodies that must all be refused without asking the upstream, one record each, on one connection where it lasts."""
    answers: list[Answer] = []
    while len(answers) < len(bodies):
        async with await FaultClient.connect(gate.port) as client:
            for body in bodies[len(answers) :]:
                await client.post(body)
                answer = await client.answer()
                assert 400 <= answer.status < 500, (body[:300], answer)
                assert answer.error["type"] == "invalid_request_error", (body[:300], answer)
                answers.append(answer)
                if answer.header("connection") == "close":
                    break
    records = await gate.records(len(bodies))
    assert [record["status"] for record in records] == [answer.status for answer in answers]
    assert all(record["target"] is None for record in records)
    for status, code in {(answer.status, answer.error["code"]) for answer in answers}:
        expected = sum((answer.status, answer.error["code"]) == (status, code) for answer in answers)
        assert gate.count("lockgate_requests", f"{status // 100}xx", code) == expected
    assert up.requests == []
    return answers
