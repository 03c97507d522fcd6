"""Truncation: properties that hold for any conversation, and the single rules."""

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
    """Return any valid conversation: results come after their calls, however late."""
    messages: list[Message] = []
    open_calls: list[str] = []
    for position in range(draw(st.integers(0, 30))):
        role = draw(st.sampled_from(("system", "developer", "user", "assistant", "calls", "tool")))
        if role == "calls":
            ids = [f"call-{position}-{index}" for index in range(draw(st.integers(1, 3)))]
            messages.append({"role": "assistant", "content": None, "tool_calls": [{"id": call_id} for call_id in ids]})
            open_calls += ids
        elif role == "tool":
            if open_calls:
                index = draw(st.integers(0, len(open_calls) - 1))
                messages.append({"role": "tool", "tool_call_id": open_calls.pop(index), "content": "r"})
        else:
            messages.append({"role": role, "content": "x"})
    return messages


@st.composite
def weighted_conversations(draw: st.DrawFn) -> tuple[list[Message], list[int]]:
    """Return a conversation and the tokens of each message."""
    messages = draw(conversations())
    return messages, [draw(st.integers(1, 500)) for _ in messages]


def evict(messages: list[Message], weights: list[int], most: int, policy: Policy) -> tuple[int, ...] | None:
    """Return the indexes evicted for a prompt of at most `most` tokens, or None if that is impossible."""
    order = eviction_order(evictable_groups(messages), policy)
    steps = fewest_groups(len(order), PromptBudget(most, most, most))
    try:
        count = next(steps)
        while True:
            without = evicted_messages(order, count)
            count = steps.send(sum(weight for position, weight in enumerate(weights) if position not in without))
    except StopIteration as result:
        return None if result.value is None else evicted_messages(order, result.value)


@given(weighted_conversations(), st.integers(1, 8000), policies)
def test_the_remaining_prompt_fits_or_no_eviction_would_make_it_fit(
    given_: tuple[list[Message], list[int]], most: int, how: Policy
) -> None:
    messages, weights = given_
    evicted = evict(messages, weights, most, how)
    evictable = {position for group in evictable_groups(messages) for position in group}
    if evicted is None:
        pinned = sum(weight for position, weight in enumerate(weights) if position not in evictable)
        assert pinned > most or not evictable
    else:
        assert sum(weight for position, weight in enumerate(weights) if position not in evicted) <= most
        assert set(evicted) <= evictable


@given(weighted_conversations(), st.integers(1, 8000), policies)
def test_no_more_groups_are_evicted_than_necessary(given_: tuple[list[Message], list[int]], most: int, how: Policy) -> None:
    messages, weights = given_
    evicted = evict(messages, weights, most, how)
    if evicted is None:
        return
    order = eviction_order(evictable_groups(messages), how)
    count = next(count for count in range(1, len(order) + 1) if evicted_messages(order, count) == evicted)
    fewer = evicted_messages(order, count - 1)
    assert count == 1 or sum(weight for position, weight in enumerate(weights) if position not in fewer) > most


@given(weighted_conversations(), st.integers(1, 8000), policies)
def test_eviction_is_deterministic(given_: tuple[list[Message], list[int]], most: int, how: Policy) -> None:
    messages, weights = given_
    assert evict(messages, weights, most, how) == evict([dict(message) for message in messages], list(weights), most, how)


@given(conversations())
def test_system_messages_the_last_question_and_the_last_message_are_never_evicted(messages: list[Message]) -> None:
    evictable = {position for group in evictable_groups(messages) for position in group}
    last_user = max((position for position, message in enumerate(messages) if message["role"] == "user"), default=None)
    assert not evictable & {position for position, message in enumerate(messages) if message["role"] in ("system", "developer")}
    assert last_user not in evictable
    assert len(messages) - 1 not in evictable


@given(conversations())
def test_a_tool_call_and_its_results_are_in_one_group(messages: list[Message]) -> None:
    groups = evictable_groups(messages)
    home = {position: index for index, group in enumerate(groups) for position in group}
    callers = {call["id"]: position for position, message in enumerate(messages) for call in message.get("tool_calls") or ()}
    for position, message in enumerate(messages):
        if message["role"] == "tool":
            assert home.get(position) == home.get(callers[message["tool_call_id"]])


@given(conversations())
def test_groups_are_disjoint_and_middle_out_evicts_the_ends_last(messages: list[Message]) -> None:
    groups = evictable_groups(messages)
    places = [position for group in groups for position in group]
    assert len(places) == len(set(places))
    out = eviction_order(groups, "middle-out")
    assert sorted(out) == sorted(groups)
    if len(groups) > 2:
        assert {out[-1], out[-2]} == {groups[0], groups[-1]}
    for count in range(1, len(groups) + 1):  # the evicted groups are contiguous
        left = sorted(groups.index(group) for group in out[:count])
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


def test_an_answer_is_evicted_with_its_question() -> None:
    assert evictable_groups(CHAT) == [(1, 2, 3, 4, 5), (6, 7)]


def test_tool_calls_of_the_last_turn_are_separate_groups_except_the_latest() -> None:
    turns: list[Message] = [{"role": "system"}, {"role": "user"}]
    for name in ("a", "b", "c"):
        turns += [{"role": "assistant", "tool_calls": [{"id": name}]}, {"role": "tool", "tool_call_id": name}]
    assert evictable_groups(turns) == [(2, 3), (4, 5)]


def test_a_function_result_is_evicted_with_its_call() -> None:
    turns = [{"role": "user"}, {"role": "assistant", "function_call": {}}, {"role": "function"}, {"role": "user"}]
    assert evictable_groups(turns) == [(0, 1, 2)]


@pytest.mark.parametrize(
    ("policy", "expected"), [("oldest-first", [0, 1, 2, 3, 4]), ("middle-out", [2, 1, 3, 0, 4])], ids=["oldest-first", "middle-out"]
)
def test_the_order_of_eviction(policy: Policy, expected: list[int]) -> None:
    groups: list[Group] = [(position,) for position in range(5)]
    assert [group[0] for group in eviction_order(groups, policy)] == expected


def test_truncate_lowers_the_cap_before_an_eviction() -> None:
    limits = WindowLimits("truncate", window=1000)
    assert prompt_budget(limits, 500) == PromptBudget(936, 875, 999)
    assert lowered_cap(limits, 500, 600) == 400
    assert lowered_cap(limits, 400, 600) is None
    assert lowered_cap(limits, None, 600) is None


def test_the_output_cap_of_the_model_lowers_the_cap() -> None:
    assert lowered_cap(WindowLimits("truncate", window=1000, output=100), 500, 10) == 100


def test_a_small_output_cap_is_not_lowered() -> None:
    assert prompt_budget(WindowLimits("truncate", window=1000), 10) == PromptBudget(990, 990, 999)


def test_the_smaller_of_prompt_limit_and_window_applies() -> None:
    assert prompt_budget(WindowLimits("truncate", window=1000, prompt=500), 10) == PromptBudget(500, 500, 500)
    assert prompt_budget(WindowLimits(prompt=500), None) == PromptBudget(500, 500, 500)
    assert prompt_budget(WindowLimits("error", window=1000), None) is None
    assert prompt_budget(WindowLimits(prompt=500, evicts=False), None) is None


def test_the_output_cap_counts_towards_an_overflow() -> None:
    limits = WindowLimits("error", window=1000)
    assert overflows(limits, 101, 900)
    assert not overflows(limits, 100, 900)
    assert overflows(limits, None, 1000)
    assert overflows(WindowLimits("error", window=1000, prompt_window=600), 1, 601)


@given(st.integers(1, 4000), st.one_of(st.none(), st.integers(1, 9000)))
def test_budgets_are_ordered_and_leave_room_for_a_token(window: int, cap: int | None) -> None:
    budget = prompt_budget(WindowLimits("truncate", window=window), cap)
    assert budget is not None
    assert budget.goal <= budget.threshold <= budget.limit == window - 1
