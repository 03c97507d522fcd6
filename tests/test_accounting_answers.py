"""The usage of calls with several answers: hedged attempts, repeated requests, several streams, and cached answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway import accounting
from gateway.call import Call
from gateway.store.limit import Costs, Reservation
from providers.base import Adjustment, Usage
from tests.support.attempts import call_with
from tests.support.each import each
from tests.test_accounting import attempt
from tests.test_accounting_prompt import COUNT, Counts


def counted_call(**fields: Any) -> tuple[Call, Counts]:
    """Return a call with a prompt of COUNT tokens, and the counts of this prompt."""
    counts = Counts()
    return call_with(counts=counts, status=200, **fields), counts


def test_a_cached_answer_costs_nothing_and_does_not_hide_the_bill_of_other_attempts() -> None:
    usage = Usage(10, 1)
    cached, other = attempt(usage, cache="hit"), attempt(usage)
    assert (accounting.cost_of(cached, usage), accounting.cost_of(other, usage)) == (0, 200_000)
    assert accounting.bill([cached]) is None
    assert accounting.bill([cached, other]) == accounting.bill([other]) == (10, 1, 200_000, 0)


def test_a_bill_without_a_number_of_cached_tokens_has_none() -> None:
    assert accounting.Bill(1, 2, 3).cached == 0


def test_a_stream_that_was_read_to_its_end_and_one_that_was_not_add_up() -> None:
    call, _ = counted_call()
    ended, cut = SimpleNamespace(usage=Usage(7, 3), chunks=50, finished=True), SimpleNamespace(usage=None, chunks=4, finished=False)
    relays: list[Any] = [ended, cut]
    usage = accounting.received(call, attempt(None, relays=relays))
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (7 + COUNT, 3 + 4, True)


def test_the_losers_of_a_race_are_billed_whichever_attempt_answered() -> None:
    for winner in (0, 1):
        attempts = [attempt(Usage(10, 1)), attempt(Usage(10, 1))]
        attempts[1 - winner].usage, attempts[1 - winner].billed = None, (Usage(3, 0),)
        call = call_with(attempts=attempts, answered_by=attempts[winner], status=200)
        assert not accounting.answered_at_once(call)
        assert list(accounting.unanswered_usages(call)) == [(attempts[1 - winner], Usage(3, 0), 30_000)]
        assert [shown["cost_usd"] for shown in accounting.billed_attempts(call)] == [0.00003]


def test_a_single_attempt_is_billed_as_unanswered_only_if_it_did_not_answer() -> None:
    lost = attempt(None, billed=(Usage(3, 0),))
    call = call_with(attempts=[lost])
    assert list(accounting.unanswered_usages(call)) == [(lost, Usage(3, 0), 30_000)]
    call.answered_by = lost
    assert accounting.answered_at_once(call) is True
    assert accounting.billed_attempts(call) == []


@each(("copies", "tokens"), [(1, 12), (3, 4), (5, 2), (20, 1)])
def test_each_copy_of_a_prompt_has_its_part_of_what_was_reserved(copies: int, tokens: int) -> None:
    call, _ = counted_call(reservation=Reservation("r", (), Costs(1, 12), (), (), 0))
    split = Adjustment("n", "fan_out", from_=copies, to=1)
    assert accounting.prompt_tokens(call, attempt(None, adjustments=[split])) == tokens


@pytest.mark.parametrize("usage", [Usage(7, 3), Usage(0, 3), None])
async def test_the_usage_of_a_single_answer_stays_as_it_is_until_it_is_settled(usage: Usage | None) -> None:
    call, counts = counted_call()
    assert await accounting.usage_of_answers(call, attempt(None), [(usage, 20)]) == usage
    assert counts.counted == []


@pytest.mark.parametrize(
    ("second", "total", "counts"),
    [
        (Usage(7, 4), (14, 7, False), False),
        (Usage(0, 4), (7 + COUNT, 7, True), True),
        (Usage(7, 0), (14, 3 + 20, True), False),
        (None, (7 + COUNT, 3 + 20, True), True),
    ],
)
async def test_the_usages_of_several_answers_add_up_with_estimates_for_missing_counts(
    second: Usage | None, total: tuple[int, int, bool], counts: bool
) -> None:
    call, found = counted_call()
    one = attempt(None)
    usage = await accounting.usage_of_answers(call, one, [(Usage(7, 3), 20), (second, 20)])
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == total
    assert found.counted == ([one.target] if counts else [])


async def test_the_answers_of_a_call_without_a_body_are_added_up_without_a_count() -> None:
    call, counts = counted_call()
    call.body = None
    assert await accounting.usage_of_answers(call, attempt(None), [(None, 20), (None, 20)]) == Usage(0, 20, estimated=True).plus(
        Usage(0, 20, estimated=True)
    )
    assert counts.counted == []
