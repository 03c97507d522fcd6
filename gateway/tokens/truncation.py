"""Truncation of a conversation: the messages that may be evicted, their order, and the number that must be evicted.

The functions are pure: the same conversation, limits and policy give the same result. Messages are evicted whole, in
groups: a question with its answers, a tool call with its results. System messages, the last user message and the last
message are never evicted.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal

import msgspec

Policy = Literal["oldest-first", "middle-out"]
Group = tuple[int, ...]
"""Indexes of messages, ascending."""

MIN_OUTPUT_TOKENS = 64
"""Before an eviction, the output cap is lowered, but not below this value unless the caller asked for less or the window is small."""
OUTPUT_WINDOW_DIVISOR = 8
"""An eviction makes room for an answer of up to 1/8 of the window, so that the next turn needs no further eviction."""
PINNED_ROLES = frozenset({"system", "developer"})


class WindowLimits(msgspec.Struct, frozen=True):
    """Limits of the prompt and the answer, in tokens. None means unlimited."""

    overflow: Literal["truncate", "error"] | None = None
    policy: Policy = "oldest-first"
    prompt: int | None = None
    """Maximum size of the prompt. A longer prompt is truncated, or rejected if `evicts` is False."""
    evicts: bool = True
    window: int | None = None
    prompt_window: int | None = None
    """The model's own maximum for a prompt, if it is less than its window."""
    output: int | None = None


class ContextReport(msgspec.Struct, frozen=True):
    """The part of the receipt about the context window."""

    counted: Literal["exact", "estimated"]
    tokenizer: str
    prompt_tokens: int
    window: int | None
    evicted: tuple[int, ...]
    before: int
    after: int


class PromptBudget(msgspec.Struct, frozen=True):
    """Prompt sizes: messages are evicted above `threshold`, down to `goal`; `limit` is the maximum."""

    threshold: int
    goal: int
    limit: int


def prompt_budget(limits: WindowLimits, cap: int | None) -> PromptBudget | None:
    """Return the sizes for the prompt of a call that asks for `cap` output tokens, or None if its size is unlimited."""
    bounds: list[PromptBudget] = []
    if limits.prompt is not None and limits.evicts:
        bounds.append(PromptBudget(limits.prompt, limits.prompt, limits.prompt))
    if limits.overflow == "truncate":
        window = limits.window
        if window is not None:
            min_output = max(1, min(cap or MIN_OUTPUT_TOKENS, MIN_OUTPUT_TOKENS, window // 4))
            room = max(min_output, min(cap or window, window // OUTPUT_WINDOW_DIVISOR))
            bounds.append(PromptBudget(window - min_output, window - room, window - 1))
        if limits.prompt_window is not None:
            bounds.append(PromptBudget(limits.prompt_window, limits.prompt_window, limits.prompt_window))
    if not bounds:
        return None
    return PromptBudget(
        threshold=min(bound.threshold for bound in bounds),
        goal=min(bound.goal for bound in bounds),
        limit=min(bound.limit for bound in bounds),
    )


def lowered_cap(limits: WindowLimits, cap: int | None, prompt: int) -> int | None:
    """Return a lower output cap that fits next to the prompt, or None if the cap need not or must not change."""
    if limits.overflow != "truncate" or cap is None:
        return None
    bounds = [cap] + [bound for bound in (limits.output, limits.window and limits.window - prompt) if bound is not None]
    return min(bounds) if min(bounds) < cap else None


def overflows(limits: WindowLimits, cap: int | None, prompt: int) -> bool:
    """Return whether the prompt is too long for the model, alone or together with the answer."""
    if limits.prompt_window is not None and prompt > limits.prompt_window:
        return True
    return limits.window is not None and prompt + (cap or 1) > limits.window


def evictable_groups(messages: Sequence[Mapping[str, Any]]) -> list[Group]:
    """Return the groups that may be evicted, ordered by their first message."""
    leader = list(range(len(messages)))
    last_user = max((index for index, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    callers: dict[str, int] = {}
    question = answer = -1
    for index, message in enumerate(messages):
        role = message.get("role")
        if role in PINNED_ROLES:
            continue
        if role == "user":
            question = leader[index] = index
        elif role == "assistant":
            leader[index] = question if 0 <= question != last_user else index
            answer = leader[index]
            callers.update({str(call.get("id")): leader[index] for call in message.get("tool_calls") or ()})
        else:
            leader[index] = callers.get(str(message.get("tool_call_id")), answer if answer >= 0 else index)
    pinned = {leader[last_user]} if last_user >= 0 else set()
    pinned |= {leader[-1]} if messages else set()
    groups: dict[int, list[int]] = {}
    for index, message in enumerate(messages):
        if leader[index] not in pinned and message.get("role") not in PINNED_ROLES:
            groups.setdefault(leader[index], []).append(index)
    return [tuple(group) for group in groups.values()]


def eviction_order(groups: Sequence[Group], policy: Policy) -> list[Group]:
    """Return the groups in the order of eviction."""
    if policy == "oldest-first":
        return list(groups)
    middle = len(groups) - 1
    return [groups[index] for index in sorted(range(len(groups)), key=lambda index: (abs(2 * index - middle), index))]


def evicted_messages(groups: Sequence[Group], count: int) -> tuple[int, ...]:
    """Return the indexes of the messages in the first `count` groups."""
    return tuple(sorted(index for group in groups[:count] for index in group))


def fewest_groups(count: int, budget: PromptBudget) -> Generator[int, int, int | None]:
    """Find how many of `count` groups must be evicted.

    Yield a number of groups; the caller sends back the number of tokens of the prompt without them.
    Return the smallest number with which the prompt meets the goal, `count` if only the limit can be met, or None if
    not even the limit can be met.
    """
    low, high = 1, count
    if high == 0:
        return None
    shortest = yield high
    if shortest > budget.goal:
        return high if shortest <= budget.limit else None
    while low < high:
        middle = (low + high) // 2
        if (yield middle) <= budget.goal:
            high = middle
        else:
            low = middle + 1
    return high
