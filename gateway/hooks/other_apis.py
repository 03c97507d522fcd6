"""Finds the pieces of text in passed streams of Gemini's API and of Ollama's own API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.hooks.api import Kind
from gateway.hooks.slots import Event, Slot, fields

_OLLAMA_FIELDS: tuple[tuple[str, Kind], ...] = (("thinking", "reasoning"), ("content", "text"), ("response", "text"))


def slots_of(event: Event) -> list[Slot]:
    """Return the pieces of text in an event.

    In an event of Gemini, move the texts of all parts of a candidate into its first part, separately for thoughts and for other text,
    so that each of the two is one piece.
    """
    if type(event.get("candidates")) is list:
        return [slot for candidate in _candidates(event) for slot in _of_candidate(candidate)]
    return list(_of_ollama(event)) if type(event.get("done")) is bool else []


def ended_groups(event: Event) -> list[str] | None:
    """Return the groups of channels that end with an event, or None if all channels end."""
    if type(event.get("candidates")) is list:
        return [_group_of(candidate) for candidate in _candidates(event) if candidate.get("finishReason")]
    return None if event.get("done") is True else []


def carrier(event: Event, slot: Slot, text: str) -> Event | None:
    """Return an event like `event` whose only text is `text`, in the place of the piece in `slot`. Return None for other APIs."""
    if type(event.get("candidates")) is list:
        candidate = next(each for each in _candidates(event) if _group_of(each) == slot.group)
        part = {"text": text, "thought": True} if slot.kind == "reasoning" else {"text": text}
        place = {"index": candidate["index"]} if "index" in candidate else {}
        kept = {name: value for name, value in event.items() if name not in ("candidates", "usageMetadata")}
        return {"candidates": [{"content": {"parts": [part], "role": "model"}, **place}], **kept}
    if type(event.get("done")) is not bool:
        return None
    kept = {name: event[name] for name in ("model", "created_at") if name in event}
    if slot.holder is event:
        return {**kept, slot.key: text, "done": False}
    return {**kept, "message": {"role": "assistant", slot.key: text}, "done": False}


def _candidates(event: Event) -> list[dict[str, Any]]:
    return [each for each in event["candidates"] if type(each) is dict]


def _group_of(candidate: dict[str, Any]) -> str:
    return f"candidates[{candidate.get('index', 0)}]"


def _of_candidate(candidate: dict[str, Any]) -> list[Slot]:
    group, found = _group_of(candidate), dict[str, Slot]()
    parts = fields(candidate, "content").get("parts")
    for part in parts if type(parts) is list else ():
        if type(part) is not dict or type(part.get("text")) is not str:
            continue
        kind: Kind = "reasoning" if part.get("thought") is True else "text"
        first = found.setdefault(kind, Slot(f"{group}.{kind}", group, kind, part, "text"))
        if first.holder is not part:
            first.holder["text"] += part["text"]
            part["text"] = ""
    return list(found.values())


def _of_ollama(event: Event) -> Iterator[Slot]:
    for holder in (fields(event, "message"), event):
        for name, kind in _OLLAMA_FIELDS:
            if type(holder.get(name)) is str:
                yield Slot(name, "message", kind, holder, name)
