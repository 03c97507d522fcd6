"""The state of a limit at the time of a call, as its record and its log line show it."""

from __future__ import annotations

import math

from gateway.store.limit import NANO_PER_USD, Limit, LimitStatus
from gateway.store.limit_state import limit_state


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
