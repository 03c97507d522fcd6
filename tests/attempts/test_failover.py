"""One call and its candidates, without sockets: the requests, the answers and the records."""

from __future__ import annotations

import json
from typing import cast

import pytest

from gateway.accounting import Bill, bill, billed_attempts
from gateway.attempts import billing, continuation
from gateway.attempts.admission import Admission, NotAdmittedError
from gateway.attempts.failover import Failover
from gateway.attempts.fit import Fit
from gateway.attempts.hedge_budget import MAX_SAVED_HEDGES, HedgeBudget
from gateway.attempts.mirror import Mirrors
from gateway.attempts.prepare import cap_to_time_left
from gateway.attempts.retry_budget import RetryBudget
from gateway.call import Attempt, Call
from gateway.config.model import MirrorConfig
from gateway.config.provider import ProviderConfig
from gateway.config.route import Ref
from gateway.errors import GatewayError
from gateway.ledger.ledger import Ledger
from gateway.metrics import Metrics
from gateway.response.receipt import receipt_of
from gateway.targets.candidate import Candidate
from gateway.targets.cooldown import Reason
from gateway.targets.registry import TargetRegistry
from gateway.telemetry.call_log import CallLog
from gateway.upstream.transport import Deadlines, UpstreamError
from providers.base import Usage
from tests.support.attempts import call_with, candidate, target_named
from tests.support.scripted import (
    EVENTS,
    Recorder,
    ScriptedResponse,
    ScriptedTransport,
    candidate_over,
    completion,
    event,
    failover_over,
    run,
)  # fmt: skip


async def test_answer_of_the_first_candidate_is_sent_and_recorded_on_its_attempt() -> None:
    call, up = call_with(), ScriptedTransport(ScriptedResponse([completion()]))
    received = await run(call, candidate_over(up))
    assert (received.status, received.body) == (200, completion())
    (attempt,) = call.attempts
    assert call.answered_by is attempt
    assert (attempt.outcome, attempt.usage, attempt.finish_reasons) == ("ok", Usage(5, 2), ("stop",))


async def test_after_a_failure_the_next_candidate_answers() -> None:
    call, up = call_with(), ScriptedTransport(UpstreamError("connect", "refused"), ScriptedResponse([completion()]))
    received = await run(call, candidate_over(up), candidate_over(up, "b/y"))
    assert received.headers[b"x-gateway-target"] == b"b/y"
    assert [(each.target.name, each.outcome) for each in call.attempts] == [("a/x", "connect"), ("b/y", "ok")]
    assert call.final_attempt is call.attempts[1]


async def test_error_of_the_last_candidate_is_raised_if_none_answers() -> None:
    call, up = call_with(), ScriptedTransport(UpstreamError("connect", "refused"), UpstreamError("dns", "unknown"))
    with pytest.raises(GatewayError) as error:
        await run(call, candidate_over(up), candidate_over(up, "b/y"))
    assert (error.value.status, error.value.code) == (502, "upstream_dns_error")
    assert call.answered_by is None


def cooling(registry: TargetRegistry, candidate: Candidate, seconds: float, reason: Reason = "rate_limit") -> Candidate:
    """Put the target of a candidate into a cooldown, and return the candidate."""
    registry.health_of(candidate.backend.target).apply_remote(None, seconds, reason)
    return candidate


@pytest.mark.parametrize("reason", ["failures", "rate_limit"])
async def test_if_the_chosen_target_went_into_cooldown_the_other_targets_of_the_split_answer(reason: Reason) -> None:
    registry = TargetRegistry()
    call, up = call_with(), ScriptedTransport(ScriptedResponse([completion()]))
    chosen = cooling(registry, candidate_over(up), 60.0, reason)
    recorder = Recorder()
    await failover_over(registry).run(call, recorder.caller(), [chosen], lambda: [chosen, candidate_over(up, "b/y")])
    assert (recorder.status, recorder.headers[b"x-gateway-target"]) == (200, b"b/y")
    assert [each.target.name for each in call.attempts] == ["b/y"]


async def test_call_that_may_not_be_sent_again_does_not_wait_for_the_end_of_a_cooldown() -> None:
    registry = TargetRegistry()
    call, up = call_with(), ScriptedTransport(UpstreamError("dns", "unknown"))
    first, second = candidate_over(up, attempts=1), cooling(registry, candidate_over(up, "b/y", attempts=1), 1.0)
    with pytest.raises(GatewayError) as error:
        await failover_over(registry).run(call, Recorder().caller(), [first, second], list)
    assert error.value.code == "upstream_dns_error"
    assert call.pauses == ()


async def test_request_after_a_wait_for_a_cooldown_is_charged_once_to_the_retry_budget() -> None:
    registry = TargetRegistry()
    call, up = call_with(), ScriptedTransport(UpstreamError("dns", "unknown"), ScriptedResponse([completion()]))
    failover = failover_over(registry)
    failover._budget = budget = RetryBudget(floor=1.0, clock=lambda: 0.0)
    await failover.run(call, Recorder().caller(), [candidate_over(up), cooling(registry, candidate_over(up, "b/y"), 0.01)], list)
    assert [each.outcome for each in call.attempts] == ["dns", "ok"]
    assert len(call.pauses) == 1
    assert (budget.take(), budget.take()) == (True, False)  # the answer of another target returned the token


async def test_stream_of_another_target_counts_as_its_answer_even_if_it_breaks_off() -> None:
    metrics = Metrics(["m"], ["a/x", "b/y"], {"a": "openai", "b": "openai"})
    begun = [event({"role": "assistant", "content": "Hel"}), UpstreamError("reset", "gone")]
    call, up = call_with(stream=True), ScriptedTransport(UpstreamError("dns", "unknown"), ScriptedResponse(begun, EVENTS))
    with pytest.raises(GatewayError):
        await failover_over(TargetRegistry(), metrics).run(call, Recorder().caller(), [candidate_over(up), candidate_over(up, "b/y")], list)
    assert metrics.counts["lockgate_fallback_answers"] == {("m",): 1}


async def test_broken_stream_is_continued_and_both_attempts_are_billed() -> None:
    first = [event({"role": "assistant", "content": ""}), event({"content": "Hel"}), UpstreamError("reset", "gone")]
    second = [event({"role": "assistant", "content": "lo"}), event({}, "stop"), b"data: [DONE]\n\n"]
    up = ScriptedTransport(ScriptedResponse(first, EVENTS), ScriptedResponse(second, EVENTS))
    call = call_with(stream=True)
    route = [candidate_over(up, name, "vllm", continue_on_cut=True) for name in ("a/x", "b/y")]
    received = await run(call, *route)
    chunks = [json.loads(line[6:]) for line in received.body.decode().split("\n\n") if line.startswith("data: {")]
    assert "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]) == "Hello"
    assert received.body.endswith(b"data: [DONE]\n\n")
    assert up.requests[1]["messages"][-1] == {"role": "assistant", "content": "Hel"}
    broken, answered = call.attempts
    assert call.answered_by is answered
    assert broken.outcome == "reset"
    assert broken.usage is not None
    assert [entry["target"] for entry in billed_attempts(call)] == ["a/x"]


async def test_target_whose_rules_refuse_the_call_is_listed_as_skipped() -> None:
    image = b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}'
    up = ScriptedTransport(ScriptedResponse([completion()]))
    call = call_with(image)
    received = await run(call, candidate_over(up, "a/x", "goodfire"), candidate_over(up, "b/y"))
    assert received.status == 200
    assert [(each.target, each.param) for each in call.skipped] == [("a/x", "messages[0].content[0]")]
    assert receipt_of(call)["skipped"] == call.skipped
    assert "image_url" in call.skipped[0].why


async def test_only_plain_text_of_one_choice_has_a_transcript() -> None:
    may = [candidate(continue_on_cut=True)]
    assert continuation.transcript_for(call_with(stream=True), may) is not None
    assert continuation.transcript_for(call_with(stream=True), [candidate()]) is None
    assert continuation.transcript_for(call_with(), may) is None
    two = b'{"model":"m","n":2,"messages":[{"role":"user","content":"hi"}]}'
    assert continuation.transcript_for(call_with(two, stream=True), may) is None


def attempt_with(usage: Usage | None = None, *, bills_aborted_prompt: bool = False, ended: str = "left") -> Attempt:
    """Return an attempt that did not answer and was billed."""
    attempt, route = Attempt(target_named(), is_written=True), candidate()
    route.backend.bills_aborted_prompt = bills_aborted_prompt
    if usage is not None:
        attempt.reported.append(usage)
    billing.bill_unanswered(call_with(), attempt, route.backend, ended)
    return attempt


def test_unanswered_attempt_is_billed_what_was_reported() -> None:
    assert bill([attempt_with(Usage(7, 3))]) == Bill(7, 3, 0)
    assert attempt_with().billed == ()


def test_prompt_of_an_attempt_that_the_gateway_ended_is_billed_where_the_provider_does_so() -> None:
    (usage,) = attempt_with(bills_aborted_prompt=True).billed
    assert usage.estimated
    assert usage.prompt_tokens > 0
    assert attempt_with(bills_aborted_prompt=True, ended="server_error").billed == ()


async def test_full_queue_does_not_admit_and_leave_frees_the_slot() -> None:
    registry = TargetRegistry()
    registry.configure({"a": ProviderConfig(name="a", max_concurrent=1, max_queue=0)})
    target, call = target_named(), call_with()
    health = registry.health_of(target)
    first, second = (Admission(call, Attempt(target), health, None) for _ in range(2))
    await first.enter(None, 1.0)
    with pytest.raises(NotAdmittedError) as refused:
        await second.enter(None, 1.0)
    assert refused.value.is_shed
    first.leave(Attempt(target))
    await second.enter(None, 1.0)


def test_deadlines_of_an_attempt_end_with_the_call() -> None:
    deadlines = Deadlines(total=60.0)
    assert cap_to_time_left(deadlines, 60.0) is deadlines
    assert cap_to_time_left(deadlines, 5.0).total == 5.0


def test_hedge_budget_pays_for_a_share_of_the_calls() -> None:
    budget = HedgeBudget()
    assert not budget.take()
    for _ in range(20):
        budget.earn(0.05)
    assert budget.take()
    assert not budget.take()
    for _ in range(10_000):
        budget.earn(0.05)
    assert sum(budget.take() for _ in range(100)) == MAX_SAVED_HEDGES


def test_mirrored_call_has_the_request_and_nothing_of_its_caller() -> None:
    call = call_with(stops=("END",), wants_receipt=True, strict=True, deadline=3.0)
    copy: Call = call.mirrored()
    assert (copy.mirror_of, copy.stops, copy.model, copy.dialect) == (call.id, ("END",), "m", call.dialect)
    assert (copy.wants_receipt, copy.strict, copy.deadline, copy.key) == (False, False, float("inf"), None)
    assert copy.body is not call.body
    assert copy.id != call.id


def test_call_outside_the_mirrored_share_is_not_copied() -> None:
    def no_candidates() -> list[Candidate]:
        raise AssertionError("the route of the mirror is not needed")

    mirrors = Mirrors(cast("Metrics", None), cast("CallLog", None), cast("Ledger", None), draw=lambda: 0.5)
    mirror = MirrorConfig(target=Ref("b", "y"), share=0.5)
    mirrors.offer(call_with(), [], mirror, no_candidates, cast("Failover", None))


def test_fit_leaves_a_call_without_limits_alone() -> None:
    call, route = call_with(), candidate()
    assert call.body is not None
    request = Fit().asked(call.body, route.backend, None)
    assert request.idle
    assert request.adjustments == []
