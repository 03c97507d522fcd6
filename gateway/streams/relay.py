"""Relays one upstream stream to the caller: the bytes as they are, unless an event must be changed.

`feed` takes the bytes that arrived and returns the bytes to send. `end` is called once when the upstream ends. One typed decode
checks each event (it must be JSON and not an error) and reads finish reasons and usage: 0.25 us for 230 bytes. Events that a decoder
recognises by their frame or converts directly skip this check. Unused values are not decoded. A piece without changes is returned as it is.

Rules for every stream:

- Before the first content, events of up to MAX_HELD_BYTES in total are held, so that another target can still answer.
- A stream succeeds if every choice has a finish reason. The caller of such a stream gets exactly one [DONE].
- Once any content has been sent, the events that arrived before a failure are sent as well, even if they were read with it.
- Usage is always read, and shown to the caller only if requested: in one last chunk with `choices: []`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from gateway.streams.chunks import (
    PLAIN_KEYS,
    UNREADABLE_ERRORS,
    OpeningChunk,
    ReadChoice,
    ReadChunk,
    count_framed,
    has_content,
    is_error,
    is_text,
    read_chunk,
    read_chunks,
    read_opening,
    usage_chunk,
    with_reason,
)
from gateway.streams.mended_stream import ending_of, feed_mending
from gateway.streams.sse import Event, EventParser, EventTooLargeError, first_end, last_three_start
from providers.any_usage import usage_of_failure
from providers.base import Body, Failure, StreamDecoder, StreamFailure, Usage

DONE = b"data: [DONE]\n\n"
MAX_HELD_BYTES = 4096
"""Maximum size of the events that are held before the first content. Once they exceed it, they are released."""

ReadUsage = Callable[[Any, Any], Usage | None]
InbandFailure = Callable[[bytes], Failure]


class Relay:
    """The state machine of one relayed stream."""

    __slots__ = (
        "_choices", "_decoder", "_fail", "_failure", "_finished", "_frame", "_held", "_held_size", "_highest", "_most",
        "_parser", "_read_usage", "_sent", "_surplus", "_usage", "_usage_asked", "_usage_event", "chunks", "done",
        "finish_reasons", "opening", "started",
    )  # fmt: skip

    def __init__(
        self,
        *,
        decoder: StreamDecoder | None,
        usage_asked: bool,
        read_usage: ReadUsage,
        fail: InbandFailure,
        max_events: float = float("inf"),
        choices: int = 1,
    ) -> None:
        """`fail` converts an error event to a Failure. `read_usage` converts a usage object and a tier to a Usage (None if invalid).

        A stream with more than `max_events` content events is ended. `choices` is the number of choices requested.
        """
        self._decoder = decoder
        self._frame: tuple[bytes, bytes] | None = None
        """The decoder's frame. Most events consist of this frame and a text, and are sent without a closer check."""
        self._usage_asked = usage_asked
        self._read_usage = read_usage
        self._fail = fail
        self._most = max_events
        self._choices = choices
        self._parser = EventParser()
        self._held: list[bytes] = []
        self._held_size = 0
        self._finished: frozenset[int] = frozenset()
        self._highest = 0
        self._usage_event: bytes | None = None
        self._failure: StreamFailure | None = None
        self._sent = False
        self._surplus = 0
        """Events after [DONE]."""
        self.started = False
        """Whether events were released. From then on, no other target can answer in place of this one."""
        self.done = False
        """Whether [DONE] or a failure arrived. Data that follows is not read."""
        self._usage: Usage | None = None
        self.finish_reasons: tuple[str | None, ...] = ()
        self.chunks = 0
        self.opening = OpeningChunk()
        """Identity of the first chunk, for chunks that the gateway adds."""

    @property
    def normalised(self) -> int:
        """Number of irregularities that were removed from the stream."""
        return self._parser.normalised + self._surplus

    def discard(self, rest: bytes) -> bool:
        """Discard data after [DONE]. Return whether any events have followed [DONE] so far; these count as irregularities."""
        if rest or self._parser.pending:
            try:
                self._surplus += len(self._parser.feed(rest))
            except EventTooLargeError:
                self._surplus += 1
        return self._surplus > 0

    @property
    def usage(self) -> Usage | None:
        """The last usage of the upstream."""
        self._take_usage()
        return self._usage

    @property
    def usage_event(self) -> bytes:
        """The last usage chunk of the upstream, whether it is shown or not; empty if there was none."""
        self._take_usage()
        return self._usage_event or b""

    def _take_usage(self) -> None:
        """Record the usage that the decoder left out of ordinary chunks, if there is any."""
        if self._decoder is not None and (data := self._decoder.take_usage()) is not None:
            self._keep_usage(data, read_chunk(data))

    @property
    def finished(self) -> bool:
        """Whether every choice has a finish reason: after [DONE], every choice that began; before [DONE], every requested choice."""
        said_all = self.done and self._failure is None
        return len(self._finished) > self._highest and (said_all or len(self._finished) >= self._choices)

    def feed(self, piece: bytes) -> bytes:
        """Return the bytes to send for a piece. Raise StreamFailure if an event is too large, or on a failure before anything was sent."""
        parser = self._parser
        events = 0 if self._frame is None or parser.pending else count_framed(piece, *self._frame)
        if events and self.chunks + events <= self._most:
            self.chunks += events
            return piece
        out: list[bytes] = []
        try:
            whole = parser.cut(piece)
            while whole and not self.done:
                out.append(self._pass(whole))
                whole = parser.cut(b"") if parser.pending and parser.plain else b""
        except EventTooLargeError:
            raise StreamFailure(Failure("too_large", "an event of the stream exceeds 1 MiB")) from None
        if self.chunks > self._most and not self.done:
            self.done = True
            self._failure = StreamFailure(Failure("limit", f"the stream continued after {self.chunks} events, far beyond its output limit"))
        sent = b"".join(out)  # for a single item, join() returns the item itself
        self._sent |= bool(sent)
        if self._decoder is not None:
            self._frame = self._decoder.frame if self.started and parser.plain and not (self.done or self._held) else None
        return sent

    def _pass(self, whole: bytes) -> bytes:
        """Return the bytes to send for complete events.

        Events that need a closer check are put back for the next round.
        """
        if self._parser.plain and self.started:
            at = last_three_start(whole)
            for take in (self._take_framed, self._take_plain):
                for end in (len(whole), at):
                    if end and (sent := take(whole[:end])) is not None:
                        self._parser.unread(whole[end:])
                        return sent
        if self._parser.plain:
            at = first_end(whole, 4 if self.started else 2)  # once these are decoded, the decoder may know the frame of the rest
            self._parser.unread(whole[at:])
            whole = whole[:at]
        out = self._take(self._parser.split(whole), whole if self._parser.plain else None)
        return self._hold(out) if not self.started else self._release() + out

    def _take_framed(self, whole: bytes) -> bytes | None:
        """Count and return the events if each has the decoder's frame."""
        framed = 0 if self._decoder is None or self._decoder.frame is None else count_framed(whole, *self._decoder.frame)
        self.chunks += framed
        return whole if framed else None

    def _take_plain(self, whole: bytes) -> bytes | None:
        """Return the bytes to send for ordinary chunks. Return None, and record nothing, if they need a closer check."""
        if whole.endswith(DONE):
            return None
        if self._decoder is not None:
            sent = self._decoder.convert(whole)
            self.chunks += 0 if sent is None else whole.count(b"\n\n")
            return sent
        if whole[:6] != b"data: " or whole.find(b"\n\n\n") >= 0 or not is_text(whole):
            return None
        try:
            chunks = read_chunks(whole[6:].replace(b"\n\ndata: ", b"\n"))
        except (msgspec.DecodeError, RecursionError):
            return None
        finished, said, highest = list[ReadChoice](), 0, self._highest
        for chunk in chunks:
            if len(chunk.usage) > 4 or len(chunk.error) > 4 or chunk.object == "error":
                return None
            choices = chunk.choices
            if choices:
                said += not choices[-1].finish_reason
                for choice in choices:
                    if choice.index > highest:
                        highest = choice.index
                    if choice.finish_reason:
                        finished.append(choice)
        self.chunks += said
        self._highest = highest
        for choice in finished:
            self._finish(choice)
        return whole

    def _translate(self, events: Iterable[Event]) -> Iterator[Event]:
        for name, data in events:
            assert self._decoder is not None
            try:
                self._decoder, chunks = feed_mending(self._decoder, name, data)
            except UNREADABLE_ERRORS as error:
                raise StreamFailure(Failure("bad_event", f"an event of the stream cannot be read: {type(error).__name__}")) from None
            for chunk in chunks:
                yield name if chunk is data else "", chunk

    def _take(self, events: Iterable[Event], plain: bytes | None) -> bytes:
        """Return the bytes for these events: `plain` itself if all of them are passed on unchanged."""
        events = whole = iter(events)
        if self._decoder is not None:
            events, plain = self._translate(whole), None
        kept: list[bytes] = []
        try:
            if self._check(events, kept, plain is not None):
                assert plain is not None
                return plain
            if self.done:
                self._surplus += len(list(whole)) + (len(self._parser.feed(b"")) if self._parser.pending else 0)
        except StreamFailure as failure:
            self._usage, failure.usage = failure.usage or self._usage, None
            if not self._sent:
                raise
            self._failure = failure
            self.done = True
        return b"".join([b"data: " + data + b"\n\n" for data in kept])

    def _check(self, events: Iterable[Event], kept: list[bytes], plain: bool) -> bool:
        """Read every event and append to `kept` the events to pass on. Return whether all are passed on unchanged."""
        unchanged = plain
        for name, data in events:
            if not plain and data.find(b"\n") >= 0:
                # A JSON string has no raw newline, so a newline here separated two data lines of the event.
                data = data.replace(b"\n", b"")
            if data == b"[DONE]":
                self.done = True
                return False
            try:
                chunk = read_chunk(data)
                if not (data.isascii() or is_text(data)):
                    raise msgspec.DecodeError
            except (msgspec.DecodeError, RecursionError):
                raise StreamFailure(Failure("bad_event", "an event of the stream is not the JSON of a chat completion chunk")) from None
            if (len(chunk.error) and is_error(chunk.error)) or chunk.object == "error" or (name == "error" and not chunk.choices):
                raise StreamFailure(self._fail(data), usage_of_failure(data))
            if chunk.choices:
                for choice in chunk.choices:
                    self._highest = max(self._highest, choice.index)
                    if choice.finish_reason:
                        self._finish(choice)
            if not self.started:
                self._look_for_content(data, chunk)
            if self.started and chunk.choices and not chunk.choices[-1].finish_reason:
                self.chunks += 1
            if len(chunk.usage) > len(b"null"):
                unchanged = False
                data = self._keep_usage(data, chunk)
            if data:
                kept.append(data)
        return unchanged

    def _finish(self, choice: ReadChoice) -> None:
        self._finished |= {choice.index}
        if 0 <= choice.index < 128:
            self.finish_reasons = with_reason(self.finish_reasons, choice)

    def _look_for_content(self, data: bytes, chunk: ReadChunk) -> None:
        try:
            opening = read_opening(data)
        except msgspec.DecodeError:
            self.started = True
            return
        self.started = bool(self._finished) or has_content(opening)
        if opening.id is not None:
            self.opening = opening

    def _keep_usage(self, data: bytes, chunk: ReadChunk) -> bytes:
        """Record the usage of an event and remove it. Return the rest of the event, possibly b""."""
        body = Body(data)
        raw = body.get("usage")
        usage = self._read_usage(raw, body.get("service_tier"))
        if usage is not None and (usage.is_counted or self._usage is None):
            self._usage = usage
            self._usage_event = usage_chunk(data, body, raw, usage)
        if not chunk.choices and (self._usage_asked or PLAIN_KEYS.issuperset(body)):
            return b""
        body.pop("usage")
        return body.encode()

    def _hold(self, out: bytes) -> bytes:
        self._held.append(out)
        self._held_size += len(out)
        if self._held_size <= MAX_HELD_BYTES:
            return b""
        self.started = True
        return self._release()

    def _release(self) -> bytes:
        held, self._held = b"".join(self._held), []
        return held

    def end(self) -> bytes:
        """Return the bytes to send at the end of the upstream: held events and requested usage (not a total alone), without [DONE].

        Raise StreamFailure if the stream failed, or if it ended before every choice had a finish reason.
        """
        out = b""
        if not self.done:
            try:
                out = self._take([*self._parser.end(), *ending_of(self._decoder)], None)
                self._raise_failure()
            except StreamFailure as failure:
                if failure.failure.kind != "bad_event":
                    raise
                if not self.finished:
                    raise StreamFailure(Failure("truncated", "the stream ended inside an event")) from None
                self._failure = None  # the answer is complete: a fragment after it does not matter
        self._raise_failure()
        if not self.finished:
            raise StreamFailure(Failure("truncated" if self.started else "closed_pre", "the stream ended without a finish reason"))
        self.started = True
        if self._usage_asked and (usage_event := self.usage_event) and not (self._usage and self._usage.unsplit_tokens):
            out += b"data: " + usage_event + b"\n\n"
        return self._release() + out

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
