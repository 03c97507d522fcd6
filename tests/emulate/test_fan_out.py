"""Several upstream calls as one answer: the merged answer equals that of sequential calls, and a failure or a disconnect ends all calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.emulate.fan_out import MergedStream, gather_all, interleave, merge_answers, sum_usage_objects
from providers.aggregate import Aggregate
from providers.base import Body, Usage
from providers.rules.fan_out import fan_out

TEXTS = st.lists(st.lists(st.text(max_size=4), min_size=1, max_size=4), min_size=1, max_size=4)
COUNTS = st.integers(0, 10**6)


def answer(text: str, at: int) -> dict[str, Any]:
    """Return one upstream's answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 7, "completion_tokens": len(text), "total_tokens": 7 + len(text), "details": {"cached_tokens": at}}
    return {"id": f"c{at}", "object": "chat.completion", "created": at, "model": "m", "choices": [choice], "usage": usage}


def stream(texts: list[str], at: int) -> list[bytes]:
    """Return the same answer as events."""
    head = {"id": f"c{at}", "object": "chat.completion.chunk", "created": at, "model": "m"}
    events = [{**head, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in texts]
    whole = answer("".join(texts), at)
    events.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({**head, "choices": [], "usage": whole["usage"]})
    return [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]


@given(TEXTS, st.randoms(use_true_random=False))
def test_streams_mixed_in_any_order_say_what_the_merged_answers_say(texts: list[list[str]], chance: Any) -> None:
    merged = json.loads(merge_answers([json.dumps(answer("".join(one), at)).encode() for at, one in enumerate(texts)]))
    left = [stream(one, at) for at, one in enumerate(texts)]
    whole, mixed = Aggregate(), MergedStream()
    while any(left):
        at = chance.choice([at for at, queue in enumerate(left) if queue])
        for event in mixed.rewrite(at, left[at].pop(0)).split(b"\n\n"):
            if event:
                whole.feed(event.removeprefix(b"data: "))
    whole.feed(mixed.usage_event(len(texts)).strip().removeprefix(b"data: "))
    streamed = json.loads(whole.result())
    assert streamed["choices"] == merged["choices"]
    assert streamed["usage"] == merged["usage"]


@given(TEXTS)
def test_choices_come_in_the_order_of_the_calls(texts: list[list[str]]) -> None:
    merged = json.loads(merge_answers([json.dumps(answer("".join(one), at)).encode() for at, one in enumerate(texts)]))
    assert [choice["index"] for choice in merged["choices"]] == list(range(len(texts)))
    assert [choice["message"]["content"] for choice in merged["choices"]] == ["".join(one) for one in texts]
    assert merged["id"] == "c0"


@given(st.lists(st.tuples(COUNTS, COUNTS, COUNTS), min_size=1, max_size=8))
def test_usage_adds_up_as_each_call_is_billed(counts: list[tuple[int, int, int]]) -> None:
    total = reduce(Usage.plus, [Usage(prompt, completion, cached) for prompt, completion, cached in counts])
    assert (total.prompt_tokens, total.completion_tokens, total.cached_tokens) == tuple(map(sum, zip(*counts, strict=True)))
    raw = sum_usage_objects([{"prompt_tokens": prompt, "details": {"cached": cached}} for prompt, _, cached in counts])
    assert raw == {"prompt_tokens": total.prompt_tokens, "details": {"cached": total.cached_tokens}}


@given(st.integers(1, 8), st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)))
def test_derived_seeds_differ_from_each_other_and_begin_with_the_given_one(n: int, seed: int | None) -> None:
    body = Body(json.dumps({"seed": seed, "messages": []} if seed is not None else {"messages": []}).encode())
    seeds = [one.get("seed") for one in fan_out(body, n)]
    if seed is None:
        assert seeds == [None] * n
    else:
        assert seeds[0] == seed
        assert len(set(seeds)) == n
        assert all(-(2**63) <= one < 2**63 for one in seeds)


@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=8))
def test_a_list_gives_each_call_its_own_seed(seeds: list[int]) -> None:
    assert [one.get("seed") for one in fan_out(Body(json.dumps({"seed": seeds}).encode()), len(seeds))] == seeds


async def test_the_first_failure_ends_the_other_calls_and_is_raised() -> None:
    ended: list[int] = []

    async def one(at: int) -> int:
        try:
            if at == 1:
                raise ValueError("no")
            await asyncio.sleep(3600)
        finally:
            ended.append(at)
        return at

    with pytest.raises(ValueError, match="no"):
        await gather_all([one(at) for at in range(3)])
    assert sorted(ended) == [0, 1, 2]


async def test_results_come_in_the_order_of_the_calls() -> None:
    turn = asyncio.Event()

    async def late() -> str:
        await turn.wait()
        return "late"

    async def early() -> str:
        turn.set()
        return "early"

    assert await gather_all([late(), early()]) == ["late", "early"]


Put = Callable[[bytes], Awaitable[None]]


async def test_nothing_is_sent_before_every_stream_has_begun() -> None:
    may_begin = asyncio.Event()

    async def pump(at: int, put: Put) -> None:
        if at == 1:
            await may_begin.wait()
        await put(b"%d" % at)

    async with aclosing(interleave(2, pump)) as pieces:
        first = asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0.02)
        assert not first.done()
        may_begin.set()
        assert await first == (0, b"0")
        assert [piece async for piece in pieces] == [(1, b"1")]


async def test_a_failure_before_all_have_begun_is_raised_before_any_piece() -> None:
    ended: list[int] = []

    async def pump(at: int, put: Put) -> None:
        try:
            if at == 1:
                raise ValueError("no")
            await put(b"0")
            await asyncio.sleep(3600)
        finally:
            ended.append(at)

    seen: list[tuple[int, bytes]] = []

    async def read() -> None:
        async with aclosing(interleave(2, pump)) as pieces:
            seen.extend([piece async for piece in pieces])

    with pytest.raises(ValueError, match="no"):
        await read()
    assert (seen, sorted(ended)) == ([], [0, 1])


async def test_a_reader_that_disconnects_ends_every_stream() -> None:
    ended: list[int] = []

    async def pump(at: int, put: Put) -> None:
        try:
            while True:
                await put(b"x")
        finally:
            ended.append(at)

    async with aclosing(interleave(3, pump)) as pieces:
        await anext(pieces)
    assert sorted(ended) == [0, 1, 2]
