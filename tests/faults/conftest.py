"""Fixtures of the fault tests: a complete gateway in front of scripted upstreams, checked for leaks after the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import openai
import pytest
import uvloop

from gateway.http.caller import CallerDeadlines
from gateway.store.memory import MemoryLimiter
from gateway.upstream.resolver import Resolver
from tests.faults.client import Answer, FaultClient, ask
from tests.faults.tls import Certificates
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import Live, eventually, live
from tests.support.plain_http import WITHOUT_AUTHORITIES

CANARY = "sk-canary-5c1f9a7be2d04468"
"""Credential of the gateway at every upstream. It may appear only in requests to upstreams."""

LEASED = {"concurrent": 10_000}
"""A concurrency limit, of which each call and attempt holds a lease. All leases must be released."""

UpstreamModel = tuple[FaultUpstream | str, str]
"""An upstream or base URL, and the model requested there, which selects a behaviour."""

EACH_FORM = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests on the event loop of the gateway."""
    return {"uvloop": uvloop.new_event_loop}


def configuration(
    upstreams: tuple[UpstreamModel, ...],
    first: Mapping[str, Any],
    every: Mapping[str, Any],
    model: Mapping[str, Any],
    top: Mapping[str, Any],
    more: Mapping[str, Any],
) -> str:
    """Return a configuration whose model `m` tries `upstreams` in order.

    `first` are settings of the first provider, `every` of all providers, `model` of `m`, `top` of the top level; `more` are models.
    """
    providers = {}
    targets = []
    for index, (upstream, name) in enumerate(upstreams):
        base_url = upstream if isinstance(upstream, str) else upstream.base_url
        settings = {"type": "openai-compatible", "base_url": base_url, "api_key": "${CANARY}", "limits": LEASED}
        settings |= {**every, **(first if index == 0 else {})}
        providers[f"p{index}"] = settings
        targets.append(f"p{index}/{name}")
    return json.dumps({**top, "providers": providers, "models": {"m": {"targets": targets, "limits": LEASED, **model}, **more}})


class Gate(Live):
    """A gateway that is checked for leaks after the test."""

    async def ask(self, body: bytes | Mapping[str, Any], headers: tuple[tuple[str, str], ...] = ()) -> Answer:
        """Make one call on a new connection."""
        answer = await ask(self.port, body, headers)
        assert CANARY.encode() not in answer.body
        assert CANARY not in str(answer.headers)
        return answer

    async def record(self, **expected: Any) -> dict[str, Any]:
        """Return the log record of the only call so far. Fail unless it has these values."""
        (record,) = await self.records(1)
        assert {name: record.get(name) for name in expected} == expected, record
        return record

    def openai_client(self, **options: Any) -> openai.AsyncOpenAI:
        """Return a client of the openai package that does not retry."""
        http_client = openai.DefaultAsyncHttpxClient(verify=WITHOUT_AUTHORITIES)
        return openai.AsyncOpenAI(base_url=self.base_url, api_key="none", http_client=http_client, **{"max_retries": 0, **options})

    async def targets(self) -> dict[str, dict[str, Any]]:
        """Return the status of each target as the admin listener reports it."""
        body = await asyncio.to_thread(lambda: urlopen(self.admin_url + "/admin/targets", timeout=60).read())
        return {status["target"]: status for status in json.loads(body)["targets"]}

    def metric(self, name: str) -> float:
        """Return the scraped value of a metric without labels."""
        lines = self.gateway.metrics.expose().decode().splitlines()
        return next(float(line.split(" ")[1]) for line in lines if line.startswith(name + " "))

    def leases(self) -> dict[str, set[str]]:
        """Return the concurrency leases held by calls and attempts."""
        limits = self.gateway.generation.limits
        assert limits is not None
        assert isinstance(limits.limiter, MemoryLimiter)
        return limits.limiter._leases

    async def assert_clean(self) -> None:
        """Check that no call, connection or lease is left, and that no internal error or secret was reported."""
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
    """Return a function that starts a gateway.

    Usage: `serve((up, "mock"), first={"connect": "150ms"}, every={}, model={}, top={}, caller=CallerDeadlines())`.
    """
    async with AsyncExitStack() as stack:
        gates: list[Gate] = []

        async def start(
            *upstreams: UpstreamModel,
            first: Mapping[str, Any] | None = None,
            every: Mapping[str, Any] | None = None,
            model: Mapping[str, Any] | None = None,
            top: Mapping[str, Any] | None = None,
            more: Mapping[str, Any] | None = None,
            caller: CallerDeadlines | None = None,
            resolver: Resolver | None = None,
        ) -> Gate:
            text = configuration(upstreams, first or {}, every or {}, model or {}, top or {}, more or {})
            settings = live(text, deadlines=caller, environ={"CANARY": CANARY}, resolver=resolver)
            running = await stack.enter_async_context(settings)
            gate = Gate(running.gateway, running.url, running.admin_url, running._log)
            gate.reports = running.reports
            gates.append(gate)
            return gate

        yield start
        for gate in gates:
            await gate.assert_clean()


@pytest.fixture
async def third() -> AsyncIterator[FaultUpstream]:
    """Return a third scripted upstream."""
    async with FaultUpstream() as server:
        yield server


@pytest.fixture
def trusted(certificates: Certificates) -> Path:
    """Return the PEM file of the certificate authority."""
    return certificates.ca


async def refused_answers(gate: Gate, up: FaultUpstream, bodies: list[bytes]) -> list[Answer]:
    """Return the answers to bodies. Fail unless each is refused with one record and without an upstream request."""
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
