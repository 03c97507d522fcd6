"""Calls that leave the fast lane: a task of the pipeline completes them, and nothing stays reserved, open or referenced."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from gateway.fast.fast_call import FastCall
from gateway.fast.hand_over import LaneCall
from gateway.http.listener import continue_in_tasks
from gateway.http.rounds import START, Rounds
from gateway.runtime.gateway import Gateway
from gateway.store.decision_waiter import DecisionWaiter
from gateway.store.limit import Costs, Limit, Refusal, Reservation
from gateway.store.memory import MemoryLimiter
from tests.fast.conftest import StartPair
from tests.faults.behaviours import END, SSE, canned, chunked
from tests.faults.client import CHAT_PATH, MESSAGES, Answer, FaultClient, chat
from tests.faults.upstream_server import HANG, FaultUpstream, play
from tests.flows.live import Live, eventually, live
from tests.native import anthropic_fake, responses_fake
from tests.support.redis import RedisServer

pytestmark = pytest.mark.usefixtures("steps")

EACH_SIDE = pytest.mark.parametrize("side", ["caller", "target"])


class SlowLimiter(MemoryLimiter):
    """Decides at once, but passes a decision on only after `answer`, as a store in another process does."""

    def __init__(self, side: str) -> None:
        super().__init__()
        self._side = side
        self.waiting: list[tuple[DecisionWaiter, Reservation | Refusal]] = []
        self.ids: list[str] = []

    async def admit(self, limits: Sequence[Limit], costs: Costs, id: str, *, force: bool = False) -> Reservation | Refusal:
        self.ids.append(id)
        return await super().admit(limits, costs, id, force=force)

    def request(self, limits: Sequence[Limit], costs: Costs, id: str, waiter: DecisionWaiter) -> Reservation | Refusal | None:
        self.ids.append(id)
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
    """Replace the limiter of a gateway with one whose decisions wait. Return the new limiter."""
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


@pytest.fixture
def late_rounds(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Keep the steps of all stages but START. Return the list of them."""
    kept: list[Callable[[], None]] = []
    add = Rounds.add

    def added(self: Rounds, stage: int, step: Callable[[], None]) -> None:
        if stage == START:
            add(self, stage, step)
        else:
            kept.append(step)

    monkeypatch.setattr(Rounds, "add", added)
    return kept


async def test_a_caller_that_disconnects_before_the_round_that_sends_the_request_keeps_no_reservation(
    up: FaultUpstream, late_rounds: list[Callable[[], None]], entered: list[FastCall]
) -> None:
    async with live(configuration(up)) as gateway:
        limiter = slow_limiter(gateway.gateway, "none")
        async with await FaultClient.connect(gateway.port) as client:
            await client.post(chat())
            await eventually(lambda: bool(late_rounds))
            assert len(limiter._leases) == 1
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        late_rounds[0]()
        (record,) = await gateway.records(1)
        assert record["status"] == 499
        assert limiter._leases == {}
        assert len(entered) == 1
        assert up.requests == []


@pytest.mark.parametrize("steps_before", [0, 1], ids=["before the request", "after the response"])
async def test_a_call_that_waits_for_a_round_is_answered_by_a_task_if_the_shutdown_begins(
    up: FaultUpstream, late_rounds: list[Callable[[], None]], entered: list[FastCall], steps_before: int
) -> None:
    async with live(configuration(up)) as gateway, await FaultClient.connect(gateway.port) as client:
        await client.post(chat())
        for number in range(steps_before):
            await eventually(lambda number=number: len(late_rounds) > number)  # type: ignore[misc]
            late_rounds[number]()
        await eventually(lambda: len(late_rounds) > steps_before)
        entered[0].continue_in_task()
        late_rounds[steps_before]()
        assert (await client.answer()).status == 200
        (record,) = await gateway.records(1)
        assert (record["status"], len(up.requests)) == (200, 1)


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
        assert len(set(limiter.ids)) == len(limiter.ids) == (2 if side == "caller" else 3)
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


RESPONSE = ("/v1/responses", {"input": "Hello"}, responses_fake.EVENTS)
MESSAGE = ("/v1/messages", {"messages": MESSAGES, "max_tokens": 9}, anthropic_fake.EVENTS)
EACH_NATIVE = pytest.mark.parametrize(("path", "fields", "events"), [RESPONSE, MESSAGE], ids=["responses", "messages"])


TARGETS = {CHAT_PATH: "up", "/v1/responses": "openai", "/v1/messages": "anthropic"}
"""The provider that gets calls of an API natively."""


def providers(up: FaultUpstream) -> str:
    """Return the providers of a configuration: one for each API."""
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", limits: {{ concurrent: 100 }} }}
  openai: {{ type: openai, api_key: "${{KEY}}", base_url: "{up.base_url}" }}
  anthropic: {{ type: anthropic, api_key: "${{KEY}}", base_url: "{up.origin}" }}
"""


def native(up: FaultUpstream) -> str:
    """Return a configuration whose targets have the APIs of the calls."""
    return providers(up) + "models: { /v1/responses: openai/mock, /v1/messages: anthropic/mock }"


@EACH_NATIVE
async def test_a_native_stream_that_a_shutdown_ends_has_an_error_of_its_api(
    up: FaultUpstream, entered: list[FastCall], path: str, fields: dict[str, Any], events: tuple[bytes, ...]
) -> None:
    sent = b"".join(events[:-4])
    up.on(lambda request: request.path.endswith(path[3:]), play(SSE, chunked(sent), HANG))
    async with live(native(up), environ={"KEY": "k"}) as gateway, await FaultClient.connect(gateway.port) as client:
        await client.post({"model": path, "stream": True, **fields}, path=path)
        await client.read_until(events[-5])
        (call,) = entered
        connection = call._own_cycle._connection
        continue_in_tasks([connection])
        await asyncio.sleep(0)
        (task,) = connection.tasks
        task.cancel()
        answer = await client.answer()
    assert answer.body.startswith(sent)
    (error,) = answer.body[len(sent) :].removesuffix(b"\n\n").split(b"\n\n")
    assert error.startswith(b"event: error\n")
    assert b"shutting down" in error
    if path == "/v1/responses":
        numbers = [int(number) for number in re.findall(rb'"sequence_number": ?(\d+)', answer.body)]
        assert numbers[-1] == numbers[-2] + 1


@EACH_NATIVE
async def test_a_slow_reader_gets_the_whole_native_stream(
    up: FaultUpstream, entered: list[FastCall], path: str, fields: dict[str, Any], events: tuple[bytes, ...]
) -> None:
    middle = len(events) // 2
    stream = b"".join([*events[:middle], *[events[middle]] * 8000, *events[middle:]])
    pieces = [chunked(stream[at : at + 4000]) for at in range(0, len(stream), 4000)]
    up.on(lambda request: request.path.endswith(path[3:]), play(SSE, *pieces, END))
    async with live(native(up), environ={"KEY": "k"}) as gateway, await FaultClient.connect(gateway.port, 4096) as client:
        await client.post({"model": path, "stream": True, **fields}, path=path)
        await eventually(lambda: bool(entered) and entered[0]._task is not None)
        answer = await client.answer(60)
    assert answer.body == stream


@pytest.mark.usefixtures("without_collector")
@EACH_NATIVE
async def test_an_answered_native_call_leaves_no_reference_cycle(
    up: FaultUpstream, path: str, fields: dict[str, Any], events: tuple[bytes, ...]
) -> None:
    up.on(lambda request: request.path.endswith(path[3:]), play(SSE, chunked(b"".join(events)), END))
    async with live(native(up), environ={"KEY": "k"}) as gateway, await FaultClient.connect(gateway.port) as client:
        for _ in range(3):
            await client.post({"model": path, "stream": True, **fields}, path=path)
            assert (await client.answer()).body == b"".join(events)
        assert in_lane() == []


async def test_a_slow_reader_gets_the_whole_stream(up: FaultUpstream, entered: list[FastCall]) -> None:
    async with live(configuration(up)) as gateway, await FaultClient.connect(gateway.port, receive_buffer=4096) as client:
        body = chat(stream=True)
        body["messages"] = [{"role": "user", "content": "#chunks=20000#"}]
        await client.post(body)
        await eventually(lambda: bool(entered) and entered[0]._task is not None)
        answer = await client.answer(60)
        assert answer.events[-1] == b"[DONE]"
        assert len(answer.events) > 20_000


@pytest.mark.parametrize("path", [CHAT_PATH, "/v1/responses", "/v1/messages"])
async def test_both_ways_charge_the_same_in_redis(
    start_pair: StartPair, up: FaultUpstream, own_redis: RedisServer, path: str
) -> None:
    up.on(lambda request: request.path.endswith("/responses"), canned(responses_fake.ANSWER))
    up.on(lambda request: request.path.endswith("/messages"), canned(anthropic_fake.ANSWER))
    limits = "limits: { concurrent: 100, requests: 20/min, tokens: 100k/min }"
    model = f"models: {{ m: {{ targets: {TARGETS[path]}/mock, {limits} }} }}\n"
    stores = [f"store: redis://127.0.0.1:{own_redis.port}/{database}\nstore_deadline: 5s" for database in (0, 1)]
    pairs = [await start_pair(store + providers(up) + model, environ={"KEY": "k"}) for store in stores]
    body = chat() if path == CHAT_PATH else {"model": "m", **{RESPONSE[0]: RESPONSE, MESSAGE[0]: MESSAGE}[path][1]}
    fast, slow = [await _answers(gateway, path, body) for gateway in (pairs[0].fast, pairs[1].slow)]
    assert [shown(answer) for answer in fast] == [shown(answer) for answer in slow]
    assert [answer.status for answer in fast] == [200] * 20 + [429] * 5


async def _answers(gateway: Live, path: str, body: dict[str, Any]) -> list[Answer]:
    async with await FaultClient.connect(gateway.port) as client:
        answers = []
        for _ in range(25):
            await client.post(body, path=path)
            answers.append(await client.answer())
        return answers


def shown(answer: Answer) -> tuple[Any, ...]:
    """Return the information about limits in an answer."""
    words = [(field, kind) for field in ("limit", "remaining") for kind in ("requests", "tokens")]
    names = [f"x-ratelimit-{field}-{kind}" for field, kind in words] + [f"anthropic-ratelimit-{kind}-{field}" for field, kind in words]
    return answer.status, *filter(None, map(answer.header, names))
