"""Each kind of response to one attempt: the answer to the caller and the record of the attempt, without sockets."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.call import Attempt
from gateway.emulate.adapt import adapt_body
from gateway.errors import NotFound
from gateway.metrics import Metrics
from gateway.response import json_response, logits_response, merged_response, stream_response
from gateway.response.after_disconnect import shield_from_disconnect, should_finish
from gateway.response.deliver import deliver
from gateway.response.headers import common_headers, error_headers, linked_id
from gateway.response.redaction import MASK, redact
from gateway.response.upstream_exchange import UpstreamExchange
from gateway.upstream.transport import Deadlines
from providers.base import Body, Failure, StreamFailure, Target, Usage
from providers.rules.fan_out import fan_out
from tests.support.attempts import call_with, target_named
from tests.support.scripted import EVENTS, Recorder, ScriptedResponse, ScriptedTransport, candidate_over, completion, event


def exchange_over(up: ScriptedTransport, recorder: Recorder, **fields: object) -> tuple[UpstreamExchange, Body]:
    """Return an exchange over a scripted upstream and the adapted body."""
    call = call_with(**fields)
    backend = candidate_over(up).backend
    assert call.body is not None
    adapted = adapt_body(call.body.copy(), backend.target, call.operation, strict=False, stream=call.stream)
    attempt = Attempt(backend.target, adjustments=adapted.adjustments)
    call.attempts.append(attempt)
    metrics = Metrics(["m"], ["a/x"], {"a": "openai"})
    return UpstreamExchange(call, attempt, recorder.caller(), backend, adapted, Deadlines(), metrics), adapted.body


async def test_json_answer_is_sent_as_it_is() -> None:
    recorder, response = Recorder(), ScriptedResponse([completion()])
    exchange, body = exchange_over(ScriptedTransport(response), recorder)
    await deliver(exchange, body)
    assert (recorder.status, recorder.body) == (200, completion())
    assert exchange.attempt.usage == Usage(5, 2)
    assert response.closed


async def test_answer_ends_at_a_stop_string() -> None:
    recorder = Recorder()
    exchange, body = exchange_over(ScriptedTransport(ScriptedResponse([completion("one END two")])), recorder, stops=("END",))
    await deliver(exchange, body)
    assert json.loads(recorder.body)["choices"][0]["message"]["content"] == "one "
    assert exchange.attempt.stop_matched == "END"


async def test_receipt_is_the_last_key_of_the_answer() -> None:
    recorder = Recorder()
    exchange, body = exchange_over(ScriptedTransport(ScriptedResponse([completion()])), recorder, wants_receipt=True)
    await deliver(exchange, body)
    answer = json.loads(recorder.body)
    assert list(answer)[-1] == "gateway"
    assert answer["gateway"]["time_info"]["source"] == "measured"
    assert answer["gateway"]["target"] == "a/x"


async def test_stream_is_relayed_byte_for_byte_and_ends_once() -> None:
    events = [event({"role": "assistant", "content": "Hel"}), event({"content": "lo"}), event({}, "stop"), b"data: [DONE]\n\n"]
    recorder = Recorder()
    exchange, body = exchange_over(ScriptedTransport(ScriptedResponse(events, EVENTS)), recorder, stream=True)
    await deliver(exchange, body)
    assert recorder.body == b"".join(events)
    assert exchange.call.stream_end == "ok"
    assert (exchange.attempt.chunks, exchange.attempt.finish_reasons) == (2, ("stop",))


async def test_json_instead_of_a_stream_is_a_failure() -> None:
    exchange, body = exchange_over(ScriptedTransport(ScriptedResponse([completion()])), Recorder(), stream=True)
    with pytest.raises(StreamFailure) as failed:
        await stream_response.open_upstream(exchange, body, usage_asked=False)
    assert failed.value.failure.kind == "bad_body"


async def test_several_answers_become_one_with_their_usage_added_up() -> None:
    recorder = Recorder()
    up = ScriptedTransport(ScriptedResponse([completion("one")]), ScriptedResponse([completion("two")]))
    exchange, body = exchange_over(up, recorder)
    await merged_response.merge_json(exchange, fan_out(body, 2))
    answer = json.loads(recorder.body)
    assert [(choice["index"], choice["message"]["content"]) for choice in answer["choices"]] == [(0, "one"), (1, "two")]
    assert exchange.attempt.usage == Usage(10, 4, parts=(Usage(5, 2), Usage(5, 2)))


async def test_probabilities_are_read_from_a_chat_completion() -> None:
    listed = [{"token": "yes", "logprob": 0.0}, {"token": "no", "logprob": -100.0}]
    logprobs = {"content": [{"token": "yes", "logprob": 0.0, "top_logprobs": listed}]}
    recorder, up = Recorder(), ScriptedTransport(ScriptedResponse([completion("yes", logprobs=logprobs)]))
    call = call_with()
    call.operation = "logits"
    assert call.body is not None
    backend = candidate_over(up).backend
    adapted = adapt_body(call.body.copy(), backend.target, "logits", strict=False)
    assert adapted.logits_request is not None
    attempt = Attempt(backend.target, adjustments=adapted.adjustments)
    exchange = UpstreamExchange(call, attempt, recorder.caller(), backend, adapted, Deadlines(), Metrics())
    await logits_response.send_logits(exchange, adapted.body, adapted.logits_request)
    answer = json.loads(recorder.body)
    assert (answer["logits"]["yes"], answer["emulated"]) == (1.0, True)


async def test_error_status_is_the_failure_of_the_provider() -> None:
    body = b'{"error":{"message":"slow down","type":"rate_limit_error"}}'
    exchange, request = exchange_over(ScriptedTransport(ScriptedResponse([body], status=429)), Recorder())
    with pytest.raises(StreamFailure) as failed:
        await json_response.fetch_answer(exchange, request)
    assert (failed.value.failure.kind, failed.value.failure.status) == ("rate_limit", 429)


async def test_shielded_work_is_finished_only_for_a_disconnected_caller_of_a_provider_that_bills_it() -> None:
    exchange, _ = exchange_over(ScriptedTransport(), Recorder())
    finished: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.01)
        finished.append("done")

    for finishes, expected in ((False, []), (True, ["done"])):
        exchange.backend.finishes_reading = finishes
        exchange.caller.disconnected = True
        assert should_finish(exchange) is finishes
        task = asyncio.create_task(shield_from_disconnect(exchange, work()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert finished == expected


def test_request_id_of_a_caller_is_repeated_only_if_it_is_short_printable_ascii() -> None:
    assert linked_id(b"abc-1") == "abc-1"
    assert linked_id(b"a b") is None
    assert linked_id(b"x" * 129) is None


def test_headers_name_the_attempt_that_answered() -> None:
    call = call_with()
    assert b"x-gateway-target" not in dict(common_headers(call))
    first, second = Attempt(target_named("a/x")), Attempt(target_named("b/y"))
    call.attempts = [first, second]
    assert dict(common_headers(call))[b"x-gateway-target"] == b"b/y"
    call.answered_by = first
    headers = dict(common_headers(call))
    assert (headers[b"x-gateway-target"], headers[b"x-gateway-attempts"]) == (b"a/x", b"2")
    assert dict(error_headers(call, NotFound("no"), 7))[b"content-length"] == b"7"


def test_credential_is_masked_in_an_upstream_error() -> None:
    target = Target("a/x", "a", target_named().kind, "x", "http://up/v1", "sk-secret-1234")
    redacted = redact(Failure("auth", "bad key sk-secret-1234", 401), target)
    assert (redacted.message, redacted.redacted) == (f"bad key {MASK}", 1)
    untouched = Failure("auth", "bad key", 401)
    assert redact(untouched, target) is untouched
