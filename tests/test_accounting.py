"""The cost of a call: reported costs, prices, unknown prices, and the same sums in ledger, limiter and receipt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from msgspec import structs

from gateway import accounting
from gateway.attempts.billing import bill_unanswered
from gateway.call import Attempt, Call, PassedRequest
from gateway.catalog.token_price import TokenPrice
from gateway.ledger.counters import merge_copies
from gateway.ledger.ledger import Ledger
from gateway.response.receipt import receipt_of
from gateway.store.limit import Costs, Reservation
from providers.base import Usage
from tests.support.attempts import call_with, candidate, target_named
from tests.support.each import each

PRICE = TokenPrice(10_000 * 10**6, 100_000 * 10**6, 5_000 * 10**6, steps=((100, TokenPrice(20_000 * 10**6, 100_000 * 10**6, 0)),))


def attempt(usage: Usage | None, price: TokenPrice | None = PRICE, kind: str = "openai", **fields: Any) -> Attempt:
    """Return an attempt with the usage of the caller's answer."""
    target = structs.replace(target_named("a/x", kind), reports_cost=kind in ("openrouter", "xai"))
    return Attempt(target, price, usage=usage, **fields)


def answered(*attempts: Attempt, **fields: Any) -> Call:
    """Return a call that the last attempt answered."""
    call = call_with(attempts=list(attempts), answered_by=attempts[-1], status=200, **fields)
    accounting.settle(call)
    call.answered_by.cost = accounting.answer_cost(attempts[-1])  # type: ignore[union-attr]
    return call


def booked(call: Call) -> dict[str, int]:
    """Return the sum of the counts that the ledger has for a call."""
    ledger = Ledger(lambda line: None)
    ledger.book(call, call.started)
    (counts,) = merge_copies(ledger.counters.all_copies()).values()
    return counts._asdict()


def test_a_reported_cost_is_charged_only_if_the_provider_bills_by_it() -> None:
    usage = Usage(10, 1, reported_cost=77)
    assert accounting.cost_of(attempt(usage, kind="openrouter"), usage) == 77
    assert accounting.cost_of(attempt(usage, None, kind="xai"), usage) == 77
    assert accounting.cost_of(attempt(usage), usage) == 10 * 10_000 + 100_000
    assert accounting.cost_of(attempt(usage, kind="openrouter"), Usage(10, 1)) == 10 * 10_000 + 100_000
    assert accounting.cost_of(attempt(usage, kind="openrouter"), usage.estimate(10, 2)) == 10 * 10_000 + 2 * 100_000


@each(
    ("usage", "operation"),
    [
        (Usage(unsplit_tokens=50, reported_cost=77), "chat"),
        (Usage(0, 7, reported_cost=77), "chat"),
        (Usage(9, 0, reported_cost=77), "chat"),
        (Usage(search_units=1, reported_cost=77), "rerank"),
        (Usage(0, 0, reported_cost=0), "embeddings"),
    ],
)
def test_the_reported_cost_of_an_answer_does_not_depend_on_missing_counts(usage: Usage, operation: Any) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"a b"}],"query":"q","documents":["d"],"input":"a b"}'
    asked = attempt(usage, kind="openrouter", chunks=20)
    call = call_with(body, attempts=[asked], answered_by=asked, status=200)
    call.operation = operation
    accounting.settle(call)
    assert asked.usage is not None
    assert asked.usage.estimated
    assert accounting.costs(call) == [usage.reported_cost]


def test_a_rerank_without_usage_is_billed_by_search_units() -> None:
    body = b'{"model":"m","query":"q","documents":[%s]}' % b",".join([b'"d"'] * 101)
    asked = attempt(None, TokenPrice(0, 0, 0, search=2 * 10**9))
    call = call_with(body, attempts=[asked], answered_by=asked, status=200)
    call.operation = "rerank"
    for _ in range(2):
        accounting.settle(call)
    assert asked.usage is not None
    assert (asked.usage.search_units, asked.usage.estimated) == (2, True)
    assert accounting.costs(call) == [4 * 10**6]


def test_a_usage_that_was_completed_once_stays_as_it_is() -> None:
    asked = attempt(Usage(unsplit_tokens=3), chunks=20)
    call = call_with(attempts=[asked], answered_by=asked, status=200)
    accounting.settle(call)
    settled = asked.usage
    accounting.settle(call)
    assert asked.usage == settled


def test_each_request_of_a_sum_has_its_own_step() -> None:
    both = Usage(60, 1).plus(Usage(60, 1))
    assert accounting.cost_of(attempt(both), both) == 2 * (60 * 10_000 + 100_000)
    assert accounting.cost_of(attempt(Usage(120, 2)), Usage(120, 2)) == 120 * 20_000 + 2 * 100_000
    mixed = Usage(60, 1, reported_cost=5).plus(Usage(60, 1, reported_cost=6))
    assert accounting.cost_of(attempt(mixed, None, kind="xai"), mixed) == 11
    assert accounting.cost_of(attempt(mixed, None), mixed) is None


def test_usage_without_a_price_is_counted_as_unpriced() -> None:
    call = answered(attempt(Usage(10, 1), None))
    assert receipt_of(call)["cost_usd"] is None
    assert booked(call) | {"cost": 0, "unpriced": 1, "prompt": 10, "output": 1} == booked(call)


def test_a_part_without_a_price_makes_the_total_unknown() -> None:
    lost = attempt(None, None, billed=(Usage(5, 0, estimated=True),))
    call = answered(lost, attempt(Usage(10, 1)))
    shown = receipt_of(call)
    assert (shown["cost_usd"], shown["billed_attempts"][0]["cost_usd"]) == (None, None)
    assert accounting.bill(call.attempts) == (15, 1, 10 * 10_000 + 100_000, 0)
    assert (booked(call)["unpriced"], booked(call)["cost"]) == (1, 10 * 10_000 + 100_000)


def test_free_usage_is_priced() -> None:
    free = answered(attempt(Usage(10, 1), TokenPrice(0, 0, 0)))
    assert receipt_of(free)["cost_usd"] == 0
    assert booked(free)["unpriced"] == 0
    unbilled = Usage(10, 0, estimated=True, is_unbilled=True)
    assert accounting.cost_of(attempt(unbilled), unbilled) == 0


@each(
    ("usage", "total", "output"),
    [(Usage(unsplit_tokens=50), 50, None), (Usage(unsplit_tokens=1), 1, 0), (Usage(0, 7), None, 7), (None, None, 20)],
)
def test_missing_parts_are_estimated(usage: Usage | None, total: int | None, output: int | None) -> None:
    call = answered(attempt(usage, chunks=20))
    prompt, settled = accounting.prompt_tokens(call, call.attempts[0]), call.attempts[0].usage
    assert settled is not None
    assert settled.estimated
    assert settled.prompt_tokens == (prompt if total is None else min(prompt, total))
    assert settled.completion_tokens == (output if total is None or output is not None else total - prompt)


@each(("fields", "cap"), [(b"", None), (b',"max_tokens":10', 10), (b',"max_completion_tokens":10,"n":2', 20)])
def test_estimates_do_not_exceed_the_reservation_or_the_callers_cap(fields: bytes, cap: int | None) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"%s"}]%s}' % (b"word " * 200, fields)
    reservation = Reservation("r", (), Costs(1, 5, cap or 0), (), (), 0)
    asked = attempt(None, chunks=50)
    call = call_with(body, attempts=[asked], answered_by=asked, status=200, reservation=reservation)
    accounting.settle(call)
    assert asked.usage == Usage(5, 50 if cap is None else cap, estimated=True)
    call.reservation = None
    assert accounting.prompt_tokens(call, asked) > 5


def test_an_aborted_rerank_is_billed_by_its_search_units() -> None:
    body = b'{"model":"m","query":"q","documents":[%s]}' % b",".join([b'"d"'] * 101)
    call, price = call_with(body), TokenPrice(0, 0, 0, search=2 * 10**9)
    call.operation = "rerank"
    lost, backend = attempt(None, price, is_written=True), candidate().backend
    backend.bills_aborted_prompt = True
    bill_unanswered(call, lost, backend, "left")
    (usage,) = lost.billed
    assert (usage.search_units, accounting.cost_of(lost, usage)) == (2, 4_000_000)


def test_a_bill_adds_up_what_is_known() -> None:
    assert accounting.bill([attempt(None)]) is None
    assert accounting.bill([]) is None
    lost = attempt(None, None, billed=(Usage(5, 2, cached_tokens=9), Usage(-3, -1, cached_tokens=-2)))
    assert accounting.bill([lost]) == (5, 2, 0, 5)
    assert accounting.bill([attempt(Usage(10, 0), None), attempt(Usage(-3, 0, cached_tokens=2), None)]) == (10, 0, 0, 0)
    both = accounting.bill([lost, attempt(Usage(10, 1, cached_tokens=4)), attempt(None)])
    assert both is not None
    assert (both.prompt, both.output, both.cached) == (15, 3, 9)
    assert both.cost == accounting.cost_of(attempt(None), Usage(10, 1, cached_tokens=4))


def test_a_part_that_was_estimated_makes_the_bill_an_estimate() -> None:
    exact, guessed = attempt(Usage(1, 1)), attempt(None, billed=(Usage(1, 1), Usage(1, 0, estimated=True)))
    assert not accounting.is_estimated([exact, attempt(None)])
    assert accounting.is_estimated([exact, guessed])
    assert not accounting.is_estimated([])


@each(
    ("status", "usage"),
    [(200, Usage(7, 3)), (200, None), (500, None)],
)
def test_only_answers_are_estimated(status: int, usage: Usage | None) -> None:
    final = attempt(usage, chunks=5)
    call = call_with(attempts=[final], answered_by=final, status=status)
    accounting.settle(call)
    if status != 200 or usage is not None:
        assert final.usage == usage
    else:
        assert final.usage is not None
        assert final.usage.estimated
        assert final.usage.completion_tokens == 5
        assert final.usage.prompt_tokens == accounting.prompt_tokens(call, final) > 0


@each(
    ("reported", "chunks", "output", "estimated"),
    [
        (Usage(7, 0), 16, 0, False),  # a reported output of zero is not estimated
        (Usage(7, 0), 17, 17, True),
        (Usage(7, 3), 40, 3, False),
        (Usage(0, 3), 40, 3, True),
    ],
)
def test_missing_counts_are_estimated(reported: Usage, chunks: int, output: int, estimated: bool) -> None:
    final = attempt(reported, chunks=chunks)
    call = call_with(attempts=[final], answered_by=final, status=200)
    accounting.settle(call)
    assert final.usage is not None
    assert (final.usage.completion_tokens, final.usage.estimated) == (output, estimated)
    assert final.usage.prompt_tokens == (reported.prompt_tokens or accounting.prompt_tokens(call, final))


def test_the_usage_of_a_continued_stream_is_the_sum_of_its_parts() -> None:
    parts = [attempt(Usage(7, 3)), attempt(None), attempt(Usage(5, 4))]
    total = accounting.continued_usage(call_with(attempts=parts))
    assert (total.prompt_tokens, total.completion_tokens, total.estimated) == (12, 7, True)


CAPPED = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":8}'


@each(
    ("reported", "chunks", "body", "output", "estimated"),
    [
        (None, 5, None, 5, True),
        (None, 0, None, 0, True),
        (Usage(7, 0), 0, None, 0, False),
        (Usage(7, 3), 2, None, 3, False),
        (Usage(7, 3), 3, None, 3, False),
        (Usage(7, 3), 4, None, 4, True),
        (Usage(0, 3), 4, None, 4, True),
        (Usage(7, 3), 50, CAPPED, 8, True),  # a provider stops at the cap
        (Usage(7, 9), 50, CAPPED, 9, False),
    ],
)
def test_a_stream_that_was_cut_off_is_billed_by_what_arrived(
    reported: Usage | None, chunks: int, body: bytes | None, output: int, estimated: bool
) -> None:
    relay: Any = SimpleNamespace(usage=reported, chunks=chunks, finished=False)
    for end in ("cut", "ok"):
        cut = attempt(Usage(1, 1), relays=[relay, relay])
        fields: dict[str, Any] = {"attempts": [cut], "answered_by": cut, "status": 200}
        call = call_with(body, **fields) if body else call_with(**fields)
        call.stream_end = end
        accounting.settle(call)
        assert cut.usage is not None
        if end == "ok":
            assert cut.usage == Usage(1, 1)
            continue
        prompt = (reported.prompt_tokens if reported else 0) or accounting.prompt_tokens(call, cut)
        assert (cut.usage.prompt_tokens, cut.usage.completion_tokens, cut.usage.estimated) == (2 * prompt, 2 * output, estimated)


@each(
    ("reported", "chunks", "settled"),
    [
        (Usage(7, 3, 2), 50, Usage(7, 3, 2)),
        (Usage(7, 0), 5, Usage(7, 0)),
        (Usage(7, 0), 50, Usage(7, 50, estimated=True)),  # the usage arrived before the output, as in message_start
        (Usage(unsplit_tokens=5), 50, Usage(5, 0, estimated=True)),
        (Usage(7, 3, reported_cost=9), 50, Usage(7, 3, reported_cost=9)),
    ],
)
def test_the_reported_usage_of_a_stream_that_was_read_to_its_end_is_final(reported: Usage, chunks: int, settled: Usage) -> None:
    relay: Any = SimpleNamespace(usage=reported, chunks=chunks, finished=True)
    left = attempt(None, relays=[relay])
    call = call_with(attempts=[left], answered_by=left, status=200)
    accounting.settle(call)
    assert left.usage is not None
    fields = ("prompt_tokens", "completion_tokens", "cached_tokens", "estimated", "reported_cost")
    assert [getattr(left.usage, name) for name in fields] == [getattr(settled, name) for name in fields]


def test_usage_of_any_part_without_a_price_is_unpriced() -> None:
    priced, unpriced = attempt(Usage(1, 1)), attempt(None, None, billed=(Usage(1, 1),))
    assert None in accounting.costs(answered(unpriced, priced))
    assert None not in accounting.costs(answered(attempt(None, billed=(Usage(1, 1),)), priced))


def test_the_usage_of_a_passed_call_is_not_estimated() -> None:
    final = attempt(None, chunks=20)
    accounting.settle(call_with(attempts=[final], answered_by=final, status=200, passed=PassedRequest("POST", "/x")))
    assert final.usage is None
    accounting.settle(call_with(status=200))  # nothing answered


def test_a_negative_cap_leaves_no_output_and_no_body_has_no_cap() -> None:
    final = attempt(None, chunks=20)
    call = call_with(b'{"messages":[],"max_tokens":-4}', attempts=[final], answered_by=final, status=200)
    accounting.settle(call)
    assert final.usage is not None
    assert final.usage.completion_tokens == 0
    other = attempt(None, chunks=20)
    call.body, call.answered_by = None, other
    accounting.settle(call)
    assert other.usage == Usage(0, 20, estimated=True)


def test_costs_are_shown_in_dollars() -> None:
    lost = attempt(None, billed=(Usage(3, 1), Usage(1, 0)))
    call = call_with(attempts=[lost, attempt(Usage(10, 1)), attempt(None)])
    call.answered_by = call.attempts[1]
    assert accounting.cost_usd(call) == 340_000 / 10**9
    assert [(shown["target"], shown["cost_usd"]) for shown in accounting.billed_attempts(call)] == [("a/x", 0.00013), ("a/x", 0.00001)]
    assert accounting.billed_attempts(call)[0]["usage"] == Usage(3, 1).as_record()
    assert list(accounting.unanswered_usages(call)) == [(lost, Usage(3, 1), 130_000), (lost, Usage(1, 0), 10_000)]
    assert accounting.cost_usd(call_with(attempts=[attempt(None)])) is None
    assert accounting.answer_cost(attempt(None)) == 0
    assert accounting.answer_cost(attempt(Usage(1, 0), None)) is None
