"""The caller of one call: disconnects, stalls and silence are detected, and the response ends once."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import MutableMapping
from typing import Any

import pytest

from gateway.http.caller import HEARTBEAT_EVENT, Caller, CallerDeadlines


class Transport:
    """A connection that records whether it was aborted."""

    def __init__(self) -> None:
        self.aborted = False
        self.ahead = 0

    def abort(self) -> None:
        """Record the abort."""
        self.aborted = True

    def is_closing(self) -> bool:
        """Return whether the connection was aborted."""
        return self.aborted

    def set_write_buffer_limits(self, high: int) -> None:
        """Record the limit."""
        self.ahead = high


class Cycle:
    """The `receive` and `send` that a server gives an application for one request."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.sent: list[MutableMapping[str, Any]] = []
        self.gone = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Record a message. Block while the caller does not read, and fail after the last message as a server does."""
        if self.sent and self.sent[-1].get("more_body") is False:
            raise RuntimeError("Unexpected ASGI message, after response already completed.")
        self.sent.append(message)
        await self.writable.wait()

    async def receive(self) -> MutableMapping[str, Any]:
        """Return nothing until the caller disconnects."""
        await self.gone.wait()
        return {"type": "http.disconnect"}

    def caller(self, send: Any = None, **deadlines: float) -> Caller:
        """Return a Caller whose request body has been read."""
        caller = Caller({"headers": []}, self.receive, send or self.send, CallerDeadlines(**deadlines))
        caller.reading_body = False
        return caller


@pytest.fixture
async def cycle() -> Cycle:
    """The server's side of one request."""
    return Cycle()


async def settle() -> None:
    """Let all ready tasks run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_disconnect_cancels_the_call(cycle: Cycle) -> None:
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


async def test_a_disconnect_after_the_end_does_not_cancel(cycle: Cycle) -> None:
    caller = cycle.caller()
    caller.sweep(0.0)
    await caller.respond(200, [], b"x")
    cycle.gone.set()
    await settle()
    assert caller.finished
    assert not caller.disconnected


async def test_a_call_within_one_tick_starts_no_task(cycle: Cycle) -> None:
    before = len(asyncio.all_tasks())
    caller = cycle.caller()
    await caller.respond(200, [], b"x")
    caller.sweep(1e9)
    assert len(asyncio.all_tasks()) == before


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "behind CORS"])
async def test_a_caller_that_stops_reading_is_disconnected(cycle: Cycle, wrapped: bool) -> None:
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


async def test_heartbeats_are_sent_while_a_stream_is_silent(cycle: Cycle) -> None:
    caller = cycle.caller(heartbeat=5)
    await caller.start_stream([])
    await caller.write(b"data: x\n\n")
    now = asyncio.get_running_loop().time()
    for later in (0, 4, 6, 12):
        caller.sweep(now + later)
        await settle()
    assert [message["body"] for message in cycle.sent[1:]] == [b"data: x\n\n", HEARTBEAT_EVENT, HEARTBEAT_EVENT]
    caller.close()


async def test_no_heartbeat_follows_the_end_of_a_stream(cycle: Cycle) -> None:
    caller = cycle.caller(heartbeat=5)
    await caller.start_stream([])
    caller.sweep(0.0)
    caller.sweep(asyncio.get_running_loop().time() + 6)  # the heartbeat is due, but the stream ends before it is sent
    await caller.finish(b"data: [DONE]\n\n")
    await settle()
    assert [message["body"] for message in cycle.sent[1:]] == [b"data: [DONE]\n\n"]
    caller.close()


async def test_a_body_that_arrives_too_slowly_ends_the_call(cycle: Cycle) -> None:
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
