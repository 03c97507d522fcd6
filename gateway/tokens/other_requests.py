"""The contents of a request in any format as one message, for counts of requests that a chat completion cannot express."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from providers.base import Body

NOT_PROMPT = frozenset({"model", "metadata", "user", "safety_identifier", "prompt_cache_key", "include", "previous_response_id"})
"""Request fields that models do not read."""
MIN_DATA_CHARS = 512
"""Longer strings without a space in their first characters are treated as data."""
_ADDRESSES = frozenset({"url", "image_url", "file_url"})


def chat_of(source: Body) -> Body:
    """Return a chat body with the texts, images and files of a request in a single message."""
    parts = [part for name in source if name not in NOT_PROMPT for part in _parts(source.get(name), name)]
    return Body(msgspec.json.encode({"messages": [{"role": "user", "content": parts}]}))


def _parts(value: Any, name: str) -> Iterator[dict[str, Any]]:
    if type(value) is dict:
        for inner_name, inner in value.items():
            yield {"type": "text", "text": inner_name}
            yield from _parts(inner, inner_name)
    elif type(value) is list:
        for inner in value:
            yield from _parts(inner, name)
    elif type(value) is not str:
        yield {"type": "text", "text": msgspec.json.encode(value).decode()}
    elif value[:5].lower() == "data:" or (len(value) > MIN_DATA_CHARS and " " not in value[:MIN_DATA_CHARS]):
        yield {"type": "file", "file": {"file_data": value}}
    elif name in _ADDRESSES and "://" in value[:16]:
        yield {"type": "document_url" if name == "file_url" else "image_url", "document_url": value, "image_url": {"url": value}}
    else:
        yield {"type": "text", "text": value}
