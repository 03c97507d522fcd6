"""The reply of ADMIT as decisions, and what an outage remembers of it."""

from __future__ import annotations

from gateway.store.decision_reply import read_decision, status_of
from gateway.store.limit import NO_SLOT, US_PER_S, Costs, Limit, LimitStatus, Refusal, Reservation
from gateway.store.outage import OutageLimiter
from gateway.store.script_args import NO_WAIT, PendingDecision

NOW = 1_900_000_000 * US_PER_S + 400_000
SECOND, CALLS, BUDGET = Limit("k", "requests", 9, "s"), Limit("k", "concurrent", 3), Limit("k", "spend", 1000, "day")
SLOT, DAY = SECOND.slot_at(NOW), BUDGET.slot_at(NOW)
ASKED = PendingDecision([SECOND, CALLS, BUDGET], Costs(spend=7), "id", object())


def test_an_admitted_call_gets_a_reservation_with_the_charged_slots() -> None:
    found = read_decision(ASKED, [1, NOW, 8, SLOT, NO_WAIT, 0, NO_SLOT, NO_WAIT, -5, DAY, NO_WAIT], 4)
    assert isinstance(found, Reservation)
    assert (found.id, found.limits, found.costs, found.decided_at, found.run) == ("id", ASKED.limits, ASKED.costs, NOW, 4)
    assert found.slots == (SLOT, NO_SLOT, DAY)
    reset = BUDGET.reset_s(DAY, NOW)
    assert found.statuses == (LimitStatus(SECOND, 8, 1.0), LimitStatus(CALLS, 0, 0.0), LimitStatus(BUDGET, 0, reset, excess=5))


def test_an_unused_limit_is_not_reset() -> None:
    found = read_decision(PendingDecision([SECOND], Costs(), "id"), [1, NOW, 9, SLOT, NO_WAIT], 4)
    assert found.statuses == (LimitStatus(SECOND, 9, 0.0),)


def test_a_refusal_has_the_amounts_that_calls_in_flight_reserve() -> None:
    found = read_decision(ASKED, [0, NOW, 8, SLOT, NO_WAIT, 1, NO_SLOT, NO_WAIT, 2, DAY, -3, -1, -1, 12], 4)
    assert isinstance(found, Refusal)
    assert (found.limit, found.busy, found.decided_at) == (BUDGET, True, NOW)
    assert [status.reserved for status in found.statuses] == [None, None, 12]
    assert [status.remaining for status in found.statuses] == [8, 1, 2]
    assert status_of(found.statuses, CALLS) is found.statuses[1]


def test_an_outage_starts_from_the_latest_state_of_each_limit() -> None:
    both, one = [SECOND, CALLS], [SECOND]
    asked = [PendingDecision(limits, Costs(), "id", object()) for limits in (both, one, both, one, one)]
    reply = [[1, NOW, 5, SLOT, NO_WAIT, 2, -1, NO_WAIT], [1, NOW, 4, SLOT, NO_WAIT], [0, NOW, 3, SLOT, NO_WAIT, 0, -1, -3, -1, -1]]
    outage, plain = OutageLimiter(), OutageLimiter()
    outage.record_statuses(asked, [*reply, [1, NOW, 2, SLOT, NO_WAIT], [-1, NOW]])
    plain.record_status(CALLS, 0, NO_SLOT)
    plain.record_status(SECOND, 2, SLOT)
    assert outage._statuses == plain._statuses
    outage.record_statuses(asked[:3], reply)
    plain.record_status(SECOND, 3, SLOT)
    assert outage._statuses == plain._statuses
