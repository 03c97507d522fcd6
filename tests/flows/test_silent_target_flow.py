"""A target counts as slow if callers disconnect after a silence that is long compared with the history of the target."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from gateway.targets.silence import Silence
from tests.faults.behaviours import chat_chunk, play, sse
from tests.faults.upstream_server import HANG, FaultUpstream
from tests.flows.conftest import CREDENTIAL, chat, post_as, post_chat
from tests.flows.live import Live, eventually, live
from tests.flows.test_failover_flow import Clock, fail_at, targets
from tests.support.apis import CHAT_API, WAYS, Api

ENVIRON = {"UP_KEY": CREDENTIAL}
HELD = play(HANG)
FAILURES = 5


class Hands:
    """A clock for the time that callers wait: the real one, or `ahead` seconds after the time that it showed last."""

    _last = 0.0
    _ahead = 0.0

    def monotonic(self) -> float:
        """Return the time of this clock."""
        if not self._ahead:
            self._last = time.monotonic()
        return self._last + self._ahead

    def set_ahead(self, seconds: float) -> None:
        """Show a time this long after the start of the last attempt, or the real time again."""
        self._ahead = seconds


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    """Return the clock by which silences are measured."""
    clock = Hands()
    monkeypatch.setattr("gateway.attempts.admission.time", clock)
    return clock


async def leave(
    gateway: Live, up: FaultUpstream, client: httpx.AsyncClient, hands: Hands, after: float, api: Api = CHAT_API, **more: Any
) -> None:
    """Send a call whose caller disconnects after some seconds without an answer."""
    before = len(up.requests)
    waiting = asyncio.create_task(post_as(api, client, gateway, **more))
    await eventually(lambda: len(up.requests) > before)
    hands.set_ahead(after)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
    hands.set_ahead(0.0)


def seem_quick(gateway: Live) -> None:
    """Let all earlier answers of the targets have begun at once, however slow the machine was."""
    for health in gateway.gateway.health.all():
        health.silence = Silence()
        for stream in (False, True):
            health.silence.record(0.01, stream=stream)


def state_of(gateway: Live, name: str) -> tuple[str, int]:
    """Return the state and the failures in a row of a target."""
    health = next(health for health in gateway.gateway.health.all() if health.name == name)
    return health.state, health.failures


async def test_target_that_falls_silent_is_in_cooldown_and_the_next_one_answers_in_every_api(
    up: FaultUpstream, client: httpx.AsyncClient, hands: Hands
) -> None:
    for api, stream in WAYS:
        up.reset()
        async with live(targets(up, "a/one", "b/two"), environ=ENVIRON) as gateway:
            for _ in range(3):
                assert (await post_as(api, client, gateway, stream=stream)).headers["x-gateway-target"] == "a/one"
            seem_quick(gateway)
            fail_at(up, "one", HELD)
            for left in range(FAILURES):
                assert state_of(gateway, "a/one") == ("live", left)
                await leave(gateway, up, client, hands, 5.0, api, stream=stream)
            assert state_of(gateway, "a/one") == ("cooling", FAILURES), api.name
            answer = await post_as(api, client, gateway, stream=stream)
            assert (answer.status_code, answer.headers["x-gateway-target"]) == (200, "b/two"), api.name
            records = await gateway.records(3 + FAILURES + 1)
            outcomes = [record["attempts"][0]["outcome"] for record in records]
            assert outcomes == ["ok"] * 3 + ["left"] * FAILURES + ["ok"]
            assert gateway.count("lockgate_upstream_errors", "a/one", "left") == FAILURES
            assert gateway.count("lockgate_cooldowns", "a/one", "failures") == 1
            assert gateway.count("lockgate_fallback_answers", "m") == 1


@pytest.mark.parametrize("after", [0.2, 1.0, 1.9])
async def test_callers_with_short_deadlines_change_nothing(
    up: FaultUpstream, client: httpx.AsyncClient, hands: Hands, after: float
) -> None:
    async with live(targets(up, "a/one", "b/two"), environ=ENVIRON) as gateway:
        await post_chat(client, gateway)
        seem_quick(gateway)
        fail_at(up, "one", HELD)
        for _ in range(2 * FAILURES):
            await leave(gateway, up, client, hands, after)
        assert state_of(gateway, "a/one") == ("live", 0)
        assert gateway.count("lockgate_attempts", "a/one", "left") == 2 * FAILURES
        assert gateway.count("lockgate_unanswered_disconnects", "a/one") == 2 * FAILURES
        assert gateway.count("lockgate_upstream_errors") == 0


async def test_silence_that_is_usual_for_the_target_changes_nothing(
    up: FaultUpstream, client: httpx.AsyncClient, hands: Hands
) -> None:
    async with live(targets(up, "a/one", "b/two"), environ=ENVIRON) as gateway:
        await post_chat(client, gateway)
        health = next(health for health in gateway.gateway.health.all() if health.name == "a/one")
        for _ in range(50):
            health.silence.record(4.0, stream=False)
        fail_at(up, "one", HELD)
        for _ in range(FAILURES):
            await leave(gateway, up, client, hands, 15.0)
        assert state_of(gateway, "a/one") == ("live", 0)
        for _ in range(FAILURES):
            await leave(gateway, up, client, hands, 25.0)
        assert state_of(gateway, "a/one") == ("cooling", FAILURES)


async def test_target_without_a_history_is_judged_after_a_long_silence_only(
    up: FaultUpstream, client: httpx.AsyncClient, hands: Hands
) -> None:
    fail_at(up, "one", HELD)
    async with live(targets(up, "a/one", "b/two"), environ=ENVIRON) as gateway:
        for _ in range(FAILURES):
            await leave(gateway, up, client, hands, 20.0)
        assert state_of(gateway, "a/one") == ("live", 0)
        for _ in range(FAILURES):
            await leave(gateway, up, client, hands, 40.0)
        assert state_of(gateway, "a/one") == ("cooling", FAILURES)


async def test_an_answer_between_silences_shows_that_the_target_works(
    up: FaultUpstream, client: httpx.AsyncClient, hands: Hands
) -> None:
    async with live(targets(up, "a/one", "b/two"), environ=ENVIRON) as gateway:
        for _ in range(3):
            await post_chat(client, gateway)
            seem_quick(gateway)
            for _ in range(FAILURES - 1):
                up.once(HELD)
                await leave(gateway, up, client, hands, 5.0)
        assert state_of(gateway, "a/one") == ("live", FAILURES - 1)


async def test_caller_that_disconnects_from_a_stream_with_content_does_not_affect_its_target(
    up: FaultUpstream, client: httpx.AsyncClient, hands: Hands
) -> None:
    up.on("/v1/chat/completions", sse(chat_chunk("one ", role="assistant"), ending=HANG))
    async with live(targets(up, "a/one", "b/two"), environ=ENVIRON) as gateway:
        for _ in range(FAILURES):
            async with client.stream("POST", gateway.base_url + "/chat/completions", json=chat(stream=True)) as answer:
                async for _ in answer.aiter_bytes():
                    hands.set_ahead(100.0)
                    break
            await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
            hands.set_ahead(0.0)
        assert state_of(gateway, "a/one") == ("live", 0)
        assert gateway.count("lockgate_unanswered_disconnects") == 0
        records = await gateway.records(FAILURES)
    assert [(record["aborted"], record["attempts"][0]["outcome"]) for record in records] == [("mid", "left")] * FAILURES


async def test_after_the_cooldown_one_probe_follows_and_its_silence_extends_it(
    up: FaultUpstream, client: httpx.AsyncClient, hands: Hands
) -> None:
    async with live(targets(up, "a/one", "b/two"), environ=ENVIRON) as gateway:
        clock = gateway.gateway.health.clock = Clock()
        await post_chat(client, gateway)
        seem_quick(gateway)
        fail_at(up, "one", HELD)
        for _ in range(FAILURES):
            await leave(gateway, up, client, hands, 5.0)
        clock.now += 31
        assert state_of(gateway, "a/one")[0] == "probing"
        await leave(gateway, up, client, hands, 1.5)
        assert state_of(gateway, "a/one")[0] == "probing"
        await leave(gateway, up, client, hands, 1.5)  # the silences of probes add up
        assert state_of(gateway, "a/one")[0] == "cooling"
        clock.now += 61
        up.reset()
        assert (await post_chat(client, gateway)).headers["x-gateway-target"] == "a/one"
        assert state_of(gateway, "a/one") == ("live", 0)


async def test_both_attempts_of_a_hedge_are_judged_when_their_caller_disconnects(
    up: FaultUpstream, client: httpx.AsyncClient, hands: Hands
) -> None:
    async with live(targets(up, "a/one", "b/two", settings=", hedge: 1ms, retries: 0"), environ=ENVIRON) as gateway:
        await post_chat(client, gateway)
        for health in gateway.gateway.health.all():
            health.silence.record(0.01, stream=False)
        up.on("/v1/chat/completions", HELD)
        await leave(gateway, up, client, hands, 5.0)
        (*_, record) = await gateway.records(2)
    assert {each["outcome"] for each in record["attempts"]} == {"left"}
