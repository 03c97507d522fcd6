"""One attempt: its request to the upstream, and the answer to the caller as what it is: an error, a stream, or JSON."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from gateway import accounting, answer, json_mode, logits, receipt, time_info
from gateway.call import Attempt, Call
from gateway.caller import Caller
from gateway.dialects import goodfire
from gateway.fanout import Interleaved, add_usages, interleave, merge, together, with_usage_of
from gateway.metrics import Metrics
from gateway.parts import Read, as_stream, ask_in_parts
from gateway.relay import DONE, OpeningChunk, Relay
from gateway.routing import Place
from gateway.stops import StopStream, cut_answer
from gateway.upstream.transport import Deadlines, Response, UpstreamError
from providers.base import TIMES, Adjustment, Body, Failure, Options, Refusal, StreamDecoder, StreamFailure, Target
from providers.shapes import fan_out

if TYPE_CHECKING:
    from providers.local.probabilities import Probabilities, Steps

MAX_ANSWER = 64 << 20
"""Bytes of one JSON answer that we take from an upstream."""
MAX_ERROR = 64 << 10


class Exchange:
    """Everything that one attempt needs while it lasts."""

    __slots__ = ("_asked", "_call", "_caller", "_deadlines", "_metrics", "_options", "_place", "_target", "_watch", "_watched")

    def __init__(
        self,
        call: Call,
        caller: Caller,
        place: Place,
        target: Target,
        options: Options,
        deadlines: Deadlines,
        metrics: Metrics,
        asked: logits.Asked | None = None,
        watch: json_mode.Watch | None = None,
    ) -> None:
        """`asked` are probabilities that this provider has no call for; `watch` looks at answers in JSON mode."""
        self._asked = asked
        self._watch = watch
        self._watched: list[json_mode.JsonStream] = []
        self._call = call
        self._caller = caller
        self._place = place
        self._target = target
        self._options = options
        self._deadlines = deadlines
        self._metrics = metrics
        call.sent_at = time.monotonic()
        call.upstream_at = 0.0
        call.chunks = 0
        call.stop_matched = None
        call.time_info = None

    def elapsed(self) -> float:
        """Milliseconds since the request was ready to be sent."""
        return round((time.monotonic() - self._call.sent_at) * 1000, 2)

    async def carry_out(self, body: Body) -> None:
        """Send an adapted body and answer the caller. UpstreamError or StreamFailure when there is no (whole) answer."""
        call = self._call
        if self._asked is not None:
            await self._answer_logits(body, self._asked)
            return
        count = _count(call)
        if count > 1:
            bodies = fan_out(body, count)
            await (self._relay_several(bodies) if call.stream else self._answer_several(bodies))
            return
        in_parts = getattr(self._target.kind, "in_parts", None)
        parts = in_parts(body, self._options) if in_parts is not None else None
        if call.stream and parts is None:
            response = await self._send(body)
            try:
                await self._relay(response)
            finally:
                response.close()
            return
        found, response = await (self._ask(body) if parts is None else ask_in_parts(parts, self._ask))
        if parts is not None and call.stops:  # one may stand across two parts
            whole, matched = cut_answer(found[0], call.stops, keep=call.keep_stop)
            call.stop_matched, found = call.stop_matched or matched, (whole, *found[1:])
        if self._watch is not None and self._watch.repair and self._watch.error is not None:
            found = await self._ask_again(found, self._watch)
        answered, call.usage, call.finish_reasons = found
        if call.stream:
            await self._open(response)
            await self._finish(*as_stream(answered, usage_asked=call.usage_asked))
        else:
            await self._answer(answered, response)

    async def _ask(self, body: Body) -> tuple[Read, Response]:
        """One JSON answer, read whole, and the head it came with."""
        response = await self._send(body)
        try:
            return await self._read(response), response
        finally:
            response.close()

    async def _ask_again(self, first: Read, watch: json_mode.Watch) -> Read:
        """A JSON answer was not what was asked for: one more call that says so. Both are billed; the first stands if it fails."""
        call, target = self._call, self._target
        error, noted, before = watch.error, watch.noted, call.adjustments
        attempt, began = call.attempts[-1], time.monotonic()
        attempt.ms = self.elapsed()
        body = watch.again(first[0])
        try:
            target.kind.adapt(body, target, self._options)
            self._deadlines = structs.replace(self._deadlines, total=max(0.05, self._deadlines.total - attempt.ms / 1000))
            (answered, usage, finished), _ = await self._ask(body)
        except (UpstreamError, StreamFailure, Refusal) as failed:
            note = Adjustment(json_mode.PARAM, "warn", why=f"asking once more failed ({type(failed).__name__})")
            call.adjustments = [*before, note]
            return first
        attempt.outcome = "invalid_json"
        self._metrics.count("lockgate_attempts", (self._metrics.target_label(target), attempt.outcome))
        call.attempts.append(Attempt(target.name))
        call.sent_at = began
        note = Adjustment(json_mode.PARAM, "warn", why=f"asked once more, both are billed; the first answer was wrong: {error}")
        call.adjustments = [*(one for one in before if one not in noted), note, *call.adjustments[len(before) :]]
        return with_usage_of([first[0], answered]), add_usages([first[1], usage]), finished

    async def _send(self, body: Body) -> Response:
        """The head of a good answer; StreamFailure for an error, or for no stream where one was asked for."""
        request = self._target.kind.encode(body, self._target, self._options)
        response = await self._place.transport.send(self._place.origin, request, self._deadlines)
        self._call.upstream_at = time.monotonic()
        try:
            if response.status != 200:
                raise StreamFailure(await answer.read_failure(response, self._target, MAX_ERROR))
            if self._call.stream and not answer.is_event_stream(response):
                raise StreamFailure(await answer.read_unstreamed(response, self._target, MAX_ANSWER))
        except BaseException:
            response.close()
            raise
        return response

    async def _read(self, response: Response) -> Read:
        """A JSON answer for the caller, with its usage and finish reasons."""
        call = self._call
        if getattr(self._target.kind, "always_streams", False):
            found = await answer.aggregate(response, self._target, self._options)
        else:
            found = await answer.read_json(response, self._target, self._options, MAX_ANSWER)
        if found.adjustments:
            call.adjustments = [*call.adjustments, *found.adjustments]
        if call.stops:
            found.body, matched = cut_answer(found.body, call.stops, keep=call.keep_stop)
            call.stop_matched = call.stop_matched or matched
        if self._watch is not None:
            found.body, notes = self._watch.inspect(found.body)
            call.adjustments = [*call.adjustments, *(note for note in notes if note not in call.adjustments)]
        if found.usage is None:
            call.chunks += accounting.estimate_output(found.body)
        return found.body, found.usage, found.finish_reasons

    async def _answer(self, body: bytes, response: Response) -> None:
        call = self._call
        call.status = 200
        if call.operation == "chat" and call.path.startswith(goodfire.PREFIX):
            body = goodfire.as_goodfire(body)
        if call.receipt:
            call.time_info = self._times() or time_info.read(body) or time_info.measured(call)
            accounting.settle(call)
            call.attempts[-1].ms = self.elapsed()
            body = receipt.splice(body, call)
        call.first_byte_at = time.monotonic()
        await self._caller.answer(200, answer.json_headers(call, response, len(body)), body)

    async def _open(self, response: Response) -> None:
        call = self._call
        call.status = 200
        call.first_byte_at = time.monotonic()
        await self._caller.open_stream(answer.stream_headers(call, response))

    def _new_relay(self, *, usage_asked: bool) -> tuple[Relay, StopStream | None]:
        """The state of one upstream stream; with stops, what ends it at one of them."""
        call, target = self._call, self._target
        decoder: StreamDecoder | None = target.kind.decoder(target, self._options)
        stops = None
        if call.stops or self._watch is not None:
            assert call.body is not None
            choices = 1 if _count(call) > 1 else call.body.get("n") or 1
            if call.stops:
                decoder = stops = StopStream(decoder, call.stops, choices, keep=call.keep_stop)
            if self._watch is not None:
                decoder = watched = json_mode.JsonStream(decoder, self._watch, choices)
                self._watched.append(watched)
        if call.path.startswith(goodfire.PREFIX):
            decoder = goodfire.GoodfireStream(decoder)
        relay = Relay(
            decoder=decoder,
            usage_asked=usage_asked,
            read_usage=answer.read_usage,
            fail=lambda data: answer.inband_failure(target, data),
        )
        return relay, stops

    async def _relay(self, response: Response) -> None:
        """A stream: held until something is said, then every piece as it comes, ended by exactly one [DONE]."""
        call, caller = self._call, self._caller
        relay, stops = self._new_relay(usage_asked=call.usage_asked)
        try:
            while not relay.done:
                piece = await answer.read_on(response, relay)
                if not piece:
                    break
                out = relay.feed(piece)
                if out:
                    if not caller.opened:
                        await self._open(response)
                    await caller.write(out)
                    if call.receipt and time_info.may_have(out):
                        call.time_info = time_info.read_events(out) or call.time_info
            out = relay.end()
            if call.receipt:
                call.time_info = time_info.read_events(out) or time_info.read(relay.usage_event) or call.time_info
            if stops is None or stops.matched is None:
                response.finish()
        finally:
            call.usage, call.finish_reasons, call.chunks = relay.usage, relay.finish_reasons, relay.chunks
            if stops is not None:
                call.stop_matched = stops.matched or stops.reported
            if relay.normalised:
                self._metrics.count("lockgate_sse_normalised", (), relay.normalised)
        if not caller.opened:
            await self._open(response)
        await self._finish(out, relay.opening)

    async def _finish(self, out: bytes, opening: OpeningChunk) -> None:
        call = self._call
        call.stream_end = "ok"
        if self._watched:
            notes = [note for watched in self._watched for note in watched.notes()]
            call.adjustments = [*call.adjustments, *dict.fromkeys(notes)]
        if call.receipt:
            call.time_info = call.time_info or self._times() or time_info.measured(call)
            accounting.settle(call)
            call.attempts[-1].ms = self.elapsed()
            out += receipt.chunk(call, opening)
        await self._caller.finish(out + DONE)

    def _times(self) -> dict[str, Any] | None:
        """How long the parts of the only upstream call took, where its decoder knows."""
        times = self._options.memo.get(TIMES) if _count(self._call) == 1 else None
        return time_info.from_provider(times) if times else None

    async def _answer_logits(self, body: Body, asked: logits.Asked) -> None:
        """Token probabilities where the provider has no call for them."""
        call = self._call
        steps = getattr(self._target.kind, "probabilities", None)
        if steps is None:
            response = await self._send(body)
            try:
                answered, call.usage, call.finish_reasons = await self._read(response)
            finally:
                response.close()
            found, notes = logits.from_chat(answered, asked)
        else:
            probabilities, response = await self._step(steps(body, self._target, self._options, asked.top_k, asked.vocabulary))
            found = logits.encode(probabilities.by_token, None)
            notes = logits.first_token_notes(probabilities.first_token_only, self._target, strict=self._options.strict)
        call.adjustments = [*call.adjustments, *notes]
        await self._answer(found, response)

    async def _step(self, steps: Steps) -> tuple[Probabilities, Response]:
        """Carry out a provider's own requests one after another."""
        request = next(steps)
        while True:
            response = await self._place.transport.send(self._place.origin, request, self._deadlines)
            self._call.upstream_at = time.monotonic()
            try:
                if response.status != 200:
                    raise StreamFailure(await answer.read_failure(response, self._target, MAX_ERROR))
                request = steps.send(await response.body(MAX_ANSWER))
            except StopIteration as end:
                return end.value, response
            except (msgspec.DecodeError, LookupError, ArithmeticError):
                raise StreamFailure(Failure("bad_body", "the engine's probabilities cannot be read")) from None
            finally:
                response.close()

    async def _answer_several(self, bodies: list[Body]) -> None:
        """n JSON answers as one."""
        found = await together([self._ask(body) for body in bodies])
        self._call.usage = add_usages([usage for (_, usage, _), _ in found])
        self._call.finish_reasons = tuple(finished[0] if finished else None for (_, _, finished), _ in found)
        await self._answer(merge([body for (body, _, _), _ in found]), found[0][1])

    async def _relay_several(self, bodies: list[Body]) -> None:
        """n streams as one, each with its own index."""
        call, caller = self._call, self._caller
        relays: dict[int, Relay] = {}
        responses: dict[int, Response] = {}
        whole = Interleaved()

        async def pump(at: int, put: Callable[[bytes], Awaitable[None]]) -> None:
            response = responses[at] = await self._send(bodies[at])
            relay, stops = self._new_relay(usage_asked=True)
            relays[at] = relay
            try:
                while not relay.done:
                    piece = await answer.read_on(response, relay)
                    if not piece:
                        break
                    out = relay.feed(piece)
                    if out:
                        await put(out)
                await put(relay.end())
                if stops is None or stops.matched is None:
                    response.finish()
            finally:
                if stops is not None:
                    call.stop_matched = call.stop_matched or stops.matched or stops.reported
                response.close()

        async with aclosing(interleave(len(bodies), pump)) as pieces:
            async for at, piece in pieces:
                out = whole.rewrite(at, piece)
                call.chunks = sum(relay.chunks for relay in relays.values())
                if out:
                    if not caller.opened:
                        await self._open(responses[0])
                    await caller.write(out)
        call.usage = add_usages([relays[at].usage for at in range(len(bodies))])
        call.finish_reasons = tuple(next(iter(relays[at].finish_reasons), None) for at in range(len(bodies)))
        out = whole.usage_event(len(bodies)) if call.usage_asked else b""
        await self._finish(out, msgspec.convert(whole.identity, OpeningChunk))


def _count(call: Call) -> int:
    """How many upstream calls the adjustments make of this one."""
    for adjustment in call.adjustments:
        if adjustment.action == "fan_out":
            return int(adjustment.from_)
    return 1
