"""Background tasks end, even if the task that they wait for loses a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from gateway.upstream import end_tasks as module
from gateway.upstream.end_tasks import BackgroundTasks, end_tasks


async def losing(count: int, lost: list[int]) -> None:
    """Loop like a task whose library turns the first `count` cancellations into errors, which the loop handles."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if len(lost) == count:
                raise
            lost.append(len(lost))


async def failing() -> None:
    """Turn a cancellation into another error."""
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        raise RuntimeError("cannot close") from None


async def test_a_task_that_loses_cancellations_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CANCEL_INTERVAL_S", 0.001)
    lost: list[int] = []
    task = asyncio.create_task(losing(3, lost))
    await asyncio.sleep(0)
    await end_tasks([task])
    assert task.cancelled()
    assert lost == [0, 1, 2]


async def test_tasks_that_have_ended_or_fail_cause_no_error() -> None:
    ended, failed = asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(failing())
    await ended
    await asyncio.sleep(0)
    await end_tasks([ended, failed, None])
    assert failed.done()


async def test_no_tasks_end_at_once() -> None:
    await end_tasks([])


async def test_background_tasks_are_cancelled_when_they_are_replaced_and_ended_when_they_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CANCEL_INTERVAL_S", 0.001)
    tasks, lost = BackgroundTasks(), list[int]()
    tasks.start(losing(0, lost), "replaced")
    await asyncio.sleep(0)
    (replaced,) = tasks.cancel()
    assert len(tasks) == 0
    tasks.start(losing(2, lost), "stopped")
    await asyncio.sleep(0)
    assert len(tasks) == 1
    await tasks.stop()
    assert (replaced.cancelled(), lost, len(tasks)) == (True, [0, 1], 0)
