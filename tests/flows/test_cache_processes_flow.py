"""Equal calls in flight in several gateways with one Redis: one upstream request, even if the gateway that sends it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.faults.behaviours import completion, status
from tests.faults.upstream_server import Exchange, FaultUpstream, canned
from tests.flows.conftest import post_chat
from tests.flows.live import Live, eventually, live
from tests.flows.operator import bearer
from tests.flows.test_cache_flow import FIRST, THIRD, cache_of, cached, keys
from tests.running import RunningGateway
from tests.support.redis import RedisServer


def held(release: asyncio.Event) -> Callable[[Exchange], object]:
    """Answer a request once `release` is set. Each answer is different, and has the time that the gateway would otherwise add."""
    numbers = iter(range(1000))

    async def script(exchange: Exchange) -> None:
        number = next(numbers)
        await release.wait()
        await canned(completion(f"answer {number}").replace(b"{", b'{"created":1,', 1))(exchange)

    return script


@pytest.fixture
async def three(up: FaultUpstream, own_redis: RedisServer, patient: None) -> AsyncIterator[list[Live]]:
    """Serve three gateways with one Redis."""
    yaml = cached(up, "{ ttl: 10m, scope: team }", f"{keys()}store: {own_redis.url}\n")
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(live(yaml)) for _ in range(3)]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands and renewals of leases take longer than usual, because the machine of a test may be busy."""
    for name in ("answers.LOOKUP_TIMEOUT_S", "answers.SAVE_TIMEOUT_S", "leases.COMMAND_TIMEOUT_S", "leases.LEASE_S"):
        monkeypatch.setattr(f"gateway.cache.{name}", 20.0)


def in_flight(gateways: list[Live]) -> int:
    """Return the number of calls in flight."""
    return sum(gateway.gateway.metrics.in_flight for gateway in gateways)


def waiting(gateways: list[Live]) -> int:
    """Return the number of gateways that wait for the lease of another one."""
    leases = [gateway.gateway.shared.cache._leases for gateway in gateways]
    return sum(bool(each is not None and each._watch._waiting) for each in leases)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_equal_calls_of_three_gateways_share_one_request(
    up: FaultUpstream, client: httpx.AsyncClient, three: list[Live], stream: bool
) -> None:
    release = asyncio.Event()
    if not stream:
        up.on("/v1/chat/completions", held(release))
    text = "hello #delay=50ms#" if stream else "hello"
    calls = [asyncio.ensure_future(post_chat(client, each, text=text, stream=stream, headers=bearer(FIRST))) for each in three * 4]
    if not stream:
        await eventually(lambda: in_flight(three) == 12 and waiting(three) == 2)
    release.set()
    answers = await asyncio.gather(*calls)
    assert len(up.requests) == 1
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(cache_of(answer) for answer in answers) == ["hit"] * 11 + ["miss"]
    if not stream:
        assert len({answer.content for answer in answers}) == 1
        assert sum(gateway.count("lockgate_cache_lookups", "joined") for gateway in three) == 11


async def test_tenants_share_no_request(up: FaultUpstream, client: httpx.AsyncClient, three: list[Live]) -> None:
    release = asyncio.Event()
    up.on("/v1/chat/completions", held(release))
    calls = {token: [asyncio.ensure_future(post_chat(client, each, headers=bearer(token))) for each in three] for token in (FIRST, THIRD)}
    await eventually(lambda: in_flight(three) == 6 and len(up.requests) == 2)
    release.set()
    found = {token: {answer.content for answer in await asyncio.gather(*each)} for token, each in calls.items()}
    assert {len(each) for each in found.values()} == {1}
    assert not found[FIRST] & found[THIRD]
    assert len(up.requests) == 2


async def test_failure_of_the_first_call_is_not_passed_to_the_others(
    up: FaultUpstream, client: httpx.AsyncClient, three: list[Live]
) -> None:
    release = asyncio.Event()

    async def fail(exchange: Exchange) -> None:
        await release.wait()
        await status(400)(exchange)

    up.once(fail)
    first = asyncio.ensure_future(post_chat(client, three[0], headers=bearer(FIRST)))
    await up.wait_for(lambda up: len(up.requests) == 1)
    others = [asyncio.ensure_future(post_chat(client, each, headers=bearer(FIRST))) for each in three[1:] * 3]
    await eventually(lambda: waiting(three) == 2 and in_flight(three) == 7)
    release.set()
    assert (await first).status_code == 400
    assert {answer.status_code for answer in await asyncio.gather(*others)} == {200}


async def test_another_gateway_takes_over_from_a_caller_that_disconnects(
    up: FaultUpstream, client: httpx.AsyncClient, three: list[Live]
) -> None:
    release = asyncio.Event()
    up.on("/v1/chat/completions", held(release))
    first = asyncio.ensure_future(post_chat(client, three[0], headers=bearer(FIRST)))
    await up.wait_for(lambda up: len(up.requests) == 1)
    others = [asyncio.ensure_future(post_chat(client, each, headers=bearer(FIRST))) for each in three[1:] * 3]
    await eventually(lambda: waiting(three) == 2 and in_flight(three) == 7)
    first.cancel()
    await up.wait_for(lambda up: len(up.requests) == 2)
    release.set()
    answers = await asyncio.gather(*others)
    assert sorted(cache_of(answer) for answer in answers) == ["hit"] * 5 + ["miss"]
    assert len(up.requests) == 2


@pytest.mark.prove
@pytest.mark.timeout(180)
async def test_no_call_is_lost_if_the_gateway_that_sends_the_request_is_killed(
    up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer, gateway: Callable[..., RunningGateway], tmp_path: Path
) -> None:
    release = asyncio.Event()
    up.on("/v1/chat/completions", held(release))
    yaml = cached(up, "10m", f"store: {own_redis.url}\n")
    folder = tmp_path / "killed"
    folder.mkdir()
    (folder / "gateway.yaml").write_text(yaml)
    killed = await asyncio.to_thread(RunningGateway, folder / "gateway.yaml", folder)
    try:
        others = [await asyncio.to_thread(gateway, yaml) for _ in range(2)]
        for each in (killed, *others):
            await asyncio.to_thread(each.wait_ready)
        first = asyncio.ensure_future(post_chat(client, killed))
        await up.wait_for(lambda up: len(up.requests) == 1)
        calls = [asyncio.ensure_future(post_chat(client, each)) for each in others * 10]
        await asyncio.sleep(2.0)  # longer than a renewal of the lease
        assert len(up.requests) == 1
        os.kill(killed.pid, signal.SIGKILL)
        with pytest.raises(httpx.HTTPError):
            await first
        await up.wait_for(lambda up: len(up.requests) == 2)
        release.set()
        answers = await asyncio.gather(*calls)
    finally:
        killed.process.kill()
        killed.process.wait()
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(cache_of(answer) for answer in answers) == ["hit"] * 19 + ["miss"]
    assert len(up.requests) == 2
