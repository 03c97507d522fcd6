"""Encrypted reasoning as `reasoning_details` of a chat message, which the caller sends back unchanged.

The form is OpenRouter's, with three further fields: the provider that can decrypt the reasoning, the summary, and the place in the turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMAT = "openai-responses-v1"
_TYPE = "reasoning.encrypted"


def detail_of(item: Mapping[str, Any], origin: str, index: int, position: int) -> dict[str, Any] | None:
    """Return the entry for a reasoning item, or None if the item has no encrypted reasoning.

    `index` is the number of earlier entries of the answer, and `position` the number of calls before this
    item, plus 1 if a message precedes it.
    """
    data = item.get("encrypted_content")
    if type(data) is not str or not data:
        return None
    detail = {"type": _TYPE, "format": FORMAT, "id": item.get("id"), "data": data, "index": index}
    return {**detail, "origin": origin, "summary": summaries_of(item), "position": position}


def summaries_of(item: Mapping[str, Any]) -> list[str]:
    """Return the texts of the item's summary."""
    return [part["text"] for part in item.get("summary") or () if type(part) is dict and type(part.get("text")) is str]


def text_of(item: Mapping[str, Any]) -> str:
    """Return the readable reasoning: the text itself, which open models return, else the summary."""
    texts = [part["text"] for part in item.get("content") or () if type(part) is dict and type(part.get("text")) is str]
    return "".join(texts) or "\n\n".join(summaries_of(item))


def is_from(detail: Any, origin: str) -> bool:
    """Return whether `origin` can decrypt this entry."""
    return type(detail) is dict and detail.get("format") == FORMAT and detail.get("origin") == origin and type(detail.get("data")) is str


def items_of(details: Any, origin: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the reasoning items for the entries that `origin` can decrypt, each with its position in the turn."""
    result = []
    for detail in details if type(details) is list else ():
        if not is_from(detail, origin):
            continue
        texts = detail.get("summary")
        summary = [{"type": "summary_text", "text": text} for text in texts if type(text) is str] if type(texts) is list else []
        item = {"type": "reasoning", "id": detail.get("id"), "summary": summary, "encrypted_content": detail["data"]}
        position = detail.get("position")
        result.append((position if type(position) is int and position >= 0 else 0, item))
    return result
