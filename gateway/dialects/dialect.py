"""The interface of a dialect, an API that callers use, and the dialects that keep OpenAI's format."""

from __future__ import annotations

from typing import Protocol

from providers.base import Operation, StreamDecoder


class Dialect(Protocol):
    """One API of the gateway.

    To add an API, write an object with these members and add it to `gateway.dialects.table.DIALECTS`.
    """

    @property
    def operation(self) -> Operation:
        """The operation that is requested from providers."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the API, all for POST."""
        ...

    @property
    def has_messages(self) -> bool:
        """Whether a request is a conversation, which can be fitted into a context window and always uses tokens."""
        ...

    @property
    def can_continue(self) -> bool:
        """Whether a broken stream can be continued by another target."""
        ...

    def response(self, answer: bytes) -> bytes:
        """Return a JSON answer in the form that callers of this API expect."""
        ...

    def stream(self, inner: StreamDecoder | None) -> StreamDecoder | None:
        """Return a decoder that converts chunks to this format, after `inner` (if any) has decoded the events."""
        ...


class PlainDialect:
    """A dialect that returns the answers of providers unchanged, in OpenAI's format."""

    __slots__ = ("can_continue", "has_messages", "operation", "paths")

    def __init__(self, operation: Operation, paths: tuple[str, ...], *, has_messages: bool, can_continue: bool) -> None:
        self.operation: Operation = operation
        self.paths = paths
        self.has_messages = has_messages
        self.can_continue = can_continue

    def response(self, answer: bytes) -> bytes:
        """Return the answer as it is."""
        return answer

    def stream(self, inner: StreamDecoder | None) -> StreamDecoder | None:
        """Return `inner`: the chunks stay as they are."""
        return inner
