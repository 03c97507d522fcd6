"""Requests whose start waits for a round, and what happens on their connection meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

from gateway.fast.fast_call import FastCall
from gateway.http import request_start
from gateway.http.connection import CallerConnection
from gateway.http.listener import continue_in_tasks
from gateway.http.rounds import START, Rounds
from tests.faults.client import FaultClient, body_with, request_head
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import one_model
from tests.flows.live import eventually, live

ENVIRON = {"UP_KEY": "sk-upstream-credential"}
BODY = body_with()


@pytest.fixture
def late_starts(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Let complete bodies wait an hour for their starts. Return the list of the starts that wait."""
    kept: list[Callable[[], None]] = []
    add = Rounds.add

    def added(self: Rounds, stage: int, step: Callable[[], None]) -> None:
        if stage == START:
            kept.append(step)
        else:
            add(self, stage, step)

    monkeypatch.setattr(Rounds, "add", added)
    monkeypatch.setattr(request_start, "MAX_WAIT_S", 3600.0)
    return kept


def connection_of(client: FaultClient) -> CallerConnection:
    """Return the gateway's side of a connection."""
    address = client.socket.getsockname()
    connections = [each for each in gc.get_objects() if isinstance(each, CallerConnection) and each.client == address]
    return next(each for each in connections if each in each.connections)


async def test_a_complete_request_that_waits_for_a_round_no_longer_waits_for_its_body(
    up: FaultUpstream, late_starts: list[Callable[[], None]], entered: list[FastCall]
) -> None:
    async with live(one_model(up), environ=ENVIRON) as gateway, await FaultClient.connect(gateway.port) as client:
        await client.send(request_head(len(BODY)) + BODY[:5])
        await eventually(lambda: connection_of(client)._wait is not None)
        await client.send(BODY[5:])
        await eventually(lambda: bool(late_starts))
        assert connection_of(client)._wait is None
        late_starts.pop()()
        assert (await client.answer()).status == 200
    assert len(entered) == 1


async def test_a_round_does_not_start_the_next_request_before_its_body_is_complete(
    up: FaultUpstream, late_starts: list[Callable[[], None]], entered: list[FastCall]
) -> None:
    async with live(one_model(up), environ=ENVIRON) as gateway, await FaultClient.connect(gateway.port) as client:
        request = request_head(len(BODY)) + BODY
        await client.send(request)
        await eventually(lambda: len(late_starts) == 1)
        await client.send(request)  # starts the first request in a task
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
        await client.send(request_head(len(BODY) + 1) + BODY)
        await eventually(lambda: connection_of(client).ready is not None)
        late_starts.pop()()
        assert connection_of(client).ready is not None
        await client.send(b" ")
        await eventually(lambda: len(late_starts) == 1)
        late_starts.pop()()
        assert (await client.answer()).status == 200
        assert [record["status"] for record in await gateway.records(3)] == [200, 200, 200]
    assert len(entered) == 1


async def test_a_request_that_waits_for_a_round_is_refused_when_the_remaining_calls_are_aborted(
    up: FaultUpstream, late_starts: list[Callable[[], None]]
) -> None:
    async with live(one_model(up), environ=ENVIRON) as gateway, await FaultClient.connect(gateway.port) as client:
        await client.send(request_head(len(BODY)) + BODY)
        await eventually(lambda: bool(late_starts))
        connection = connection_of(client)
        continue_in_tasks([connection])
        await asyncio.sleep(0)
        for task in list(connection.tasks):
            task.cancel()
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (503, "server_shutting_down")
        await gateway.records(1)
    assert up.requests == []
