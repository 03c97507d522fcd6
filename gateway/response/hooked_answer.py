"""The answer of an attempt on its way through the hooks of its call."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.call import Attempt, Call
from gateway.hooks.run import HookRun, Pieces
from gateway.hooks.stream import HookedEvents
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.streams.transcript import Transcript
from providers.base import Adjustment


async def hooked_json(exchange: UpstreamExchange, body: bytes) -> bytes:
    """Return a JSON answer as the hooks change it. Raise GatewayError if a hook refuses it."""
    if (run := _following(exchange.call)) is None:
        return body
    pieces = Pieces()
    body = await run.answer(body, pieces)
    _take_notes(exchange.attempt, pieces.notes)
    return body


class HookedStream:
    """The events of one stream as the hooks change them."""

    __slots__ = ("_attempt", "_events", "_keeps", "_pieces", "_run", "_taken", "_unhooked")

    def __init__(self, run: HookRun, attempt: Attempt, transcript: Transcript | None) -> None:
        is_continued = transcript is not None and bool(transcript.handovers)
        self._pieces = run.pieces if is_continued and run.pieces is not None else Pieces()
        self._run = run
        self._events = HookedEvents(run, self._pieces)
        self._events.started = is_continued
        self._attempt = attempt
        self._keeps = transcript is not None
        self._unhooked: list[bytes] = []
        self._taken = 0
        """The number of changes that the attempt has got."""

    async def pass_on(self, out: bytes, *, is_end: bool) -> bytes:
        """Return the events to send for these events, possibly none. Raise GatewayError if a hook refuses them."""
        if self._keeps and not is_end:
            self._unhooked.append(out)
        sent = await (self._events.end(out) if is_end else self._events.feed(out))
        if len(notes := self._pieces.notes) > self._taken:
            _take_notes(self._attempt, notes[self._taken :])
            self._taken = len(notes)
        return sent

    def begin(self) -> None:
        """Mark this stream as the one that the caller gets, so that the held texts are sent if it breaks off."""
        self._run.rest = self._events.broken

    def take_unhooked(self) -> bytes:
        """Return the events since the last call as they arrived, because the request of a continuation contains the unchanged text.

        This method is called only for the stream that the caller gets, so its pieces are those that a continuation takes over.
        """
        self._run.pieces = self._pieces
        events, self._unhooked = b"".join(self._unhooked), []
        return events


def hooked_stream(exchange: UpstreamExchange) -> HookedStream | None:
    """Return the filter that passes a stream through the hooks, or None if no hook follows the answer."""
    call = exchange.call
    run = _following(call)
    return HookedStream(run, exchange.attempt, call.transcript) if run is not None else None


def _following(call: Call) -> HookRun | None:
    """Return the run of the hooks if any hook follows the answer. The answer of a mirrored call is discarded."""
    run = call.hooks
    return run if run is not None and call.mirror_of is None and run.follows_answer else None


def _take_notes(attempt: Attempt, notes: Sequence[Adjustment]) -> None:
    known = {(each.param, each.why) for each in attempt.adjustments}
    attempt.adjustments = [*attempt.adjustments, *(note for note in notes if (note.param, note.why) not in known)]
