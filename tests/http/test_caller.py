"""The caller's side of one call: leaving, stalling and silence are seen, and the end is said once."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import MutableMapping
from typing import Any

import pytest

from gateway.http.caller import HEARTBEAT_EVENT, Caller, CallerDeadlines
from gateway.http.sweeper import Sweeper


class Transport:
    """A connection that only notes whether it was aborted."""

    def __init__(self) -> None:
        self.aborted = False
        self.ahead = 0

    def abort(self) -> None:
        """Close at once."""
        self.aborted = True

    def is_closing(self) -> bool:
        """Nobody closed it."""
        return self.aborted

    def set_write_buffer_limits(self, high: int) -> None:
        """As many bytes may wait for the reader."""
        self.ahead = high


class Cycle:
    """What a server gives an application for one request."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.sent: list[MutableMapping[str, Any]] = []
        self.gone = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Take a message; waits while the reader takes nothing. A message after the last is the error it is in a server."""
        if self.sent and self.sent[-1].get("more_body") is False:
            raise RuntimeError("Unexpected ASGI message, after response already completed.")
        self.sent.append(message)
        await self.writable.wait()

    async def receive(self) -> MutableMapping[str, Any]:
        """Nothing, until the caller leaves."""
        await self.gone.wait()
        return {"type": "http.disconnect"}

    def caller(self, send: Any = None, **deadlines: float) -> Caller:
        """A Caller on this exchange, its body read already."""
        found = Caller({"headers": []}, self.receive, send or self.send, CallerDeadlines(**deadlines))
        found.reading_body = False
        return found


@pytest.fixture
async def cycle() -> Cycle:
    """One exchange."""
    return Cycle()


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_caller_who_leaves_cancels_the_call(cycle: Cycle) -> None:
    caller = None

    async def call() -> None:
        nonlocal caller
        caller = cycle.caller()
        caller.sweep(0.0)
        cycle.gone.set()
        await asyncio.sleep(60)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(call())
    assert caller is not None
    assert caller.disconnected


async def test_leaving_after_the_end_is_no_abort(cycle: Cycle) -> None:
    caller = cycle.caller()
    caller.sweep(0.0)
    await caller.respond(200, [], b"x")
    cycle.gone.set()
    await settle()
    assert caller.finished
    assert not caller.disconnected


async def test_a_call_within_one_tick_costs_no_task(cycle: Cycle) -> None:
    before = len(asyncio.all_tasks())
    caller = cycle.caller()
    await caller.respond(200, [], b"x")
    caller.sweep(1e9)
    assert len(asyncio.all_tasks()) == before


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "behind CORS"])
async def test_a_reader_who_takes_nothing_is_cut_off(cycle: Cycle, wrapped: bool) -> None:
    caller = None

    async def middleware(message: MutableMapping[str, Any], send: Any) -> None:
        await send(message)

    async def call() -> None:
        nonlocal caller
        caller = cycle.caller(functools.partial(middleware, send=cycle.send) if wrapped else None, write_stall=5)
        await caller.start_stream([])
        cycle.writable.clear()
        await caller.write(b"data: x\n\n")

    task = asyncio.create_task(call())
    await settle()
    assert caller is not None
    began = asyncio.get_running_loop().time()
    caller.sweep(began)
    caller.sweep(began + 4)
    await settle()
    assert not task.done()
    caller.sweep(began + 6)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (caller.disconnected, caller.stalled, cycle.transport.aborted) == (True, True, True)
    caller.close()


async def test_silence_is_filled_with_comments_between_events(cycle: Cycle) -> None:
    caller = cycle.caller(heartbeat=5)
    await caller.start_stream([])
    await caller.write(b"data: x\n\n")
    now = asyncio.get_running_loop().time()
    for later in (0, 4, 6, 12):
        caller.sweep(now + later)
        await settle()
    assert [message["body"] for message in cycle.sent[1:]] == [b"data: x\n\n", HEARTBEAT_EVENT, HEARTBEAT_EVENT]
    caller.close()


async def test_a_comment_never_follows_the_end(cycle: Cycle) -> None:
    caller = cycle.caller(heartbeat=5)
    await caller.start_stream([])
    caller.sweep(0.0)
    caller.sweep(asyncio.get_running_loop().time() + 6)  # the comment is due, and before it runs the stream ends
    await caller.finish(b"data: [DONE]\n\n")
    await settle()
    assert [message["body"] for message in cycle.sent[1:]] == [b"data: [DONE]\n\n"]
    caller.close()


async def test_a_body_that_takes_too_long_ends_the_call(cycle: Cycle) -> None:
    caller = None

    async def call() -> None:
        nonlocal caller
        caller = cycle.caller(body=5)
        caller.reading_body = True
        await caller.receive()

    task = asyncio.create_task(call())
    await settle()
    assert caller is not None
    caller.sweep(asyncio.get_running_loop().time() + 6)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert caller.stalled


async def test_the_watch_runs_only_while_something_is_watched() -> None:
    seen: list[float] = []
    thrice = asyncio.Event()

    class One:
        def sweep(self, now: float) -> None:
            """Note it."""
            seen.append(now)
            if len(seen) % 3 == 0:
                thrice.set()

    watch, one = Sweeper(tick=0.01), One()
    for _ in range(2):
        thrice.clear()
        watch.add(one)
        await asyncio.wait_for(thrice.wait(), 20)
        watch.discard(one)
        assert len(watch) == 0
        count = len(seen)
        await asyncio.sleep(0.1)
        assert len(seen) == count
    assert seen == sorted(seen)
