"""Results of tool calls: one for each call, directly after the calls, with the content that a vendor accepts there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from providers.rules.conversation import Turn
from providers.rules.message_fields import Report
from providers.rules.message_row import MessageRow
from providers.rules.messages import Message, join_content
from providers.rules.rule import Work

IN_NEXT_MESSAGE = "The result is in the next user message."
"""Text of a result whose whole content is sent in a user message."""


def one_for_each_call(turns: list[Turn], report: Report) -> list[Turn]:
    """Join the results of one call: vendors refuse a second result for the same id."""
    result: list[Turn] = []
    unanswered: dict[Any, int] = {}
    answered: dict[Any, int] = {}
    for turn in turns:
        message = turn.message
        if message.get("role") == "assistant" and message.get("tool_calls"):
            for id, count in Counter(call.get("id") for call in message["tool_calls"]).items():
                unanswered[id] = count
                answered.pop(id, None)
        elif message.get("role") == "tool":
            id = message.get("tool_call_id")
            if not unanswered.get(id) and id in answered:
                at = answered[id]
                result[at] = _joined(result[at], turn, report)
                continue
            unanswered[id] = unanswered.get(id, 1) - 1
            answered[id] = len(result)
        result.append(turn)
    return result


def _joined(first: Turn, second: Turn, report: Report) -> Turn:
    """Return the first result with the content of both. Repeated content is left out."""
    before, more = first.message.get("content"), second.message.get("content")
    if more == before or not more:
        why = f"the message repeats the result in messages[{first.place}], and the provider accepts one result for each call"
        report.change(second.place, "", "drop", why)
        return first
    why = "the provider accepts one result for each call, so the contents of both results are joined"
    report.change(second.place, "", "reshape", why, to=f"messages[{first.place}]")
    return Turn(first.place, {**first.message, "content": join_content(before, more) if before else more})


def other_content_behind(turns: list[Turn], row: MessageRow, report: Report) -> list[Turn]:
    """Move content that a tool message may not have, such as images, to a user message after the results."""
    result: list[Turn] = []
    names: dict[Any, str] = {}
    moved: list[Any] = []
    for turn in turns:
        message = turn.message
        if message.get("role") != "tool":
            if moved:
                result.append(Turn(result[-1].place, {"role": "user", "content": moved}))
                moved = []
            names |= {call.get("id"): _name(call) for call in message.get("tool_calls") or ()}
            result.append(turn)
            continue
        content = message.get("content")
        parts: list[Any] = content if type(content) is list else []
        others = [part for part in parts if part.get("type") not in row.result_parts]
        if not others:
            result.append(turn)
            continue
        kept = [part for part in parts if part.get("type") in row.result_parts]
        moved += [{"type": "text", "text": f"Result of {names.get(message.get('tool_call_id'), 'the tool')}:"}, *others]
        why = f"the provider accepts only {', '.join(row.result_parts)} in a tool message; the other parts follow in a user message"
        report.change(turn.place, ".content", "reshape", why)
        result.append(Turn(turn.place, {**message, "content": kept or IN_NEXT_MESSAGE}))
    return [*result, Turn(result[-1].place, {"role": "user", "content": moved})] if moved else result


def _name(call: dict[str, Any]) -> str:
    called = call.get("function") or call.get("custom")
    return str(called.get("name")) if type(called) is dict else "the tool"


def results_first(turns: list[Turn], report: Report) -> list[Turn]:
    """Move tool results directly after their calls. A message between them is placed after the results."""
    result: list[Turn] = []
    waiting: Counter[str] = Counter()
    later: list[Turn] = []
    for turn in turns:
        message = turn.message
        role = message.get("role")
        if role == "tool" and message.get("tool_call_id") in waiting:
            _take(waiting, message["tool_call_id"])
            result.append(turn)
            if later:
                why = "the provider requires results directly after their calls, so this result is moved before the messages between them"
                report.change(turn.place, "", "reshape", why)
            if not waiting:
                result += later
                later = []
            continue
        if role == "assistant" and message.get("tool_calls"):
            result += later
            later = []
            waiting = Counter(call["id"] for call in message["tool_calls"] if type(call.get("id")) is str)
            result.append(turn)
            continue
        (later if waiting and role != "tool" else result).append(turn)
    return result + later


def check_results(turns: list[Turn], work: Work) -> None:
    """Refuse a tool call without a result."""
    for position, (index, message) in enumerate(turns):
        calls = message.get("tool_calls") if message.get("role") == "assistant" else None
        if not calls:
            continue
        answered = Counter(_answered(turns, position + 1))
        for number, call in enumerate(calls):
            if call.get("id") not in answered:
                why = "no tool message with the 'tool_call_id' of this call follows it; add the result of the call"
                raise work.refuse(f"messages[{index}].tool_calls[{number}]", why)
            _take(answered, call["id"])


def _take(counts: Counter[Any], id: Any) -> None:
    """Count an id once less. An id that is used up is removed."""
    counts[id] -= 1
    if not counts[id]:
        del counts[id]


def _answered(turns: list[Turn], start: int) -> Iterator[Any]:
    """Yield the ids of the results from the position `start` on, up to another message."""
    for position in range(start, len(turns)):
        message: Message = turns[position].message
        if message.get("role") != "tool":
            return
        yield message.get("tool_call_id")
