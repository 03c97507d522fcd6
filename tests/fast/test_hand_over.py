"""Calls that leave the fast lane: a task of the pipeline ends them, and nothing stays reserved, open or referenced."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from gateway.fast.fast_call import FastCall
from gateway.fast.hand_over import LaneCall
from gateway.http.listener import continue_in_tasks
from gateway.runtime.gateway import Gateway
from gateway.store.decision_waiter import DecisionWaiter
from gateway.store.limit import Costs, Limit, Refusal, Reservation
from gateway.store.memory import MemoryLimiter
from tests.fast.conftest import StartPair
from tests.faults.client import Answer, FaultClient, chat
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import Live, eventually, live
from tests.support.redis import RedisServer

EACH_SIDE = pytest.mark.parametrize("side", ["caller", "target"])


class SlowLimiter(MemoryLimiter):
    """Decides at once, but passes a decision on only after `answer`, as a store in another process does."""

    def __init__(self, side: str) -> None:
        super().__init__()
        self._side = side
        self.waiting: list[tuple[DecisionWaiter, Reservation | Refusal]] = []

    def request(self, limits: Sequence[Limit], costs: Costs, id: str, waiter: DecisionWaiter) -> Reservation | Refusal | None:
        decision = self.decide(limits, costs, id)
        if limits[0].side != self._side:
            return decision
        self.waiting.append((waiter, decision))
        return None

    def answer(self) -> None:
        """Pass on all decisions."""
        waiting, self.waiting = self.waiting, []
        for waiter, decision in waiting:
            if not waiter.done():
                waiter.set_result(decision)
            elif isinstance(decision, Reservation):
                self.settle(decision, Costs(requests=0))


def configuration(up: FaultUpstream, top: str = "") -> str:
    """Return a configuration with a model whose caller and target sides are limited."""
    return f"""{top}
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", limits: {{ concurrent: 100 }} }}
models:
  m: {{ targets: up/mock, limits: {{ concurrent: 100, requests: 20/min, tokens: 100k/min }} }}
"""


def slow_limiter(gateway: Gateway, side: str) -> SlowLimiter:
    """Replace the limiter of a gateway by one whose decisions wait."""
    limits = gateway.generation.limits
    assert limits is not None
    limits.limiter = limiter = SlowLimiter(side)
    return limiter


def in_lane() -> list[LaneCall]:
    """Return the fast calls that are still referenced."""
    return [each for each in gc.get_objects() if isinstance(each, LaneCall)]


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Do not collect objects in reference cycles, so that the test finds them."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answered_call_leaves_no_reference_cycle(up: FaultUpstream, stream: bool) -> None:
    async with live(configuration(up)) as gateway, await FaultClient.connect(gateway.port) as client:
        for _ in range(3):
            await client.post(chat(stream=stream))
            assert (await client.answer()).status == 200
        assert in_lane() == []


@EACH_SIDE
async def test_a_caller_that_disconnects_during_the_decision_keeps_no_reservation(
    up: FaultUpstream, side: str, entered: list[FastCall]
) -> None:
    async with live(configuration(up)) as gateway:
        limiter = slow_limiter(gateway.gateway, side)
        async with await FaultClient.connect(gateway.port) as client:
            await client.post(chat())
            await eventually(lambda: bool(limiter.waiting))
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        limiter.answer()
        (record,) = await gateway.records(1)
        assert (record["status"], record["aborted"]) == (499, "queue")
        assert limiter._leases == {}
        assert len(entered) == 1
        assert up.requests == []


@EACH_SIDE
async def test_a_call_is_answered_by_a_task_if_the_shutdown_begins_during_the_decision(
    up: FaultUpstream, side: str, entered: list[FastCall]
) -> None:
    async with live(configuration(up)) as gateway:
        limiter = slow_limiter(gateway.gateway, side)
        async with await FaultClient.connect(gateway.port) as client:
            await client.post(chat())
            await eventually(lambda: bool(limiter.waiting))
            (call,) = entered
            call.continue_in_task()
            limiter._side = ""  # the task requests the decision of the target's limits again
            limiter.answer()
            assert (await client.answer()).status == 200
        await gateway.records(1)
        assert limiter._leases == {}
        assert len(up.requests) == 1


@pytest.mark.parametrize("model", ["silent", "stall-mid-stream"])
async def test_a_call_without_a_task_can_be_cancelled_by_a_shutdown(
    up: FaultUpstream, model: str, entered: list[FastCall]
) -> None:
    text = configuration(up).replace("up/mock", f"up/{model}")
    async with live(text) as gateway, await FaultClient.connect(gateway.port) as client:
        await client.post(chat(stream=True))
        await eventually(lambda: bool(up.requests))
        if model != "silent":
            await client.read_until(b"two")
        (call,) = entered
        connection = call._own_cycle._connection
        continue_in_tasks([connection])
        await asyncio.sleep(0)
        (task,) = connection.tasks
        task.cancel()
        await client.read_until(b"server_shutting_down")
        (record,) = await gateway.records(1)
        assert record["error"] == "server_shutting_down"


async def test_a_slow_reader_gets_the_whole_stream(up: FaultUpstream, entered: list[FastCall]) -> None:
    async with live(configuration(up)) as gateway, await FaultClient.connect(gateway.port, receive_buffer=4096) as client:
        body = chat(stream=True)
        body["messages"] = [{"role": "user", "content": "#chunks=20000#"}]
        await client.post(body)
        await eventually(lambda: bool(entered) and entered[0]._task is not None)
        answer = await client.answer(60)
        assert answer.events[-1] == b"[DONE]"
        assert len(answer.events) > 20_000


async def test_both_ways_charge_the_same_in_redis(start_pair: StartPair, up: FaultUpstream, own_redis: RedisServer) -> None:
    stores = [f"store: redis://127.0.0.1:{own_redis.port}/{database}\nstore_deadline: 5s" for database in (0, 1)]
    first, second = [await start_pair(configuration(up, store)) for store in stores]
    fast, slow = await _answers(first.fast), await _answers(second.slow)
    assert [shown(answer) for answer in fast] == [shown(answer) for answer in slow]
    assert [answer.status for answer in fast] == [200] * 20 + [429] * 5


async def _answers(gateway: Live) -> list[Answer]:
    async with await FaultClient.connect(gateway.port) as client:
        answers = []
        for _ in range(25):
            await client.post(chat())
            answers.append(await client.answer())
        return answers


def shown(answer: Answer) -> tuple[Any, ...]:
    """Return what an answer shows of the limits."""
    names = [f"x-ratelimit-{field}-{kind}" for field in ("limit", "remaining") for kind in ("requests", "tokens")]
    return answer.status, *map(answer.header, names)
