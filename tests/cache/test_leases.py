"""One request for equal calls of several processes: three caches, each with its own connections to one real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.cache import leases
from gateway.cache.answers import AnswerCache, Flight, Lookup
from gateway.cache.caller_delay import CallerDelay
from gateway.cache.control import CacheControl
from gateway.cache.entry import Entry
from gateway.config.cache import CacheBounds
from gateway.config.redis_address import RedisAddress
from gateway.store.cached_answers import RedisAnswers
from tests.flows.live import eventually
from tests.support.redis import RedisServer
from tests.support.redis_topologies import run_command

ANY, BOUNDS = CacheControl(), CacheBounds()
ENTRY = Entry(100.0, b"application/json", b"{}")
LEASE_KEY = "lockgate:{answers}:lease:k"


def cache_in(address: RedisAddress) -> AnswerCache:
    """Return the cache of a process whose clock shows 100 seconds."""
    return AnswerCache(RedisAnswers(address, lambda line, is_failure: None), lambda: 100.0)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands and renewals of leases take longer than usual, because the machine of a test may be busy."""
    for name in ("answers.LOOKUP_TIMEOUT_S", "answers.SAVE_TIMEOUT_S", "leases.COMMAND_TIMEOUT_S", "leases.LEASE_S"):
        monkeypatch.setattr(f"gateway.cache.{name}", 20.0)


@pytest.fixture
async def three(redis: RedisAddress, patient: None) -> AsyncIterator[list[AnswerCache]]:
    """Return the caches of three processes."""
    caches = [cache_in(redis) for _ in range(3)]
    yield caches
    for cache in caches:
        await cache.close()


def holders_of(*caches: AnswerCache) -> list[str]:
    """Return the holders of leases for which the calls of each process wait."""
    watches = [cache._leases._watch for cache in caches if cache._leases is not None]
    return [holder.decode() for watch in watches for waiting in watch._waiting.values() for holder, _ in waiting]


async def led_by(cache: AnswerCache, control: CacheControl = ANY) -> Flight:
    """Return the flight that a new call leads."""
    flight = (await cache.look_up("k", 60, control, 60)).flight
    assert flight is not None
    return flight


def calls(*caches: AnswerCache, each: int = 4, control: CacheControl = ANY, timeout_s: float = 60) -> list[asyncio.Task[Lookup]]:
    """Begin calls in each of the processes."""
    return [asyncio.create_task(cache.look_up("k", 60, control, timeout_s)) for _ in range(each) for cache in caches]


async def all_waiting(*caches: AnswerCache) -> None:
    """Wait until each process waits for the lease of another one."""
    await eventually(lambda: all(cache._leases is not None and cache._leases._watch._waiting for cache in caches))


async def finish(cache: AnswerCache, flight: Flight) -> None:
    """End a flight with a stored answer."""
    flight.answer(ENTRY)
    flight.is_stored = await cache.save("k", ENTRY, 60, BOUNDS)
    flight.end()


async def one_leader(waiting: list[asyncio.Task[Lookup]]) -> Flight:
    """Wait until exactly one of the calls leads, and return its flight."""
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    (found,) = [task.result() for task in done]
    assert found.flight is not None
    assert found.waited_s > 0
    return found.flight


async def test_one_call_of_all_processes_leads_and_all_others_get_its_answer(three: list[AnswerCache]) -> None:
    waiting = calls(*three)
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    (leader,) = done
    flight = leader.result().flight
    assert flight is not None
    await all_waiting(*(cache for cache in three if flight not in cache._flights.values()))
    await finish(next(cache for cache in three if flight in cache._flights.values()), flight)
    found = [await each for each in pending]
    assert [(each.entry, each.flight) for each in found] == [(ENTRY, None)] * 11
    assert all(each.waited_s > 0 for each in found)
    assert (await three[0].look_up("k", 60, ANY, 1)).entry == ENTRY


async def test_no_call_waits_after_the_leader_reports_that_it_has_no_answer(three: list[AnswerCache]) -> None:
    flight = await led_by(three[0])
    waiting = calls(*three[1:])
    await all_waiting(*three[1:])
    flight.end()
    found = [await each for each in waiting]
    assert [(each.entry, each.flight) for each in found] == [(None, None)] * 8
    alone = [await led_by(cache) for cache in three]  # for a moment, new calls do not wait for each other either
    assert [each.lease for each in alone] == [None] * 3
    for each in alone:
        each.end()


async def test_answer_that_was_not_stored_does_not_delay_other_processes(three: list[AnswerCache]) -> None:
    flight = await led_by(three[0])
    waiting = calls(three[1])
    await all_waiting(three[1])
    flight.answer(ENTRY)
    flight.end()  # such as an answer that is too large
    assert [(await each).flight for each in waiting] == [None] * 4


async def test_one_call_takes_over_from_a_caller_that_disconnects(three: list[AnswerCache]) -> None:
    flight = await led_by(three[0])
    waiting = calls(*three[1:])
    await all_waiting(*three[1:])
    flight.end(is_abandoned=True)
    second = await one_leader(waiting)
    owner = next(cache for cache in three if second in cache._flights.values())
    await finish(owner, second)
    assert [each.entry for each in await asyncio.gather(*waiting)].count(ENTRY) == 7


async def test_one_call_takes_over_from_a_process_that_died(three: list[AnswerCache], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 0.3)
    flight = await led_by(three[0])
    assert flight.lease is not None
    assert flight.lease._timer is not None
    flight.lease._timer.cancel()  # as after SIGKILL, nothing renews or ends the lease
    monkeypatch.setattr(leases, "LEASE_S", 60.0)
    waiting = calls(*three[1:])
    second = await one_leader(waiting)
    await finish(next(cache for cache in three if second in cache._flights.values()), second)
    assert [each.entry for each in await asyncio.gather(*waiting)].count(ENTRY) == 7


async def test_lease_is_renewed_while_its_call_runs(
    three: list[AnswerCache], redis: RedisAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWAL_S", 0.02)
    flight = await led_by(three[0])
    for _ in range(3):
        await run_command(redis, "PEXPIRE", LEASE_KEY, "100")
        await until_longer(redis, 1000)
    await run_command(redis, "DEL", LEASE_KEY)  # such as by a restart of Redis without persistence
    await until_longer(redis, 1000)
    flight.end()
    await eventually_gone(redis)


async def until_longer(redis: RedisAddress, milliseconds: int) -> None:
    """Wait until the lease lasts for longer than this."""
    for _ in range(2000):
        if int(await run_command(redis, "PTTL", LEASE_KEY)) > milliseconds:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the lease was not renewed")


async def eventually_gone(redis: RedisAddress) -> None:
    """Wait until Redis holds no lease."""
    for _ in range(2000):
        if not await run_command(redis, "EXISTS", LEASE_KEY):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the lease did not end")


async def test_process_that_lost_its_lease_takes_it_from_no_other(three: list[AnswerCache], redis: RedisAddress) -> None:
    first = await led_by(three[0])
    await run_command(redis, "DEL", LEASE_KEY)  # such as after a pause of the process
    second = await led_by(three[1])
    holder = await run_command(redis, "GET", LEASE_KEY)
    assert first.lease is not None
    await first.lease._renew_in_store()
    first.end()
    await three[0].close()
    assert await run_command(redis, "GET", LEASE_KEY) == holder
    second.end()


async def test_slow_caller_of_the_leader_does_not_delay_other_processes(
    three: list[AnswerCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWAL_S", 0.02)
    flight = await led_by(three[0])
    waiting = calls(*three[1:])
    await all_waiting(*three[1:])
    delay = CallerDelay(iter([0.0, *range(2, 1000)]).__next__)  # type: ignore[arg-type]
    delay.end_read()
    flight.follow(delay)
    second = await one_leader(waiting)
    await finish(next(cache for cache in three if second in cache._flights.values()), second)
    assert [each.entry for each in await asyncio.gather(*waiting)].count(ENTRY) == 7
    flight.end()


async def test_calls_wait_for_two_leaders_at_most(three: list[AnswerCache], redis: RedisAddress) -> None:
    await run_command(redis, "SET", LEASE_KEY, "a process")
    waiting = calls(*three)
    await all_waiting(*three)
    for holder in ("a second", "a third"):
        assert not any(each.done() for each in waiting)
        await run_command(redis, "SET", LEASE_KEY, holder)
        await eventually(lambda holder=holder: set(holders_of(*three)) <= {holder})  # type: ignore[misc]
    assert [(each.entry, each.flight) for each in await asyncio.gather(*waiting)] == [(None, None)] * 12


async def test_wait_ends_at_the_deadline_of_the_call(three: list[AnswerCache]) -> None:
    flight = await led_by(three[0])
    (late,) = calls(three[1], each=1, timeout_s=0.05)
    patient = calls(three[1], each=1)
    found = await late
    assert (found.entry, found.flight) == (None, None)
    await finish(three[0], flight)
    assert (await patient[0]).entry == ENTRY


async def test_cancelled_call_leaves_no_lease(three: list[AnswerCache], redis: RedisAddress) -> None:
    (await led_by(three[0])).end(is_abandoned=True)  # opens the connections
    await eventually_gone(redis)
    for turns in range(12):
        (call,) = calls(three[0], each=1)
        for _ in range(turns):
            await asyncio.sleep(0)
        if call.cancel():
            await asyncio.wait([call])
            assert call.cancelled(), turns
        else:
            flight = (await call).flight
            assert flight is not None
            flight.end(is_abandoned=True)
        await eventually_gone(redis)


async def test_callers_that_accept_no_stored_answer_do_not_wait_one_by_one(three: list[AnswerCache]) -> None:
    assert await three[0].save("k", Entry(50.0, b"", b"old"), 60, BOUNDS)
    control = CacheControl(max_age_s=10)
    flight = await led_by(three[0], control)
    waiting = calls(*three[1:], control=control)
    await all_waiting(*three[1:])
    flight.answer(Entry(60.0, b"", b"too old as well"))
    flight.is_stored = await three[0].save("k", Entry(60.0, b"", b"too old as well"), 60, BOUNDS)
    flight.end()
    assert [((await each).entry, (await each).flight) for each in waiting] == [(None, None)] * 8


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_each_process_sends_one_request_while_redis_is_unavailable(
    own_redis: RedisServer, how: str, patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = [cache_in(own_redis.address) for _ in range(3)]
    flight = await led_by(caches[0])
    waiting = calls(*caches[1:])
    await all_waiting(*caches[1:])
    monkeypatch.setattr(leases, "COMMAND_TIMEOUT_S", 0.25)
    getattr(own_redis, how)()
    await eventually(lambda: sum(each.done() for each in waiting) == 2)  # in each process, one call sends the request for all
    pending = [each for each in waiting if not each.done()]
    alone = [each.result().flight for each in waiting if each.done()]
    assert all(each is not None and each.lease is None for each in alone)
    for leader in (flight, *alone):
        assert leader is not None
        leader.answer(ENTRY)
        leader.end()
    assert [(await each).entry for each in pending] == [ENTRY] * 6
    if how == "freeze":
        own_redis.thaw()
    for cache in caches:
        await cache.close()
