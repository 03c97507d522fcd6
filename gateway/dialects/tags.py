"""The tags of a call: names that the configuration declares, by which usage is added up."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from gateway.errors import refuse
from providers.base import Body

HEADER = "x-gateway-tags"
FIELD = "tags"
"""The entry of `metadata` with the tags of a call."""
MAX_TAGS_PER_CALL = 8


def read_tags(value: bytes, declared: Collection[str], earlier: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the tags in the header, sorted and without duplicates. Raise BadRequest for an undeclared tag or too many tags.

    `earlier` are the tags of earlier lines of a repeated header, which are returned as well.
    """
    tags = sorted({*earlier, *(tag.strip() for tag in value.decode("latin-1").split(","))} - {""})
    if not declared and tags:
        raise refuse(HEADER, f"Header '{HEADER}' has no effect: the configuration declares no tags. Ask the operator to set 'tags'.")
    for tag in tags:
        if tag not in declared:
            raise refuse(HEADER, f"Unknown tag {tag[:64]!r} in '{HEADER}'. Known: {_some(declared)}.")
    if len(tags) > MAX_TAGS_PER_CALL:
        raise refuse(HEADER, f"Header '{HEADER}' has {len(tags)} tags; at most {MAX_TAGS_PER_CALL} are allowed.")
    return tuple(tags)


def with_metadata(tags: tuple[str, ...], body: Body | None, declared: Collection[str]) -> tuple[str, ...]:
    """Return the tags of the header and those in `metadata`, sorted. Those in `metadata` are added as long as there is room."""
    more = [tag for tag in tags_of_metadata(body, declared) if tag not in tags] if tags else tags_of_metadata(body, declared)
    return tuple(sorted([*tags, *more[: MAX_TAGS_PER_CALL - len(tags)]])) if more else tags


def tags_of_metadata(body: Body | None, declared: Collection[str]) -> tuple[str, ...]:
    """Return the declared tags in `metadata.tags`, such as "search,batch". Other content of `metadata` is the caller's own."""
    if body is None or "metadata" not in body:
        return ()
    metadata: Any = body.get("metadata")
    text = metadata.get(FIELD) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        return ()
    found = {tag.strip() for tag in text.split(",")}
    return tuple(sorted(found.intersection(declared))[:MAX_TAGS_PER_CALL])


def _some(declared: Collection[str]) -> str:
    shown = sorted(declared)[:10]
    return ", ".join(shown) + (f" and {len(declared) - len(shown)} more" if len(declared) > len(shown) else "")
