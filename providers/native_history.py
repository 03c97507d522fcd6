"""Repairs native requests that the vendor would refuse because of earlier turns of another provider.

A conversation keeps the ids and the texts of the providers that answered its turns. `providers.rules.conversation`
makes the same repairs in chat completions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from providers.base import Adjustment, Body, Options
from providers.body import PlainMessage
from providers.message_tables import ROWS
from providers.rules.conversation import INVALID_ID, Turn, valid_ids
from providers.rules.message_fields import Report
from providers.rules.rule import Work

MAX_CALL_ID = 64
"""Maximum length of a `call_id` in OpenAI's Responses API (openclaw#137489, hermes-agent#72006; 2026-09)."""
ID_TOO_LONG = f"a call_id may have at most {MAX_CALL_ID} characters"
_BLANK = "Anthropic refuses blank text"
_ROW = ROWS["anthropic"]
_VALID_ID = re.compile(_ROW.call_id or "")

Place = tuple[int, int]
"""The index of a message, and the index of a block in it."""


class _Block(msgspec.Struct):
    type: str = ""
    id: str = ""
    tool_use_id: str = ""
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block]


class _Item(msgspec.Struct):
    call_id: str | None = None


_read_messages = msgspec.json.Decoder(list[_Message]).decode
_read_items = msgspec.json.Decoder(list[_Item]).decode


def repair_messages(body: Body, *, strict: bool) -> list[Adjustment]:
    """Replace tool-call ids and drop blank assistant texts that Anthropic would refuse in a Messages request.

    Nothing is lost. A dropped text leaves None in its place until `without_gaps`, so that later adjustments name the
    caller's positions. A request that is not in Anthropic's format stays unchanged: the vendor reports its errors.
    """
    try:
        messages = _read_messages(body.raw("messages") or b"")
    except msgspec.DecodeError:
        return []
    if _is_accepted(messages):
        return []
    work = Work(body, "Anthropic", Options(strict, operation="messages"), {})
    report = Report(work)
    ids = _new_ids(messages, report)
    blanks = _blanks(messages, report)
    report.finish()
    body.set("messages", [_repaired(message, index, ids, blanks) for index, message in enumerate(body.get("messages"))])
    return work.adjustments


def are_accepted_texts(messages: Sequence[PlainMessage]) -> bool:
    """Return whether Anthropic accepts the assistant messages of a conversation whose contents are texts."""
    texts = [message.content for message in messages[:-1] if message.role == "assistant"]
    return "" not in texts and not any(map(str.isspace, texts))


def _is_accepted(messages: list[_Message]) -> bool:
    """Return whether Anthropic accepts the ids and the texts of all assistant messages."""
    taken: set[str] = set()
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        is_last = index == len(messages) - 1
        if isinstance(message.content, str) or not message.content:
            if not is_last and _is_blank(message.content):
                return False
            continue
        for block in message.content:
            if block.type == "tool_use":
                if block.id in taken or _VALID_ID.fullmatch(block.id) is None:
                    return False
                taken.add(block.id)
            elif block.type == "text" and not is_last and _is_blank(block.text):
                return False
    return True


def _is_blank(content: str | list[_Block] | None) -> bool:
    return not (content.strip() if isinstance(content, str) else content)


def has_long_ids(items: bytes) -> bool:
    """Return whether a list of input items has a `call_id` that OpenAI's Responses API refuses."""
    if b'"call_id"' not in items:
        return False
    try:
        return any(len(item.call_id or "") > MAX_CALL_ID for item in _read_items(items))
    except msgspec.DecodeError:
        return False


def valid_call_id(id: str) -> str:
    """Return an id that OpenAI's Responses API accepts. The new id depends only on the old one, so calls and outputs still match."""
    if len(id) <= MAX_CALL_ID:
        return id
    return f"call_{hashlib.sha256(id.encode(errors='surrogatepass')).hexdigest()[:40]}"


def _new_ids(messages: list[_Message], report: Report) -> dict[Place, str]:
    """Return the new ids of tool calls and results, and report them. Anthropic's row in the table of messages defines valid ids."""
    places: list[list[int]] = []
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        blocks = message.content if isinstance(message.content, list) else []
        if calls := [at for at, block in enumerate(blocks) if block.type == "tool_use"]:
            places.append(calls)
            turns.append(Turn(index, {"role": "assistant", "tool_calls": [{"id": blocks[at].id} for at in calls]}))
        for at, block in enumerate(blocks):
            if block.type == "tool_result":
                places.append([at])
                turns.append(Turn(index, {"role": "tool", "tool_call_id": block.tool_use_id}))
    work = report.work
    unreported = Report(Work(work.body, work.label, work.options, work.settings))
    new: dict[Place, str] = {}
    for ats, old, turn in zip(places, turns, valid_ids(turns, _ROW, unreported), strict=True):
        field = "id" if "tool_calls" in old.message else "tool_use_id"
        for at, before, after in zip(ats, _ids(old), _ids(turn), strict=True):
            if after != before:
                new[old.place, at] = after
                report.change(old.place, f".content[{at}].{field}", "reshape", INVALID_ID, from_=before, to=after)
    return new


def _ids(turn: Turn) -> list[str]:
    calls = turn.message.get("tool_calls")
    return [call["id"] for call in calls] if calls else [turn.message["tool_call_id"]]


def _blanks(messages: list[_Message], report: Report) -> dict[int, set[int]]:
    """Find the assistant messages that are empty or have blank blocks. Report and return the positions of the blocks.

    The last message is left out, because Anthropic accepts an empty last message.
    """
    found: dict[int, set[int]] = {}
    for index, message in enumerate(messages[:-1]):
        if message.role != "assistant":
            continue
        if isinstance(message.content, str):
            if _is_blank(message.content):
                found[index] = set()
                report.change(index, ".content", "drop", _BLANK)
            continue
        blank = {at for at, block in enumerate(message.content) if block.type == "text" and _is_blank(block.text)}
        if blank or not message.content:
            found[index] = blank
            for at in sorted(blank):
                report.change(index, f".content[{at}]", "drop", _BLANK)
            if not message.content:
                report.change(index, ".content", "drop", _BLANK)
    return found


def _repaired(message: dict[str, Any], index: int, ids: dict[Place, str], blanks: dict[int, set[int]]) -> dict[str, Any]:
    """Return a message with new ids, and with None in place of blank texts."""
    content = message["content"]
    if isinstance(content, str) or not content:
        return {**message, "content": [None]} if index in blanks else message
    blocks = [None if at in blanks.get(index, ()) else block for at, block in enumerate(content)]
    for at, block in enumerate(blocks):
        if block is not None and (new := ids.get((index, at))) is not None:
            blocks[at] = {**block, "id" if block["type"] == "tool_use" else "tool_use_id": new}
    return {**message, "content": blocks}


def without_gaps(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return repaired messages without the gaps left by dropped texts, and without messages that had no other content."""
    kept = []
    for message in messages:
        content = message["content"]
        if isinstance(content, list) and None in content:
            content = [block for block in content if block is not None]
            if not content:
                continue
            message = {**message, "content": content}
        kept.append(message)
    return kept
