"""What may leave a conversation: properties over any conversation, and the rules one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tokens.truncation import (
    Group,
    Policy,
    PromptBudget,
    WindowLimits,
    evictable_groups,
    evicted_messages,
    eviction_order,
    fewest_groups,
    lowered_cap,
    overflows,
    prompt_budget,
)

Message = dict[str, Any]
POLICIES: tuple[Policy, ...] = ("oldest-first", "middle-out")
policies = st.sampled_from(POLICIES)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Any conversation that the gateway lets through: results come after their calls, however late."""
    messages: list[Message] = []
    open_calls: list[str] = []
    for at in range(draw(st.integers(0, 30))):
        role = draw(st.sampled_from(("system", "developer", "user", "assistant", "calls", "tool")))
        if role == "calls":
            ids = [f"call-{at}-{index}" for index in range(draw(st.integers(1, 3)))]
            messages.append({"role": "assistant", "content": None, "tool_calls": [{"id": one} for one in ids]})
            open_calls += ids
        elif role == "tool":
            if open_calls:
                index = draw(st.integers(0, len(open_calls) - 1))
                messages.append({"role": "tool", "tool_call_id": open_calls.pop(index), "content": "r"})
        else:
            messages.append({"role": role, "content": "x"})
    return messages


@st.composite
def weighed(draw: st.DrawFn) -> tuple[list[Message], list[int]]:
    """A conversation and the tokens of each message."""
    messages = draw(conversations())
    return messages, [draw(st.integers(1, 500)) for _ in messages]


def evict(messages: list[Message], weights: list[int], most: int, policy: Policy) -> tuple[int, ...] | None:
    """The places that leave so that the prompt has at most `most` tokens; None when it cannot be done."""
    leaving = eviction_order(evictable_groups(messages), policy)
    steps = fewest_groups(len(leaving), PromptBudget(most, most, most))
    try:
        count = next(steps)
        while True:
            without = evicted_messages(leaving, count)
            count = steps.send(sum(weight for at, weight in enumerate(weights) if at not in without))
    except StopIteration as found:
        return None if found.value is None else evicted_messages(leaving, found.value)


@given(weighed(), st.integers(1, 8000), policies)
def test_what_is_left_fits_or_nothing_that_may_leave_would_make_it_fit(
    given_: tuple[list[Message], list[int]], most: int, how: Policy
) -> None:
    messages, weights = given_
    evicted = evict(messages, weights, most, how)
    may_leave = {at for group in evictable_groups(messages) for at in group}
    if evicted is None:
        pinned = sum(weight for at, weight in enumerate(weights) if at not in may_leave)
        assert pinned > most or not may_leave
    else:
        assert sum(weight for at, weight in enumerate(weights) if at not in evicted) <= most
        assert set(evicted) <= may_leave


@given(weighed(), st.integers(1, 8000), policies)
def test_no_more_leaves_than_must(given_: tuple[list[Message], list[int]], most: int, how: Policy) -> None:
    messages, weights = given_
    evicted = evict(messages, weights, most, how)
    if evicted is None:
        return
    leaving = eviction_order(evictable_groups(messages), how)
    count = next(count for count in range(1, len(leaving) + 1) if evicted_messages(leaving, count) == evicted)
    fewer = evicted_messages(leaving, count - 1)
    assert count == 1 or sum(weight for at, weight in enumerate(weights) if at not in fewer) > most


@given(weighed(), st.integers(1, 8000), policies)
def test_the_same_conversation_loses_the_same_messages(given_: tuple[list[Message], list[int]], most: int, how: Policy) -> None:
    messages, weights = given_
    assert evict(messages, weights, most, how) == evict([dict(one) for one in messages], list(weights), most, how)


@given(conversations())
def test_system_messages_the_last_question_and_the_end_never_leave(messages: list[Message]) -> None:
    may_leave = {at for group in evictable_groups(messages) for at in group}
    last_user = max((at for at, one in enumerate(messages) if one["role"] == "user"), default=None)
    assert not may_leave & {at for at, one in enumerate(messages) if one["role"] in ("system", "developer")}
    assert last_user not in may_leave
    assert len(messages) - 1 not in may_leave


@given(conversations())
def test_a_call_and_its_results_are_in_one_group_or_both_stay(messages: list[Message]) -> None:
    found = evictable_groups(messages)
    home = {at: index for index, group in enumerate(found) for at in group}
    callers = {call["id"]: at for at, one in enumerate(messages) for call in one.get("tool_calls") or ()}
    for at, one in enumerate(messages):
        if one["role"] == "tool":
            assert home.get(at) == home.get(callers[one["tool_call_id"]])


@given(conversations())
def test_groups_share_nothing_and_middle_out_leaves_the_ends_longest(messages: list[Message]) -> None:
    found = evictable_groups(messages)
    places = [at for group in found for at in group]
    assert len(places) == len(set(places))
    out = eviction_order(found, "middle-out")
    assert sorted(out) == sorted(found)
    if len(found) > 2:
        assert {out[-1], out[-2]} == {found[0], found[-1]}
    for count in range(1, len(found) + 1):  # what has left is one hole, not several
        left = sorted(found.index(group) for group in out[:count])
        assert left == list(range(left[0], left[0] + count))


CHAT: list[Message] = [
    {"role": "system"},
    {"role": "user"},
    {"role": "assistant", "tool_calls": [{"id": "a"}, {"id": "b"}]},
    {"role": "tool", "tool_call_id": "a"},
    {"role": "tool", "tool_call_id": "b"},
    {"role": "assistant"},
    {"role": "user"},
    {"role": "assistant"},
    {"role": "user"},
]


def test_an_answer_leaves_with_its_question() -> None:
    assert evictable_groups(CHAT) == [(1, 2, 3, 4, 5), (6, 7)]


def test_within_the_last_turn_calls_leave_one_by_one_but_not_the_latest() -> None:
    turns: list[Message] = [{"role": "system"}, {"role": "user"}]
    for name in ("a", "b", "c"):
        turns += [{"role": "assistant", "tool_calls": [{"id": name}]}, {"role": "tool", "tool_call_id": name}]
    assert evictable_groups(turns) == [(2, 3), (4, 5)]


def test_a_result_of_the_old_form_leaves_with_its_call() -> None:
    turns = [{"role": "user"}, {"role": "assistant", "function_call": {}}, {"role": "function"}, {"role": "user"}]
    assert evictable_groups(turns) == [(0, 1, 2)]


@pytest.mark.parametrize(
    ("policy", "expected"), [("oldest-first", [0, 1, 2, 3, 4]), ("middle-out", [2, 1, 3, 0, 4])], ids=["oldest-first", "middle-out"]
)
def test_the_order_in_which_groups_leave(policy: Policy, expected: list[int]) -> None:
    found: list[Group] = [(at,) for at in range(5)]
    assert [group[0] for group in eviction_order(found, policy)] == expected


def test_truncate_lowers_the_cap_before_anything_leaves() -> None:
    limits = WindowLimits("truncate", window=1000)
    assert prompt_budget(limits, 500) == PromptBudget(936, 875, 999)
    assert lowered_cap(limits, 500, 600) == 400
    assert lowered_cap(limits, 400, 600) is None
    assert lowered_cap(limits, None, 600) is None


def test_a_model_that_answers_briefly_lowers_the_cap_too() -> None:
    assert lowered_cap(WindowLimits("truncate", window=1000, output=100), 500, 10) == 100


def test_a_small_answer_keeps_the_room_that_it_asked_for() -> None:
    assert prompt_budget(WindowLimits("truncate", window=1000), 10) == PromptBudget(990, 990, 999)


def test_a_prompt_limit_and_a_window_bound_together() -> None:
    assert prompt_budget(WindowLimits("truncate", window=1000, prompt=500), 10) == PromptBudget(500, 500, 500)
    assert prompt_budget(WindowLimits(prompt=500), None) == PromptBudget(500, 500, 500)
    assert prompt_budget(WindowLimits("error", window=1000), None) is None
    assert prompt_budget(WindowLimits(prompt=500, evicts=False), None) is None


def test_an_overflow_counts_the_answer() -> None:
    limits = WindowLimits("error", window=1000)
    assert overflows(limits, 101, 900)
    assert not overflows(limits, 100, 900)
    assert overflows(limits, None, 1000)
    assert overflows(WindowLimits("error", window=1000, prompt_window=600), 1, 601)


@given(st.integers(1, 4000), st.one_of(st.none(), st.integers(1, 9000)))
def test_a_budget_is_in_order_and_leaves_room_for_a_token(window: int, cap: int | None) -> None:
    found = prompt_budget(WindowLimits("truncate", window=window), cap)
    assert found is not None
    assert found.goal <= found.threshold <= found.limit == window - 1
