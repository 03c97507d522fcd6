"""Base class of filters that rewrite the chunks of a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from providers.base import StreamDecoder


class ChunkFilter(ABC):
    """A stream decoder that filters the OpenAI chunks of `inner`, or of the upstream if there is no `inner`."""

    def __init__(self, inner: StreamDecoder | None) -> None:
        self._inner = inner

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """Return the chunks to send for one event."""
        chunks = self._inner.feed(event, data) if self._inner is not None else (data,)
        return [kept for chunk in chunks for kept in self._pass(chunk)]

    def end(self) -> Sequence[bytes]:
        """Return the chunks to send at the end: those that `inner` adds, filtered."""
        chunks = self._inner.end() if self._inner is not None else ()
        return [kept for chunk in chunks for kept in self._pass(chunk)]

    @property
    def frame(self) -> tuple[bytes, bytes] | None:
        """Return None: every chunk is filtered."""
        return None

    def convert(self, events: bytes) -> bytes | None:
        """Return None, so that every event goes through `feed`."""
        return None

    def take_usage(self) -> bytes | None:
        """Return None: `feed` leaves no usage out."""
        return None

    @abstractmethod
    def _pass(self, data: bytes) -> Sequence[bytes]:
        """Return the chunks to send for one chunk, or for [DONE]."""
