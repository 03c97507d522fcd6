"""What the gateway needs to know of an API that callers use, and the dialects without a form of their own."""

from __future__ import annotations

from typing import Protocol

from providers.base import Operation, StreamDecoder


class Dialect(Protocol):
    """One API of the gateway. A new one is an object of this kind and a row in `gateway.dialects.DIALECTS`."""

    @property
    def operation(self) -> Operation:
        """What providers are asked for."""
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
        """Return a decoder that gives chunks this form, after `inner` (if any) made OpenAI chunks of the events."""
        ...


class PlainDialect:
    """A dialect whose answers are what providers return, in OpenAI's format."""

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
