"""`MendedStream`: the decoder of a stream whose events are not always valid JSON."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.streams.chunks import UNREADABLE_ERRORS
from gateway.streams.mended_json import EventMender, mended
from gateway.streams.sse import Event
from providers.any_usage import usage_of_failure
from providers.base import StreamDecoder, StreamFailure

END: Event = ("", b"")
"""Marks the end of the events in a stream without [DONE]."""


class MendedStream(StreamDecoder):
    """Repairs the events of a stream before `inner` decodes them. A stream uses it from the first event that must be mended."""

    def __init__(self, inner: StreamDecoder) -> None:
        self._inner = inner
        self._mender = EventMender()

    @property
    def frame(self) -> tuple[bytes, bytes] | None:
        """The frame of `inner`; None while events are held."""
        return None if self._mender.waits else self._inner.frame

    def convert(self, events: bytes) -> bytes | None:
        """Convert events as `inner` does, unless events are held."""
        return None if self._mender.waits else self._inner.convert(events)

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """Return the chunks of this event and of events that were held."""
        ready = self._mender.flush() if (event, data) == END else self._mender.feed(event, data)
        return [chunk for name, each in ready for chunk in self._inner.feed(name, each)]

    def take_usage(self) -> bytes | None:
        """Return the usage that `inner` left out."""
        return self._inner.take_usage()

    def end(self) -> Sequence[bytes]:
        """Return the chunks of events that are held, and those that `inner` adds."""
        return [*self.feed(*END), *self._inner.end()]


def feed_mending(decoder: StreamDecoder, name: str, data: bytes) -> tuple[StreamDecoder, Sequence[bytes]]:
    """Return the decoder of the events that follow, and the chunks for this event or [DONE].

    Raise one of UNREADABLE_ERRORS if the event cannot be read and is not mended.
    """
    if data == b"[DONE]":
        return decoder, (*decoder.end(), data)
    try:
        return decoder, tuple(decoder.feed(name, data))
    except StreamFailure as failure:
        failure.usage = failure.usage or usage_of_failure(data)
        raise
    except UNREADABLE_ERRORS:
        if type(decoder) is MendedStream or mended(data) is None:
            raise
    decoder = MendedStream(decoder)
    return decoder, decoder.feed(name, data)


def ending_of(decoder: StreamDecoder | None) -> Sequence[Event]:
    """Return the events that end a stream without [DONE]: END if the decoder may hold events, else none."""
    return (END,) if type(decoder) is MendedStream else ()
