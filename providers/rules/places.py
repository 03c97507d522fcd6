"""The places of a body's messages in the caller's conversation, for receipts and errors.

Rules add, merge and remove messages, so the number of a message in the body may differ from its number in the caller's request.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from providers.base import Body, Failure


class Place(NamedTuple):
    """The place of a message in the caller's request."""

    name: str
    is_exact: bool = True
    """Whether the parts of the message have the same numbers in the caller's request. If not, they are named without numbers."""


_MENTIONED = re.compile(r"messages\[\d+\](?:\.\w+|\[\d+\])*|(?<=')messages\.\d+(?:\.\w+)*(?=')")
"""The name of a message, or of a part of it, in the text of an error: `messages[1].content`, or Groq's `'messages.1.content'`.

Anthropic writes `messages.1.content` without quotes. The numbers are those in the encoded request, which may differ
from those in the body.
"""
_DOTTED = re.compile(r"\.(\d+)")
_MESSAGE = re.compile(r"messages\[(\d+)\](.*)", re.DOTALL)


def place_of(body: Body, position: int) -> Place:
    """Return the place of a message."""
    if body.places is None or position >= len(body.places):
        return Place(f"messages[{position}]")
    place: Place = body.places[position]
    return place


def places_of(body: Body, positions: Iterable[int]) -> list[Place]:
    """Return the places of messages."""
    return [place_of(body, position) for position in positions]


def callers_param(body: Body, param: str) -> str:
    """Return the caller's name for a parameter of the body."""
    if body.places is None or (match := _MESSAGE.fullmatch(param)) is None:
        return param
    place, rest = place_of(body, int(match[1])), match[2]
    if place.is_exact:
        return place.name + rest
    if not place.name.startswith("messages["):
        return place.name
    return place.name + (".content" if rest.startswith(".content") else rest)


def callers_failure(body: Body, failure: Failure) -> Failure:
    """Return the failure of a request with the caller's names for the messages."""
    if body.places is None:
        return failure
    message = _MENTIONED.sub(lambda found: callers_param(body, _DOTTED.sub(r"[\1]", found[0])), failure.message)
    param = failure.param and callers_param(body, failure.param)
    return msgspec.structs.replace(failure, message=message, param=param)


def remove_messages(body: Body, positions: Collection[int]) -> None:
    """Remove messages from a body."""
    messages = body.get("messages")
    left = frozenset(positions)
    kept = [position for position in range(len(messages)) if position not in left]
    body.places = places_of(body, kept)
    body.set("messages", [messages[position] for position in kept])
