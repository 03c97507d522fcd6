"""The lookups of cached answers and the flights of equal calls, with a store that fails or hangs."""

from __future__ import annotations

import asyncio

import pytest

from gateway.cache import answers
from gateway.cache.answers import AnswerCache, Flight, Lookup, max_answer_bytes
from gateway.cache.caller_delay import CallerDelay
from gateway.cache.control import CacheControl
from gateway.cache.entry import Entry
from gateway.cache.guard import PAUSE_AFTER_TIMEOUT_S
from gateway.config.cache import CacheBounds
from gateway.store.cached_answers import MemoryAnswers
from gateway.store.errors import StoreUnavailableError
from gateway.store.responses import Bounds
from tests.flows.live import eventually

ANY = CacheControl()
BOUNDS = CacheBounds()


def entry(stored_at: float = 100.0, body: bytes = b"{}") -> Entry:
    """Return an answer."""
    return Entry(stored_at, b"application/json", body)


class BrokenStore(MemoryAnswers):
    """A store that fails, or that hangs if `hangs` is true. `lookups` counts its calls."""

    def __init__(self, *, hangs: bool = False) -> None:
        super().__init__()
        self.hangs = hangs
        self.lookups = 0

    async def load(self, owner: str, id: str) -> bytes | None:
        """Fail or hang."""
        self.lookups += 1
        if self.hangs:
            await asyncio.sleep(60)
        raise StoreUnavailableError("broken")

    async def save(self, owner: str, id: str, record: bytes, bounds: Bounds) -> None:
        """Fail or hang."""
        await self.load(owner, id)


def cache_at(now: float) -> AnswerCache:
    """Return an empty cache whose clock shows `now`."""
    return AnswerCache(MemoryAnswers(), lambda: now)


async def test_answer_is_found_with_its_age_until_it_is_too_old() -> None:
    cache = cache_at(110.0)
    assert await cache.save("k", entry(), 60, BOUNDS)
    assert await cache.look_up("k", 60, ANY, 1) == (entry(), 10.0, None, 0.0)
    for ttl_s, control in ((9, ANY), (60, CacheControl(max_age_s=9))):
        found = await cache.look_up("k", ttl_s, control, 1)
        assert found.entry is None
        assert found.flight is not None
        found.flight.end()


async def test_a_stored_answer_is_found_without_a_flight() -> None:
    cache = cache_at(110.0)
    assert await cache.find("k", 60, ANY) == Lookup()
    assert await cache.save("k", entry(), 60, BOUNDS)
    leader = await leader_of(cache, "other")
    assert await cache.find("k", 60, ANY) == Lookup(entry(), 10.0)
    assert await cache.find("other", 60, ANY) == Lookup()
    for ttl_s, control in ((9, ANY), (60, CacheControl(max_age_s=9))):
        assert await cache.find("k", ttl_s, control) == Lookup()
    leader.end()
    assert await AnswerCache(BrokenStore()).find("k", 60, ANY) == Lookup()


async def test_waiting_calls_get_the_answer_of_the_leader_even_after_it_was_given() -> None:
    cache = cache_at(100.0)
    leader = await cache.look_up("k", 60, ANY, 1)
    assert leader.flight is not None
    waiting = [asyncio.ensure_future(cache.look_up("k", 60, ANY, 60)) for _ in range(3)]
    await asyncio.sleep(0)
    leader.flight.answer(entry())
    assert [(await each).entry for each in waiting] == [entry()] * 3
    assert (await cache.look_up("k", 60, ANY, 60)).entry == entry()
    leader.flight.end(is_abandoned=True)  # has no effect on an answer
    assert not leader.flight.is_abandoned
    assert (await cache.look_up("k", 60, ANY, 1)).flight is not None


async def test_end_without_an_answer_releases_the_waiting_calls_and_an_abandoned_flight_makes_one_the_leader() -> None:
    for is_abandoned in (False, True):
        cache = cache_at(100.0)
        flight = (await cache.look_up("k", 60, ANY, 1)).flight
        assert flight is not None
        waiting = [asyncio.ensure_future(cache.look_up("k", 60, ANY, 60)) for _ in range(3)]
        await asyncio.sleep(0)
        flight.end(is_abandoned=is_abandoned)
        done, pending = await asyncio.wait(waiting, timeout=0.5)
        leaders = [each.result().flight for each in done if each.result().flight is not None]
        assert (len(leaders), len(pending)) == ((1, 2) if is_abandoned else (0, 0))
        for leader in leaders:
            leader.answer(entry())
        assert [(await each).entry for each in pending] == [entry()] * len(pending)


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the delay by a slow caller after which waiting calls continue without it."""
    monkeypatch.setattr(answers, "MAX_CALLER_DELAY_S", 0.05)
    monkeypatch.setattr(answers, "MIN_CHECK_INTERVAL_S", 0.01)


def delay(*seconds: float) -> CallerDelay:
    """Return the delay of a caller that is receiving its first piece: each reading has the next of these values, in seconds."""
    times = iter([0.0, *seconds])
    last = CallerDelay(lambda: next(times, seconds[-1]))
    last.end_read()
    return last


async def leader_of(cache: AnswerCache, key: str = "k") -> Flight:
    """Return the flight that a new call leads."""
    flight = (await cache.look_up(key, 60, ANY, 1)).flight
    assert flight is not None
    return flight


async def slow_and_second(cache: AnswerCache) -> tuple[Flight, Flight, set[asyncio.Future[Lookup]]]:
    """Return the flight of a call with a slow caller, that of the call which replaces it, and the three lookups that still wait."""
    slow = await leader_of(cache)
    slow.follow(delay(0.01, 0.02, 1.0))
    waiting = [asyncio.ensure_future(cache.look_up("k", 60, ANY, 60)) for _ in range(4)]
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    (second,) = [each.result().flight for each in done]
    assert second is not None
    return slow, second, pending


@pytest.mark.usefixtures("brisk")
async def test_a_leader_with_a_slow_caller_is_replaced_once() -> None:
    cache = cache_at(100.0)
    slow, second, pending = await slow_and_second(cache)
    assert len(pending) == 3
    second.follow(delay(1.0))
    found = [await each for each in pending]
    assert [(each.entry, each.flight) for each in found] == [(None, None)] * 3  # the calls send their own requests
    third = await leader_of(cache)
    slow.end(is_abandoned=True)
    second.end()
    assert (await asyncio.wait([asyncio.ensure_future(cache.look_up("k", 60, ANY, 0.01))]))[0].pop().result().flight is None
    third.end()


@pytest.mark.usefixtures("brisk")
async def test_a_new_leader_answers_the_calls_that_waited_for_a_slow_one() -> None:
    cache = cache_at(100.0)
    slow, second, pending = await slow_and_second(cache)
    second.answer(entry(body=b"of the second"))
    slow.answer(entry(body=b"of the first"))
    second.end()
    assert {(await each).entry for each in pending} == {entry(body=b"of the second")}


@pytest.mark.usefixtures("brisk")
async def test_calls_wait_for_a_slow_upstream() -> None:
    cache = cache_at(100.0)
    leader, reads = await leader_of(cache), 0

    def clock() -> float:
        nonlocal reads
        reads += 1
        return 0.0

    caller_delay = CallerDelay(clock)
    caller_delay.end_read()
    leader.follow(caller_delay)
    waiting = asyncio.ensure_future(cache.look_up("k", 60, ANY, 60))
    await eventually(lambda: reads >= 6)
    assert not waiting.done()
    leader.answer(entry())
    leader.end()
    assert (await waiting).entry == entry()
    checked = reads
    await asyncio.sleep(0.1)
    assert reads == checked  # the end of a flight ends its checks


async def test_wait_for_another_call_ends_at_the_deadline() -> None:
    cache = cache_at(100.0)
    assert (await cache.look_up("k", 60, ANY, 1)).flight is not None
    found = await cache.look_up("k", 60, ANY, 0.01)
    assert (found.entry, found.flight) == (None, None)
    assert found.waited_s > 0


async def test_store_that_fails_or_hangs_counts_as_empty() -> None:
    failing = AnswerCache(BrokenStore())
    found = await failing.look_up("k", 60, ANY, 1)
    assert found.flight is not None
    assert not await failing.save("k", entry(), 60, BOUNDS)
    await failing.forget("k")
    hanging = BrokenStore(hangs=True)
    cache = AnswerCache(hanging)
    for key in "abcde":
        assert (await cache.look_up(key, 60, ANY, 60)).flight is not None
    assert not await cache.save("k", entry(), 60, BOUNDS)
    assert hanging.lookups == 1
    assert PAUSE_AFTER_TIMEOUT_S > 5 * answers.LOOKUP_TIMEOUT_S


async def test_leader_cancelled_during_its_lookup_gives_the_lead_to_the_next() -> None:
    store = BrokenStore(hangs=True)
    cache = AnswerCache(store)
    first = asyncio.ensure_future(cache.look_up("k", 60, ANY, 60))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(cache.look_up("k", 60, ANY, 60))
    await asyncio.sleep(0)
    first.cancel()
    assert isinstance((await second).flight, Flight)


async def test_damaged_record_counts_as_missing() -> None:
    store = MemoryAnswers()
    await store.save("", "k", b"damaged", Bounds(60, 1 << 20))
    assert (await AnswerCache(store).look_up("k", 60, ANY, 1)).entry is None


def test_one_answer_may_take_an_eighth_of_the_store() -> None:
    assert max_answer_bytes(CacheBounds(max_bytes=800, max_answer_bytes=1000)) == 100
    assert max_answer_bytes(CacheBounds(max_bytes=80_000, max_answer_bytes=1000)) == 1000
