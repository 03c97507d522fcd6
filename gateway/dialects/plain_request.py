"""Translates the usual request at once: a conversation of texts, with parameters that a chat completion has too, and with tools.

A native call needs its chat completion only for checks, routing, counts and limits. For the usual request, the chat completion
consists of pieces of the request, so it needs neither a second parse nor a look at each field of each message. Every request with
anything else, valid or not, is left to the translation field by field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.dialects.messages import MAX_MESSAGES
from gateway.dialects.plain_messages import PlainTurn, read_texts
from providers.base import Body

MAX_CONTAINERS = 900
"""Maximum number of objects and lists in a parameter that a function translates. Parsers accept about 1,000 levels."""
_NULL = msgspec.Raw(b"null")
_EMPTY = msgspec.Raw(b'""')
_QUOTE = ord('"')
_encode = msgspec.json.Encoder().encode


class PlainForm(NamedTuple):
    """The form of the usual request of an API. Any other request is translated field by field."""

    parameters: Mapping[str, str]
    """The parameters whose values are copied, and their names in a chat completion."""
    turns: str
    """The field with the conversation."""
    read_turns: Callable[[msgspec.Raw], list[Any] | None]
    """Returns the messages of a conversation of texts, as a chat completion has them, or None for any other conversation."""
    system: str | None = None
    """The field with the system prompt; None if the API has none."""
    openings: Mapping[str, bytes] = {}
    """The first bytes of the values of some fields. Requests with other values are translated field by field."""
    translated: Mapping[str, Callable[[msgspec.Raw], Mapping[str, Any] | None]] = {}
    """Parameters that a function translates. It returns None for a value that is unusual or not valid."""
    omitted: Mapping[str, msgspec.Raw] = {}
    """Parameters that a chat completion does not need if they have this value."""


class PlainRequest(msgspec.Struct):
    """The chat completion of a usual request."""

    body: Body
    turns: int
    """The number of messages in the caller's request."""
    has_system: bool
    """Whether the system prompt precedes them as one more message."""


def is_complex(raw: msgspec.Raw) -> bool:
    """Return whether a value may be nested so deeply that parsers refuse its translation, which has more levels."""
    source = bytes(raw)
    return source.count(b"{") + source.count(b"[") > MAX_CONTAINERS


def translate_plain(given: Body, form: PlainForm) -> PlainRequest | None:
    """Return the chat completion, with its fields in the caller's order, or None for a request in any other form."""
    fields: dict[str, msgspec.Raw] = {}
    parameters, openings = form.parameters, form.openings
    turns = system = None
    for name, raw in given.items():
        if raw == _NULL or (name in openings and not bytes(raw).startswith(openings[name])):
            return None
        if (parameter := parameters.get(name)) is not None:
            fields[parameter] = raw
        elif name == form.turns:
            turns, fields["messages"] = raw, raw  # keeps the place of the messages
        elif name == form.system:
            system = raw
        elif (translate := form.translated.get(name)) is not None:
            if is_complex(raw) or (made := translate(raw)) is None:
                return None
            for parameter, value in made.items():
                fields[parameter] = value if type(value) is msgspec.Raw else msgspec.Raw(_encode(value))
        elif raw != form.omitted.get(name):
            return None
    messages = form.read_turns(turns) if turns is not None else None
    if messages is None or len(messages) > MAX_MESSAGES:
        return None
    count = len(messages)
    if system is not None:
        content = system if memoryview(system)[0] == _QUOTE else read_texts(system)
        if content is None or content == _EMPTY:
            return None
        messages.insert(0, PlainTurn("system", content))
    fields["messages"] = msgspec.Raw(_encode(messages))
    return PlainRequest(Body.of(fields), count, system is not None)
