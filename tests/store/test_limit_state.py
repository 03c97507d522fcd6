"""The state of a limit at the time of a call, as its record and its log line show it."""

from __future__ import annotations

import math

import msgspec

from gateway.store.limit import NANO_PER_USD, Limit, LimitStatus
from gateway.store.limit_state import encoded_state, limit_state
from tests.support.each import each


def test_amounts_of_money_are_in_usd() -> None:
    budget = Limit("team:search", "spend", 5 * NANO_PER_USD, "day")
    state = limit_state(LimitStatus(budget, 2 * NANO_PER_USD, 60.12345), NANO_PER_USD // 2)
    assert state == {"limit": str(budget), "owner": "team:search", "used": 3.0, "reserved": 0.5, "amount": 5.0, "reset_s": 60.123}


def test_unknown_reservations_are_left_out_and_the_refusing_limit_is_marked() -> None:
    requests = Limit("key:app", "requests", 2, "min", model="m*")
    state = limit_state(LimitStatus(requests, 0, 30.0), None, refused=True)
    assert state == {"limit": str(requests), "owner": "key:app", "model": "m*", "used": 2, "amount": 2, "reset_s": 30.0, "refused": True}


def test_a_total_budget_has_no_reset() -> None:
    assert limit_state(LimitStatus(Limit("key:app", "spend", 1, "total"), 1, math.inf), None)["reset_s"] is None


REQUESTS = Limit('key:a "b" \u00e4\\', "requests", 2_000, "min", model="m*")
CALLS, BUDGET, TOTAL = Limit("key:a", "concurrent", 1), Limit("key:a", "spend", 7, "day"), Limit("key:a", "spend", 7, "total")


@each(
    "status",
    [
        LimitStatus(REQUESTS, 7, 59.987654),
        LimitStatus(REQUESTS, 2_000, 0.0),
        LimitStatus(REQUESTS, 0, 60.0, 5),
        LimitStatus(REQUESTS, 0, 0.0004, None, 3),
        LimitStatus(REQUESTS, 0, 0.0015),
        LimitStatus(REQUESTS, 0, 1.0005),
        LimitStatus(Limit("key:a", "tokens", 10**18, "day"), 1, 86_399.9996),
        LimitStatus(CALLS, 0, 0.0),
        LimitStatus(BUDGET, 3, 60.1, 2),
        LimitStatus(TOTAL, 3, math.inf, 2),
    ],
)
def test_the_encoded_state_has_the_same_fields(status: LimitStatus) -> None:
    assert encoded_state(status).encode() == msgspec.json.encode(limit_state(status, status.reserved))
