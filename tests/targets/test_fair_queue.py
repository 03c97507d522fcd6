"""The queue of a target serves keys in proportion to their priorities, by tokens, and rejects the lowest priority first."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.targets.bulkhead import Bulkhead
from gateway.targets.fair_queue import Claim, FairQueue, Ticket

SIZES = st.lists(st.integers(1, 5_000), min_size=1, max_size=60)


def serve(calls: dict[str, list[int]], priorities: dict[str, int]) -> list[tuple[str, int]]:
    """Return the order in which a queue serves calls that all wait from the beginning, as pairs of key and tokens."""

    async def run() -> list[tuple[str, int]]:
        queue = FairQueue()
        for key, sizes in calls.items():
            for size in sizes:
                queue.add(Claim(key, priorities[key], size))
        return [(ticket.owner.name, ticket.tokens) for ticket in (queue.pop() for _ in range(len(queue)))]

    return asyncio.run(run())


@given(SIZES, SIZES, st.integers(1, 1000), st.integers(1, 1000))
def test_while_two_keys_wait_their_tokens_are_in_proportion_to_their_priorities(
    ones: list[int], others: list[int], one: int, other: int
) -> None:
    left = {"one": len(ones), "other": len(others)}
    served = Counter[str]()
    allowed = max(ones) / one + max(others) / other  # the bound of start-time fair queuing
    for key, tokens in serve({"one": ones, "other": others}, {"one": one, "other": other}):
        if not all(left.values()):
            break
        served[key] += tokens
        left[key] -= 1
        assert abs(served["one"] / one - served["other"] / other) <= allowed * 1.000001


@given(st.lists(st.integers(1, 2_000), min_size=50, max_size=200), st.lists(st.integers(1, 2_000), min_size=1, max_size=10))
def test_a_flood_delays_a_key_of_the_same_priority_by_no_more_than_its_own_share(flood: list[int], quiet: list[int]) -> None:
    before = Counter[str]()
    for key, tokens in serve({"flood": flood, "quiet": quiet}, {"flood": 100, "quiet": 100}):
        if key == "quiet":
            own = before["quiet"] + tokens
            assert before["flood"] <= own + max(flood), "the flood got more than the same number of tokens and one call"
        before[key] += tokens
        if before["quiet"] == sum(quiet):
            break


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 900), st.sampled_from(["add", "add", "pop", "cancel", "correct"]))))
def test_no_call_is_lost_or_served_twice_and_calls_of_a_key_keep_their_order(steps: list[tuple[str, int, str]]) -> None:
    async def run() -> None:
        queue, waiting, served = FairQueue(), list[Ticket](), list[Ticket]()
        for key, size, step in steps:
            if step == "add":
                waiting.append(queue.add(Claim(key, size % 7 + 1, size)))
            elif step == "pop" and waiting:
                ticket = queue.pop()
                assert ticket is next(each for each in waiting if each.owner is ticket.owner)
                waiting.remove(ticket)
                served.append(ticket)
            elif step == "cancel" and waiting:
                queue.remove(waiting.pop(size % len(waiting)))
            elif step == "correct" and served:
                queue.correct(served.pop(), size, size // 2)
            assert len(queue) == len(waiting)
        assert {queue.pop() for _ in range(len(queue))} == set(waiting)

    asyncio.run(run())


async def test_a_key_that_sent_nothing_for_a_while_cannot_save_up_a_claim() -> None:
    queue = FairQueue()
    for _ in range(40):
        queue.add(Claim("busy", 100, 100))
    for _ in range(20):
        queue.pop()
    for _ in range(10):
        queue.add(Claim("late", 100, 100))
    assert Counter(queue.pop().owner.name for _ in range(10)) == {"busy": 5, "late": 5}


async def test_tokens_that_a_call_used_beyond_the_expected_ones_count_for_its_key() -> None:
    queue = FairQueue()
    for _ in range(10):
        queue.add(Claim("long", 100, 100))
        queue.add(Claim("short", 100, 100))
    first = queue.pop()
    assert first.owner.name == "long"
    queue.correct(first, 500, 400)
    assert [queue.pop().owner.name for _ in range(5)] == ["short"] * 5


async def test_a_full_queue_rejects_the_lowest_priority_that_exceeds_its_share() -> None:
    queue = FairQueue()
    for key, priority, calls in (("low", 50, 4), ("high", 200, 6)):
        for _ in range(calls):
            queue.add(Claim(key, priority, 10))
    assert queue.shed(9).owner.name == "low"  # 4 of 9 is more than 50 of 250
    assert queue.waiting_by_owner() == {"high": 6, "low": 3}
    for _ in range(20):
        queue.add(Claim("high", 200, 10))
    assert [queue.shed(9).owner.name for _ in range(2)] == ["low", "low"]
    assert queue.shed(9).owner.name == "high"  # the last call of the lower priority is within its share
    assert queue.waiting_by_owner()["low"] == 1


async def test_of_keys_with_the_same_priority_the_one_with_most_calls_loses_its_latest() -> None:
    queue = FairQueue()
    calls = [queue.add(Claim("flood", 100, 10)) for _ in range(5)]
    queue.add(Claim("quiet", 100, 10))
    assert queue.shed(5) is calls[-1]


async def test_if_every_key_has_one_call_the_newcomer_is_rejected() -> None:
    queue = FairQueue()
    for key in range(5):
        queue.add(Claim(f"key-{key}", 100, 10))
    newcomer = queue.add(Claim("newcomer", 100, 10))
    assert queue.shed(5) is newcomer


async def test_calls_that_time_out_leave_nothing_behind_while_the_queue_never_empties() -> None:
    queue = FairQueue()
    queue.add(Claim("stays", 100, 10))
    for number in range(10_000):
        queue.remove(queue.add(Claim(f"key-{number}", 100, 10)))
    assert len(queue) == 1
    assert len(queue._by_tag) < 200
    assert len(queue._owners) < 200


async def test_a_flood_neither_starves_nor_displaces_another_key_of_a_bulkhead() -> None:
    bulkhead, served, rejected = Bulkhead(1, 30, 60.0), list[str](), list[str]()
    bulkhead.enter()

    async def call(key: str) -> None:
        ticket = await bulkhead.acquire(60.0, Claim(key, 100, 100))
        (rejected if ticket is None else served).append(key)
        if ticket is not None:
            bulkhead.release()

    tasks = [asyncio.create_task(call("flood")) for _ in range(200)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(call("quiet")) for _ in range(10)]
    await asyncio.sleep(0)
    assert bulkhead.queue.waiting_by_owner() == {"flood": 20, "quiet": 10}
    bulkhead.release()
    await asyncio.gather(*tasks)
    assert Counter(served[:20]) == {"flood": 10, "quiet": 10}
    assert Counter(rejected) == {"flood": 180}
    assert (bulkhead.running, bulkhead.waiting) == (0, 0)
