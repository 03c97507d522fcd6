"""The order in which steps of several calls run."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from gateway.http import rounds as rounds_module
from gateway.http.rounds import ACCOUNT, ADAPT, BUSY_PART, FEW_CALLS, MAX_STEPS, MIN_MEASURED_S, READ, START, STEPS_MEASURED, Rounds


def busy_rounds() -> Rounds:
    """Return the rounds of a process with so many calls in flight that their steps wait for a round."""
    rounds = Rounds()
    rounds.calls = FEW_CALLS + 1
    return rounds


async def end_of_round() -> None:
    """Wait until the loop has run the next round."""
    await asyncio.sleep(0)


async def test_a_step_runs_at_once_while_there_are_few_calls() -> None:
    rounds, done = Rounds(), list[str]()
    rounds.calls = FEW_CALLS
    rounds.add(ACCOUNT, partial(done.append, "account"))
    assert done == ["account"]


async def test_steps_run_at_once_while_the_processor_is_idle_for_a_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, used_s = 0.0, 0.0
    monkeypatch.setattr(rounds_module, "monotonic", lambda: now)
    monkeypatch.setattr(rounds_module, "thread_time", lambda: used_s)
    rounds, done = busy_rounds(), list[int]()
    for elapsed_s, part, is_busy in (
        (MIN_MEASURED_S, BUSY_PART - 0.01, False),
        (MIN_MEASURED_S, BUSY_PART + 0.01, True),
        (MIN_MEASURED_S * 0.9, 0.0, True),  # not measured, because it is too short
        (MIN_MEASURED_S, 0.0, False),
        (100.0, 1.0, True),
    ):
        now += elapsed_s
        used_s += elapsed_s * part
        for number in range(STEPS_MEASURED):
            rounds.add(READ, partial(done.append, number))
        assert rounds.is_busy is is_busy
        await end_of_round()
        while rounds._is_scheduled:
            await end_of_round()
        done.clear()
        rounds.add(READ, partial(done.append, 0))
        assert done == ([] if is_busy else [0])
        await end_of_round()
        rounds._steps_left = STEPS_MEASURED


async def test_a_round_runs_each_stage_for_all_calls_before_the_next_stage() -> None:
    rounds, done = busy_rounds(), list[str]()

    def read(call: str) -> None:
        done.append(f"read {call}")
        rounds.add(ACCOUNT, partial(done.append, f"account {call}"))

    for call in "ab":
        rounds.add(READ, partial(read, call))
    for stage, name in ((START, "start"), (ADAPT, "adapt")):
        for call in "ab":
            rounds.add(stage, partial(done.append, f"{name} {call}"))
    assert done == []
    await end_of_round()
    assert done == ["start a", "start b", "adapt a", "adapt b", "read a", "read b", "account a", "account b"]


async def test_a_step_of_a_later_stage_runs_in_the_same_round() -> None:
    rounds, done = busy_rounds(), list[str]()

    def start(call: str) -> None:
        done.append(f"start {call}")
        rounds.add(ADAPT, partial(done.append, f"adapt {call}"))

    rounds.add(START, partial(start, "a"))
    rounds.add(START, partial(start, "b"))
    await end_of_round()
    assert done == ["start a", "start b", "adapt a", "adapt b"]


async def test_a_step_of_an_earlier_stage_waits_for_the_next_round() -> None:
    rounds, done = busy_rounds(), list[str]()
    rounds.add(READ, lambda: rounds.add(START, partial(done.append, "start")))
    await end_of_round()
    assert done == []
    await end_of_round()
    assert done == ["start"]


async def test_steps_keep_their_order_although_a_call_ends_while_others_wait() -> None:
    rounds, done = busy_rounds(), list[str]()
    rounds.add(READ, partial(done.append, "first"))
    rounds.calls = 0
    rounds.add(READ, partial(done.append, "second"))
    await end_of_round()
    assert done == ["first", "second"]


async def test_the_loop_serves_others_after_a_number_of_steps() -> None:
    rounds, done = busy_rounds(), list[int]()
    for number in range(MAX_STEPS + 1):
        rounds.add(READ, partial(done.append, number))
    await end_of_round()
    assert done == list(range(MAX_STEPS))
    await end_of_round()
    assert done == list(range(MAX_STEPS + 1))


@pytest.mark.parametrize("stage", [START, ADAPT])
async def test_an_error_in_a_step_does_not_lose_the_steps_after_it(stage: int) -> None:
    rounds, done, errors = busy_rounds(), list[str](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context["exception"]))
    rounds.add(stage, lambda: [][0])
    rounds.add(stage, partial(done.append, "same stage"))
    rounds.add(READ, partial(done.append, "later stage"))
    await end_of_round()
    await end_of_round()
    assert done == ["same stage", "later stage"]
    assert [type(error) for error in errors] == [IndexError]


async def test_all_answered_calls_are_accounted_for_before_the_next_calls_start() -> None:
    rounds, done = busy_rounds(), list[int | str]()
    for number in range(3 * MAX_STEPS):
        rounds.add(ACCOUNT, partial(done.append, number))
    rounds.add(START, partial(done.append, "start"))
    await end_of_round()
    assert done == [*range(3 * MAX_STEPS), "start"]
