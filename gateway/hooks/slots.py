"""A piece of text in an event of a stream."""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.hooks.api import Kind

Event = dict[str, Any]


class Slot(NamedTuple):
    """A piece of text in an event: `holder[key]`.

    Pieces of one channel form one text. When an event has a piece of a group, the channels of the group without a piece in the event
    have ended, except those with the arguments of tool calls. `choice` and `call` are the choice and the tool call of a chat completion
    that contain the piece.
    """

    channel: str
    group: str
    kind: Kind
    holder: dict[str, Any]
    key: str
    choice: Event | None = None
    call: Event | None = None

    @property
    def text(self) -> str:
        """The piece of text."""
        text: str = self.holder[self.key]
        return text


def fields(value: Event, *names: str) -> Event:
    """Return the object that is nested in the fields with these names, or an empty one if any is not an object."""
    for name in names:
        inner = value.get(name)
        if type(inner) is not dict:
            return {}
        value = inner
    return value
