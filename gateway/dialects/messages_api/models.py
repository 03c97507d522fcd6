"""The list of models in Anthropic's form. Source: anthropic 2.14.0 (ModelInfo, ModelListParams, SyncPage)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.errors import refuse

DEFAULT_LIMIT, MAX_LIMIT = 20, 1000
"""Models on one page (platform.claude.com/docs/en/api/models-list, as of 2026-11)."""
UNKNOWN_DATE = "1970-01-01T00:00:00Z"


def describe(name: str, window: int | None, output: int | None) -> dict[str, Any]:
    """Return one model. `window` and `output` are the most tokens of a prompt and of an answer, if they are known."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": UNKNOWN_DATE,
        "lifecycle": "active",
        "max_input_tokens": window,
        "max_tokens": output,
    }


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
