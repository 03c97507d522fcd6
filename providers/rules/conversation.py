"""Adapts a conversation as a whole to a vendor: tool results, ids, blank texts, the last message.

Most functions take a list of turns (messages with their positions in the caller's conversation, which the receipt names) and return the
adapted list.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from typing import Any, NamedTuple

from providers.rules.message_fields import NEUTRAL, Report
from providers.rules.message_row import MessageRow
from providers.rules.messages import Message, text_of
from providers.rules.rule import Work

_SYSTEM = ("system", "developer")
_ID_LETTERS = re.compile(r"[^a-zA-Z0-9_-]")
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
INVALID_ID = "tool-call ids must match the vendor's pattern and be used only once"
ACKNOWLEDGEMENT = "OK."
"""Text of an assistant message that the vendor requires between tool results and a user message."""


NO_REASONING = " "
"""Reasoning that is added to an assistant message without any, for a vendor that requires it."""
_OFF = {"type": "disabled"}
_INSTEAD_OF_CONTENT = ("tool_calls", "function_call", "refusal", "audio")
"""Fields of an assistant message that replace its content."""


class Turn(NamedTuple):
    """A message and its position in the caller's conversation."""

    place: int
    message: Message


def functions_as_tools(turns: list[Turn], report: Report) -> list[Turn]:
    """Convert `function_call` and the role `function` to tool calls and results."""
    result: list[Turn] = []
    open_calls: dict[str, str] = {}
    for index, message in turns:
        call = message.get("function_call")
        if message.get("role") == "assistant" and type(call) is dict:
            id = f"call_{index}"
            open_calls[str(call.get("name"))] = id
            rest = {name: value for name, value in message.items() if name != "function_call"}
            rest["tool_calls"] = [*(message.get("tool_calls") or ()), {"id": id, "type": "function", "function": call}]
            result.append(Turn(index, {**rest, "content": rest.get("content")}))
            report.change(index, ".function_call", "reshape", to="tool_calls")
        elif message.get("role") == "function" and str(message.get("name")) in open_calls:
            id = open_calls[str(message["name"])]
            result.append(Turn(index, {"role": "tool", "tool_call_id": id, "content": message.get("content") or ""}))
            report.change(index, ".role", "role_map", from_="function", to="tool")
        else:
            result.append(Turn(index, message))
    return result


def valid_ids(turns: list[Turn], row: MessageRow, report: Report) -> list[Turn]:
    """Replace tool-call ids that the vendor refuses, in calls and results alike. Different ids stay different."""
    pattern = re.compile(row.call_id, re.DOTALL) if row.call_id else None
    used = {call.get("id") for turn in turns for call in turn.message.get("tool_calls") or () if _fits(pattern, call.get("id"))}
    known = set(used)
    taken: set[str] = set()
    current: dict[str, deque[str]] = {}
    result = list(turns)
    for position, (index, message) in enumerate(turns):
        if message.get("role") == "assistant" and message.get("tool_calls"):
            calls = []
            current |= {str(call.get("id")): deque() for call in message["tool_calls"]}
            beside: set[str] = set()
            for number, call in enumerate(message["tool_calls"]):
                id = str(call.get("id"))
                new = id
                if not _fits(pattern, id) or id in beside or (row.unique_ids and id in taken):
                    new = _new_id(id, f"{index}.{number}.{id}", pattern, known)
                    report.change(index, f".tool_calls[{number}].id", "reshape", INVALID_ID, from_=id, to=new)
                known.add(new)
                taken.add(new)
                beside.add(new)
                current[id].append(new)
                calls.append(call if new == id else {**call, "id": new})
            if calls != message["tool_calls"]:
                result[position] = Turn(index, {**message, "tool_calls": calls})
        elif message.get("role") == "tool":
            id = str(message.get("tool_call_id"))
            open_ids = current.get(id) or deque([id])
            new = open_ids.popleft() if len(open_ids) > 1 else open_ids[0]
            if new != id:
                report.change(index, ".tool_call_id", "reshape", INVALID_ID, from_=id, to=new)
                result[position] = Turn(index, {**message, "tool_call_id": new})
    return result


def _fits(pattern: re.Pattern[str] | None, id: Any) -> bool:
    return type(id) is str and (pattern is None or pattern.fullmatch(id) is not None)


def _new_id(id: str, place: str, pattern: re.Pattern[str] | None, taken: set[Any]) -> str:
    """Return an unused id that the vendor accepts: the old id with `_` in place of invalid characters if possible, otherwise a hash."""
    plain = _ID_LETTERS.sub("_", id)
    digest = hashlib.sha256(place.encode()).hexdigest()
    candidates = [plain if len(plain) <= 40 else "", f"call_{digest[:24]}", short_id(id), short_id(place)]
    for number in range(len(candidates) + len(taken) + 1):
        new = candidates[number] if number < len(candidates) else short_id(f"{place}.{number}")
        if new and new not in taken and _fits(pattern, new):
            return new
    return digest[:9]


def short_id(name: str) -> str:
    """Return nine letters or digits derived from `name`, as Mistral requires."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    letters = []
    for _ in range(9):
        number, index = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[index])
    return "".join(letters)


def without_blanks(turns: list[Turn], row: MessageRow, report: Report) -> list[Turn]:
    """Drop blank text parts and blank messages that the vendor refuses, except tool results. Refuse a blank last user message."""
    result: list[Turn] = []
    last = _last_turn(turns)
    for position, (index, message) in enumerate(turns):
        role, content = str(message.get("role")), message.get("content")
        if role == "function" or (role not in ("assistant", "tool") and row.blanks != "refused"):
            result.append(Turn(index, message))
            continue
        kept = content
        if type(content) is list and row.blanks == "refused":
            kept = [part for part in content if part.get("type") != "text" or str(part.get("text") or "").strip()]
        if kept != content:
            report.change(index, ".content", "drop", NEUTRAL)
            kept = kept or ("" if role == "tool" else kept)
            message = {**message, "content": kept}
        if role == "tool":
            result.append(Turn(index, message))
            continue
        if not _is_blank(kept):
            result.append(Turn(index, message))
        elif message.get("tool_calls"):
            if kept is not None and row.blanks == "refused":
                message = {**message, "content": None}
                report.change(index, ".content", "drop", NEUTRAL)
            result.append(Turn(index, message))
        elif role == "assistant" and (message.get("thinking_blocks") or message.get("function_call")):
            result.append(Turn(index, message))
        elif role == "user" and position == last:
            raise report.work.refuse(f"messages[{index}].content", "the last message has no text")
        else:
            report.change(index, "", "drop", NEUTRAL)
    return result


def with_content(turns: list[Turn], report: Report) -> list[Turn]:
    """Give an empty text to assistant messages without content and without anything in its place."""
    result = list(turns)
    for position, (index, message) in enumerate(turns):
        if message.get("role") == "assistant" and message.get("content") is None and not any(map(message.get, _INSTEAD_OF_CONTENT)):
            report.change(index, ".content", "reshape", "an assistant message must have content", to="")
            result[position] = Turn(index, {**message, "content": ""})
    return result


def _is_blank(content: Any) -> bool:
    if type(content) is list:
        return all(part.get("type") == "text" for part in content) and not text_of(content).strip()
    return not content or (type(content) is str and not content.strip())


def with_a_turn(turns: list[Turn], row: MessageRow, report: Report) -> list[Turn]:
    """Send a final system message as a user message, if the vendor requires it.

    Some vendors reject system messages without any other message; others reject a system message at the end. Strict mode
    refuses the conversation.
    """
    index, message = turns[-1]
    if message.get("role") not in _SYSTEM or (not row.tail_field and _last_turn(turns) >= 0):
        return turns
    why = "the upstream requires that this message is not a system message"
    report.loss(index, ".role", "downgrade", why, to="user", code="invalid_value")
    return [*turns[:-1], Turn(index, {**message, "role": "user"})]


def valid_tail(turns: list[Turn], row: MessageRow, report: Report) -> list[Turn]:
    """Adapt a final assistant message, so that the vendor continues it."""
    last = _last_turn(turns) if row.trims_tail else len(turns) - 1
    index, message = turns[last]
    if message.get("role") != "assistant":
        return turns
    content = message.get("content")
    changed = message
    if row.trims_tail and not message.get("tool_calls"):
        trimmed = _trimmed(content)
        if trimmed != content:
            changed = {**message, "content": trimmed}
            report.change(index, ".content", "reshape", "the text to continue must not end in white space")
    if row.tail_field and not message.get("tool_calls") and not message.get(row.tail_field):
        changed = {**changed, row.tail_field: True}
        report.change(index, f".{row.tail_field}", "set_default", "the upstream continues only messages that have this field", to=True)
    return turns if changed is message else [*turns[:last], Turn(index, changed), *turns[last + 1 :]]


def _last_turn(turns: list[Turn]) -> int:
    """Return the position of the last message that is not a system message, or -1."""
    return next((at for at in range(len(turns) - 1, -1, -1) if turns[at].message.get("role") not in _SYSTEM), -1)


def _trimmed(content: Any) -> Any:
    if type(content) is str:
        return content.rstrip()
    if type(content) is list and content and content[-1].get("type") == "text":
        return [*content[:-1], {**content[-1], "text": content[-1]["text"].rstrip()}]
    return content


def with_late_instructions(turns: list[Turn], report: Report) -> list[Turn]:
    """Send system messages that follow an answer or a tool result as user messages, for a vendor that refuses them there."""
    result: list[Turn] = []
    for turn in turns:
        if turn.message.get("role") in _SYSTEM and result and result[-1].message.get("role") in ("assistant", "tool"):
            why = "the upstream accepts system messages only before an answer"
            report.loss(turn.place, ".role", "downgrade", why, to="user", code="invalid_value")
            turn = Turn(turn.place, {**turn.message, "role": "user"})
        result.append(turn)
    return result


def with_answers_after_results(turns: list[Turn], report: Report) -> list[Turn]:
    """Add an assistant message between tool results and a user message."""
    result: list[Turn] = []
    for turn in turns:
        if turn.message.get("role") == "user" and result and result[-1].message.get("role") == "tool":
            result.append(Turn(turn.place, {"role": "assistant", "content": ACKNOWLEDGEMENT}))
            why = "an assistant message must follow tool results; one is added"
            report.loss(turn.place, "", "reshape", why, code="unsupported_content")
        result.append(turn)
    return result


def with_reasoning(turns: list[Turn], work: Work, report: Report) -> list[Turn]:
    """Add blank reasoning to messages with tool calls and without reasoning, unless the request turns thinking off."""
    body = work.body
    if body.get("thinking") == _OFF or body.get("reasoning_effort") == "none" or body.get("disable_reasoning") is True:
        return turns
    result = list(turns)
    for position, (index, message) in enumerate(turns):
        if message.get("tool_calls") and not message.get("reasoning_content"):
            result[position] = Turn(index, {**message, "reasoning_content": NO_REASONING})
            report.change(index, ".reasoning_content", "set_default", "the vendor requires the field beside tool calls", to=NO_REASONING)
    return result
