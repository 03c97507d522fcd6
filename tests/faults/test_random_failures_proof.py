"""Many callers while all targets but one fail in random ways: every call is answered, and nothing is left in use afterwards."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.faults.behaviours import JSON, canned, completion, status
from tests.faults.chat_script import answer_as_openai
from tests.faults.client import CHAT_PATH, FaultClient, chat
from tests.faults.conftest import Gate, Serve
from tests.faults.upstream_server import FIN, HANG, RST, FaultUpstream, Script, play
from tests.faults.upstream_wire import Exchange
from tests.flows.live import eventually
from tests.running import Figure

CALLERS, CALLS_OF_EACH = 48, 25
FAULTS: tuple[Script, ...] = (
    status(500), status(503), status(503, "busy", {"retry-after": "1"}), status(429), status(429, "slow", {"retry-after": "30"}),
    status(403), play(HANG), play(RST), play(FIN), play(JSON + b"content-length: 500\r\n\r\n{", RST), canned(b"<html>"),
)  # fmt: skip
TARGETS = ("p1/mock", "p2/mock", "p0/mock")
"""The last one, the target of the working upstream, is tried last in an order."""
EQUAL = dict.fromkeys(TARGETS, 1)
SHAPES: dict[str, dict[str, Any]] = {
    "order": {"targets": [*TARGETS]},
    "weighted": {"targets": EQUAL},
    "prefix": {"targets": EQUAL, "balance": "prefix"},
    "session": {"targets": EQUAL, "balance": "session"},
    "least_busy": {"targets": EQUAL, "balance": "least_busy"},
    "latency": {"targets": EQUAL, "balance": "latency"},
    "order of splits": {"targets": [{"p1/mock": 1, "p2/mock": 1}, "p0/mock"]},
    "nested": {"targets": {"inner": 1, "p2/mock": 1}},
}


class Upstreams:
    """Three upstreams. The first one works, and the others change at random between working and failing; at first they fail."""

    def __init__(self, seed: int, *ups: FaultUpstream) -> None:
        self.random = random.Random(seed)
        self._faults: list[Script | None] = [None, FAULTS[0], FAULTS[0]]
        for number, up in enumerate(ups):
            up.on(CHAT_PATH, self._script(number))

    def _script(self, number: int) -> Script:
        async def script(exchange: Exchange) -> None:
            await exchange.sleep(self.random.random() / 50)
            fault = self._faults[number]
            if fault is not None:
                await fault(exchange)
            elif exchange.request.json.get("stream"):
                await answer_as_openai(exchange)
            else:
                await canned(completion("x"))(exchange)

        return script

    async def change(self) -> None:
        """Change the upstreams until cancelled."""
        while True:
            await asyncio.sleep(self.random.random() / 3)
            self._faults[self.random.randrange(1, 3)] = self.random.choice((None, *FAULTS))


async def call_repeatedly(gate: Gate, seed: int) -> list[tuple[int, bytes]]:
    """Make calls, some of which are left before they are answered. Return the other calls that were not answered completely."""
    draw, failed, client = random.Random(seed), list[tuple[int, bytes]](), None
    for _ in range(CALLS_OF_EACH):
        client = client or await FaultClient.connect(gate.port)
        stream = draw.random() < 0.4
        await client.post(chat(stream=stream, user=f"u{draw.randrange(9)}"))
        if draw.random() < 0.05:
            await asyncio.sleep(draw.random() / 20)
            client.rst()
            client = None
            continue
        answer = await client.answer()
        if answer.status != 200 or (stream and b"[DONE]" not in answer.body):
            failed.append((answer.status, answer.body))
    if client is not None:
        client.fin()
    return failed


@pytest.mark.prove
@pytest.mark.timeout(120)
@pytest.mark.parametrize("settings", [{}, {"max_concurrent": 40, "max_queue": 100, "max_wait": "60s"}], ids=["open", "queue"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_while_one_of_three_targets_works_every_call_is_answered(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream, third: FaultUpstream, shape: str, settings: dict[str, Any]
) -> None:
    ups = (up, other, third)
    upstreams = Upstreams(list(SHAPES).index(shape), *ups)
    every = {"first_byte_timeout": "300ms", "cooldown": {"failures": 3, "time": "200ms", "max": "400ms"}, **settings}
    gate = await serve(
        *[(each, "mock") for each in ups],
        first={"first_byte_timeout": "60s"},  # which a slow machine does not miss
        every=every,
        model={"attempts": 9, **SHAPES[shape]},
        more={"inner": {"targets": ["p1/mock", "p0/mock"]}} if shape == "nested" else {},
    )
    while not up.requests:  # the working target has answered before the callers arrive together
        assert (await gate.ask(chat())).status == 200
    changing = asyncio.create_task(upstreams.change())
    failed = await asyncio.gather(*[call_repeatedly(gate, seed) for seed in range(CALLERS)])
    changing.cancel()
    calls, sent = CALLERS * CALLS_OF_EACH, sum(len(each.requests) for each in ups)
    figure("upstream requests per call", sent / calls, "")
    assert [each for some in failed for each in some] == []
    assert sent <= 2 * calls  # a fallback for each call that a failing target got
    health = gate.gateway.health.all()
    await eventually(lambda: not any(each.in_flight or each.probe_in_flight or each.waiting for each in health))
    assert [each.bulkhead.running for each in health if each.bulkhead is not None and each.bulkhead.running] == []
    assert [name for name, each in gate.gateway.latencies.items() if each.in_flight] == []
