"""One call in the fast lane, from its response to the end of the answer. `gateway.fast.fast_request` has sent its request.

    on_response     is called when a part of the response has arrived
    read            processes that part: sends the answer, or the next events of a stream
    _end            ends the call, which is then accounted for
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from gateway import accounting
from gateway.attempts.admission import Admission
from gateway.call import Attempt, Call
from gateway.fast.fast_request import FastRequest
from gateway.http.rounds import ACCOUNT, READ
from gateway.response import headers, receipt
from gateway.response.embeddings_response import merge_single
from gateway.response.json_response import finish_answer, send_json
from gateway.response.stream_response import UpstreamStream, finish, record_stream
from gateway.response.translated_caller import with_length, without_length
from gateway.response.upstream_answer import decode_json, is_event_stream
from gateway.response.upstream_exchange import MAX_ANSWER_BYTES, UpstreamExchange
from gateway.streams.relay import DONE


class FastCall(FastRequest):
    """A call and its caller, while no task serves the call."""

    __slots__ = ()

    def on_response(self) -> None:
        """Read a part of a stream at once, and other responses in the next round."""
        if self._sent is None:  # `_on_open` is called later
            return
        if self._call.stream:
            self.step(self.read)
        elif not self._is_read_soon:
            self._is_read_soon = True
            self._own_cycle.rounds.add(READ, self._read_in_round)

    def _read_in_round(self) -> None:
        self._is_read_soon = False
        if self._sent is not None:  # else the call has been handed over meanwhile
            self.step(self.read)

    def read(self) -> None:
        """Process the part of the response that has arrived."""
        assert self._exchange is not None
        assert self._sent is not None
        exchange, response = self._exchange, self._sent.response
        if self._stream is not None:
            self._relay(self._stream)
            return
        if response.status != 200 or (self._call.stream and not is_event_stream(response)):
            self._continue_attempt()
            return
        if not exchange.attempt.head_at:
            exchange.attempt.head_at = time.monotonic()
        if self._call.stream:
            assert self._body is not None
            self._stream = UpstreamStream(exchange, response, self._body, usage_asked=self._call.wants_usage)
            self._relay(self._stream)
            return
        body = response.collect(MAX_ANSWER_BYTES)
        if body is not None:
            self._answer(exchange, body)
        elif response.ended or response.size > MAX_ANSWER_BYTES:
            self._continue_attempt()

    def _answer(self, exchange: UpstreamExchange, body: bytes) -> None:
        """Send a JSON answer."""
        assert self._sent is not None
        call, attempt, response = self._call, exchange.attempt, self._sent.response
        try:
            answer = finish_answer(exchange, decode_json(body, exchange.target, exchange.options, exchange.native))
        finally:
            response.close()
        body, attempt.usage, attempt.finish_reasons = answer
        if call.operation == "embeddings":
            body = merge_single(call, body)
        if not self._own_cycle.accepts_data or receipt.has_total_alone(attempt):
            exchange.rest = partial(send_json, exchange, body, response)
            self._continue_attempt()
            return
        if exchange.native is not None:
            self.pass_natively()
        call.status, call.answered_by = 200, attempt
        body = call.dialect.response(body)
        call.first_byte_at = time.monotonic()
        head = headers.json_headers(call, attempt, response, len(body))
        if exchange.native is not None:
            head = self.own_headers(head)
        elif self.translator is not None:
            kept, body = self.own_headers(without_length(head)), self.own_answer(body)
            head = with_length(kept, body)
        self.head_sent = True
        self._own_cycle.try_respond(200, head, body)
        self._end(exchange)

    def _relay(self, stream: UpstreamStream) -> None:
        """Send the events that have arrived."""
        assert self._exchange is not None
        assert self._sent is not None
        exchange, response, cycle = self._exchange, self._sent.response, self._own_cycle
        try:
            while (out := stream.read_now(response)) is not None:
                if not self.head_sent:
                    self._begin_stream(exchange)
                if stream.ended:
                    break
                if self.translator is not None and not (out := self.own_events(out)):
                    continue
                self._active_at = time.monotonic()
                cycle.write_body(out, more=True)
                if not cycle.accepts_data:
                    self._continue_attempt()
                    return
        except BaseException:
            response.listener = None  # closing would call the listener
            stream.close()
            if self.head_sent:
                record_stream(exchange, stream)
            raise
        if out is None:
            return
        response.listener = None
        stream.close()
        record_stream(exchange, stream)
        if exchange.native is None:
            if self._call.wants_usage and (receipt.has_total_alone(exchange.attempt) or accounting.needs_count(self._call)):
                exchange.rest = partial(finish, exchange, out, stream.relay.opening)
                self._continue_attempt()
                return
            out += DONE
        self._call.stream_end = "ok"
        self._active_at = exchange.attempt.ended_at = time.monotonic()
        if self.translator is not None:
            out = self.own_end(out)
        cycle.write_body(out, more=False)
        self._end(exchange)

    def _begin_stream(self, exchange: UpstreamExchange) -> None:
        """Encode the head of the stream, which is sent with the first events."""
        assert self._sent is not None
        call, attempt = self._call, exchange.attempt
        if exchange.native is not None:
            self.pass_natively()
        call.status, call.answered_by = 200, attempt
        call.first_byte_at = time.monotonic()
        self._prepare_stream()
        head = headers.stream_headers(call, attempt, self._sent.response)
        self._own_cycle.begin_response(200, head if self.translator is None else self.own_headers(head))
        self._forget_request(attempt)

    def _forget_request(self, attempt: Attempt) -> None:
        """Free the memory of the request, which is not sent again, and of the headers. Keep an uncounted prompt for the bill."""
        assert self._sent is not None
        call = self._call
        self._body = None
        self._sent = self._sent.without_request()
        self._own_cycle.forget_headers()
        self._route.query.forget_headers()
        self.headers = ()
        call.limit_headers = ()
        if call.operation == "chat" and call.counts is not None and call.counts.is_counted(attempt.target):
            for body in (call.body, call.source):
                if body is not None:
                    body.drop_large()

    def _end(self, exchange: UpstreamExchange) -> None:
        """Note that the call is answered, and account for it in this round or in the next one."""
        assert self._admission is not None
        self.finished = True
        account = partial(self._account, exchange, self._admission)
        self._release()
        self._own_cycle.rounds.add(ACCOUNT, partial(self.step, account))

    def _account(self, exchange: UpstreamExchange, admission: Admission) -> None:
        pipeline, call = self._pipeline, self._call
        pipeline.failover.answered_at_once(call, self._route.candidates[0], exchange, admission)
        if accounting.needs_count(call):
            self._continue(_nothing)
            return
        pipeline.watch.discard(self)
        self._own_cycle.rounds.calls = len(pipeline.watch)
        self.close()
        self._own_cycle.send_heartbeat = None
        pipeline.account(call, self)


async def _nothing(call: Call, caller: Any) -> None:
    """Do nothing: the call has been answered."""
