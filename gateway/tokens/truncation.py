"""Room in the context window: what may leave a conversation, in which order, and how much has to.

Pure: the same conversation, numbers and policy give the same outcome. Messages leave whole. What leaves together is a group: a
question with the answers to it, and a tool call with its results. System messages, the last user message and the very end of the
conversation never leave.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal

import msgspec

Policy = Literal["oldest-first", "middle-out"]
Group = tuple[int, ...]
"""Places in the conversation, ascending."""

MIN_OUTPUT_TOKENS = 64
"""Tokens that an answer has at least, unless the caller asked for fewer: the output cap is lowered this far before anything leaves."""
OUTPUT_SHARE_OF_WINDOW = 8
"""Once messages leave, they make room for an answer of this share of the window: so the next turn does not evict again."""
PINNED_ROLES = frozenset({"system", "developer"})


class WindowLimits(msgspec.Struct, frozen=True):
    """What the prompt and the answer may take. None: no such limit."""

    overflow: Literal["truncate", "error"] | None = None
    policy: Policy = "oldest-first"
    prompt: int | None = None
    """Longest prompt: more of it leaves, or is refused when not `evicts`."""
    evicts: bool = True
    window: int | None = None
    prompt_window: int | None = None
    """Longest prompt that the model takes, where that is less than its window."""
    output: int | None = None


class ContextReport(msgspec.Struct, frozen=True):
    """What the receipt says about the context window."""

    counted: Literal["exact", "estimated"]
    tokenizer: str
    prompt_tokens: int
    window: int | None
    evicted: tuple[int, ...]
    before: int
    after: int


class PromptBudget(msgspec.Struct, frozen=True):
    """`most` tokens of prompt need no eviction; once there must be one, `aim` is aimed at; more than `limit` cannot be sent."""

    unevicted: int
    target: int
    limit: int


def prompt_budget(limits: WindowLimits, cap: int | None) -> PromptBudget | None:
    """The prompt's budget when the caller asked for `cap` tokens of output; None when nothing bounds it."""
    bounds: list[PromptBudget] = []
    if limits.prompt is not None and limits.evicts:
        bounds.append(PromptBudget(limits.prompt, limits.prompt, limits.prompt))
    if limits.overflow == "truncate":
        window = limits.window
        if window is not None:
            least = max(1, min(cap or MIN_OUTPUT_TOKENS, MIN_OUTPUT_TOKENS, window // 4))
            room = max(least, min(cap or window, window // OUTPUT_SHARE_OF_WINDOW))
            bounds.append(PromptBudget(window - least, window - room, window - 1))
        if limits.prompt_window is not None:
            bounds.append(PromptBudget(limits.prompt_window, limits.prompt_window, limits.prompt_window))
    if not bounds:
        return None
    return PromptBudget(min(one.unevicted for one in bounds), min(one.target for one in bounds), min(one.limit for one in bounds))


def lowered_cap(limits: WindowLimits, cap: int | None, prompt: int) -> int | None:
    """The output cap that fits beside the prompt; None when it may stay as it is."""
    if limits.overflow != "truncate" or cap is None:
        return None
    bounds = [cap] + [bound for bound in (limits.output, limits.window and limits.window - prompt) if bound is not None]
    return min(bounds) if min(bounds) < cap else None


def overflows(limits: WindowLimits, cap: int | None, prompt: int) -> bool:
    """Whether prompt and answer are more than the window takes."""
    if limits.prompt_window is not None and prompt > limits.prompt_window:
        return True
    return limits.window is not None and prompt + (cap or 1) > limits.window


def evictable_groups(messages: Sequence[Mapping[str, Any]]) -> list[Group]:
    """What may leave, each group whole, by the place of its first message."""
    leader = list(range(len(messages)))
    last_user = max((at for at, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    callers: dict[str, int] = {}
    question = answer = -1
    for at, message in enumerate(messages):
        role = message.get("role")
        if role in PINNED_ROLES:
            continue
        if role == "user":
            question = leader[at] = at
        elif role == "assistant":
            leader[at] = question if 0 <= question != last_user else at
            answer = leader[at]
            callers.update({str(one.get("id")): leader[at] for one in message.get("tool_calls") or ()})
        else:
            leader[at] = callers.get(str(message.get("tool_call_id")), answer if answer >= 0 else at)
    pinned = {leader[last_user]} if last_user >= 0 else set()
    pinned |= {leader[-1]} if messages else set()
    found: dict[int, list[int]] = {}
    for at, message in enumerate(messages):
        if leader[at] not in pinned and message.get("role") not in PINNED_ROLES:
            found.setdefault(leader[at], []).append(at)
    return [tuple(group) for group in found.values()]


def eviction_order(found: Sequence[Group], policy: Policy) -> list[Group]:
    """The groups in the order in which they leave."""
    if policy == "oldest-first":
        return list(found)
    middle = len(found) - 1
    return [found[at] for at in sorted(range(len(found)), key=lambda at: (abs(2 * at - middle), at))]


def evicted_messages(leaving: Sequence[Group], count: int) -> tuple[int, ...]:
    """The places of the messages in the first `count` groups."""
    return tuple(sorted(at for group in leaving[:count] for at in group))


def fewest_groups(groups_left: int, found: PromptBudget) -> Generator[int, int, int | None]:
    """How many groups must leave: yields numbers of groups, is sent the prompt's tokens without them.

    Returns the least number with which the prompt meets `aim`; all of them when only `limit` can be met; None when not even that.
    """
    low, high = 1, groups_left
    if high == 0:
        return None
    everything = yield high
    if everything > found.target:
        return high if everything <= found.limit else None
    while low < high:
        middle = (low + high) // 2
        if (yield middle) <= found.target:
            high = middle
        else:
            low = middle + 1
    return high
