"""Checks of the values that vary between the chunks of a stream: each must be valid in its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from providers.usage import MAX_TOKENS

_HEX = "[0-9a-fA-F]"
_UNIT = rf"u(?:(?![dD][89a-fA-F]){_HEX}{{4}}|[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}})"
_TEXT = rf'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|{_UNIT}))*'
is_text = re.compile(_TEXT).fullmatch
"""Matches the inside of a JSON string that has no unpaired surrogate."""


class _Usage(msgspec.Struct):
    """A usage that can be read."""

    prompt_tokens: Annotated[int, Meta(ge=0, le=MAX_TOKENS)]
    completion_tokens: Annotated[int, Meta(ge=0, le=MAX_TOKENS)]


_read_usage = msgspec.json.Decoder(_Usage).decode
_read_value = msgspec.json.Decoder(msgspec.Raw).decode
_read_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def are_texts(values: Sequence[str]) -> bool:
    joined = "".join(values)
    if '"' not in joined and "\\" not in joined and joined.isprintable():
        return True
    return all(is_text(value) for value in values)


def are_filled_texts(values: Sequence[str]) -> bool:
    return all(values) and are_texts(values)


def continue_arguments(values: Sequence[str]) -> bool:
    """Return whether every text continues arguments.

    A text that may begin an object does not count as a continuation, because it could belong to another call.
    """
    return all(value[:1] not in ("", " ", "\\", "{") for value in values) and are_texts(values)


def are_values(values: Sequence[str]) -> bool:
    try:
        if len(values) == 1:
            return bytes(_read_value(values[0])) == values[0].encode()
        return [str(value, "utf-8") for value in _read_list(f"[{','.join(values)}]")] == list(values)
    except (msgspec.DecodeError, RecursionError):
        return False


def are_usages(values: Sequence[str]) -> bool:
    try:
        for value in values:
            _read_usage(value)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
