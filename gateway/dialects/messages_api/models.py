"""The list of models in Anthropic's format. Source: anthropic 2.14.0 (ModelInfo, ModelListParams, SyncPage)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.errors import refuse

DEFAULT_LIMIT, MAX_LIMIT = 20, 1000
"""The default and the maximum number of models on one page (platform.claude.com/docs/en/api/models-list, as of 2026-11)."""
UNKNOWN_DATE = "1970-01-01T00:00:00Z"


def to_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return one model in Anthropic's format, from its entry in OpenAI's."""
    return {
        "type": "model",
        "id": model["id"],
        "display_name": model["id"],
        "created_at": UNKNOWN_DATE,
        "lifecycle": "active",
        "max_input_tokens": model.get("context_window"),
        "max_tokens": model.get("max_output_tokens"),
    }


def list_models(names: Sequence[str], query: Mapping[str, str], entry: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
    """Return the requested page of models. `entry` returns the entry of a model in OpenAI's format."""
    shown, has_more = page_of(names, query)
    ends = {"first_id": shown[0], "last_id": shown[-1]} if shown else {"first_id": None, "last_id": None}
    return {"data": [to_model(entry(name)) for name in shown], "has_more": has_more, **ends}


def page_of(names: Sequence[str], query: Mapping[str, str]) -> tuple[list[str], bool]:
    """Return the names on the requested page, and whether there are more. Raise BadRequest for an invalid query."""
    limit = _limit(query.get("limit"))
    after, before = query.get("after_id"), query.get("before_id")
    first, end = 0, len(names)
    if after is not None:
        first = _position(names, after, "after_id") + 1
    if before is not None:
        end = _position(names, before, "before_id")
        if after is None:
            return list(names[max(0, end - limit) : end]), end > limit
    return list(names[first:end][:limit]), end - first > limit


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT):
        raise refuse("limit", f"'limit' must be an integer from 1 to {MAX_LIMIT}.")
    return int(text)


def _position(names: Sequence[str], name: str, param: str) -> int:
    if name not in names:
        raise refuse(param, f"'{param}' must be the id of a model.")
    return names.index(name)
