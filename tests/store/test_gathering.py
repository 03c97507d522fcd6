"""After a loss of data, a process waits until no process has noticed a later loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gateway.store import gathering as module
from gateway.store.gathering import Gathering
from gateway.store.limit import US_PER_S
from gateway.store.replay_scripts import TIME_LEFT
from gateway.store.runs import GATHER_S, LIMIT_TAGS, lost_key
from tests.flows.live import eventually
from tests.store.frozen_scripts import run_at

START = 1_900_000_000 * US_PER_S + 123_456
GATHER_US = int(GATHER_S * US_PER_S)
CALLER, TARGET = (lost_key(tag) for tag in LIMIT_TAGS)


class Waiting:
    """A wait, what it did, and its questions, which the test answers."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.asked: list[tuple[str, Callable[[Any], Any]]] = []
        """The key of each question, and the function for its reply."""
        self.gathering = Gathering(self._run, lambda: self.done.append("report"), lambda: self.done.append("end"))

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any], on_reply: Callable[[Any], Any]) -> None:
        assert (script, list(arguments)) == (TIME_LEFT, [GATHER_US])
        self.asked.append((keys[0], on_reply))

    async def begin(self, until: float | None = None) -> None:
        """Begin a wait, and return once it has asked."""
        self.gathering.begin(asyncio.get_running_loop().time() if until is None else until)
        await self.ask()

    async def ask(self) -> None:
        """Wait for its next questions."""
        await eventually(lambda: len(self.asked) == 2)
        assert [key for key, _ in self.asked] == [CALLER, TARGET]

    def answer(self, *replies: Any) -> None:
        """Answer its questions."""
        asked, self.asked = self.asked, []
        for (_, on_reply), reply in zip(asked, replies, strict=True):
            on_reply(reply)


async def test_a_wait_ends_if_no_process_has_noticed_a_later_loss() -> None:
    waiting = Waiting()
    assert not waiting.gathering.is_pending
    until = asyncio.get_running_loop().time() + 0.05
    await waiting.begin(until)
    assert asyncio.get_running_loop().time() >= until - 1e-3
    assert (waiting.done, waiting.gathering.is_pending) == (["report"], True)
    asked = waiting.asked
    asked[0][1](0)
    assert waiting.done == ["report"]  # the other side has not answered
    asked[1][1](0)
    assert (waiting.done, waiting.gathering.is_pending) == (["report", "end"], False)


async def test_usage_is_reported_before_the_end_of_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_S", 1000.0)
    waiting = Waiting()
    waiting.gathering.begin(asyncio.get_running_loop().time() + 1000.0)
    await eventually(lambda: waiting.done == ["report"])
    assert waiting.asked == []
    waiting.gathering.cancel()


@pytest.mark.parametrize("left", [(50_000, 0), (0, 50_000), (1, 50_000)])
async def test_a_wait_goes_on_for_as_long_as_a_later_loss_on_either_side_takes(left: tuple[int, int]) -> None:
    waiting = Waiting()
    await waiting.begin()
    before = asyncio.get_running_loop().time()
    waiting.answer(*left)
    assert (waiting.done, waiting.gathering.is_pending) == (["report"], True)
    await waiting.ask()
    assert asyncio.get_running_loop().time() >= before + 0.05 - 1e-3
    waiting.answer(0, 0)
    assert waiting.done == ["report", "report", "end"]  # usage since the first report


@pytest.mark.parametrize("how", ["before the report", "before the question", "before the replies"])
async def test_a_cancelled_wait_stays_pending_until_another_one_ends(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting()
    if how == "before the replies":
        await waiting.begin()
        old = waiting.asked
        waiting.gathering.cancel()
        for _, on_reply in old:
            on_reply(0)
    else:
        if how == "before the question":
            monkeypatch.setattr(module, "REPORT_S", 1000.0)
        waiting.gathering.begin(asyncio.get_running_loop().time() + 1000.0)
        await asyncio.sleep(0)
        waiting.gathering.cancel()
        assert waiting.gathering._timer is None
        monkeypatch.undo()
    assert ("end" in waiting.done, waiting.gathering.is_pending) == (False, True)
    waiting.asked = []
    await waiting.begin()
    waiting.answer(0, 0)
    assert (waiting.done[-1], waiting.gathering.is_pending) == ("end", False)


async def test_a_new_wait_replaces_an_earlier_one() -> None:
    waiting = Waiting()
    await waiting.begin()
    old, waiting.asked = waiting.asked, []
    await waiting.begin()
    for _, on_reply in old:
        on_reply(0)
    assert "end" not in waiting.done
    waiting.answer(0, 0)
    assert waiting.done.count("end") == 1


async def test_a_question_without_a_reply_leaves_the_wait_to_the_next_connection() -> None:
    waiting = Waiting()
    await waiting.begin()
    waiting.answer(0, ConnectionError("closed"))
    assert ("end" in waiting.done, waiting.gathering.is_pending) == (False, True)


@pytest.mark.parametrize(
    ("known", "left"),
    [
        (None, 0),
        (START, GATHER_US),
        (START - 250_000, GATHER_US - 250_000),
        (START - GATHER_US + 1, 1),
        (START - GATHER_US, 0),
        (START - 10 * GATHER_US, 0),
        (START + 1, 0),  # the clock was set back
        ("inf", 0),
        ("nan", 0),
        ("x", 0),
        ("", 0),
    ],
)
def test_the_time_left_is_counted_from_the_first_notice_of_a_loss(client: Any, known: Any, left: int) -> None:
    if known is not None:
        client.set(CALLER, known)
    assert run_at(client, TIME_LEFT, [CALLER], [GATHER_US], START) == left


def test_a_value_of_another_program_is_no_loss(client: Any) -> None:
    client.rpush(CALLER, "x")
    assert run_at(client, TIME_LEFT, [CALLER], [GATHER_US], START) == 0
    assert client.lrange(CALLER, 0, -1) == [b"x"]  # only read
