"""What follows from a set of limits alone."""

from __future__ import annotations

from gateway.store.limit import Costs, Limit
from gateway.store.limit_set import limit_set, reservation_key, reserved_key

REQUESTS = Limit("key:a", "requests", 5, "h")
TOKENS = Limit("key:a", "uncached_prompt_tokens", 100, "min")
CALLS = Limit("key:a", "concurrent", 3)
BUDGET = Limit("user:a:b", "spend", 1000, "day")
TARGET = Limit("target:p/m", "requests", 5, "h", side="target")
COSTS = Costs(2, 30, 4, 500, 10)


def test_the_same_limits_are_the_same_set() -> None:
    known = limit_set([REQUESTS, TOKENS])
    assert known == (REQUESTS, TOKENS)
    assert limit_set((REQUESTS, TOKENS)) is limit_set(known) is known
    assert limit_set([TOKENS, REQUESTS]) is not known
    assert limit_set([Limit("key:a", "requests", 5, "h"), TOKENS]) is not known, "limits are compared by identity"


def test_amounts_are_those_of_the_limits_in_their_order() -> None:
    assert limit_set([BUDGET, CALLS, TOKENS, REQUESTS]).amounts(COSTS) == (500, 1, 20, 2)
    assert limit_set([TOKENS]).amounts(COSTS) == (20,)
    assert limit_set([]).amounts(COSTS) == ()


def test_properties_tell_which_kinds_of_limits_are_in_a_set() -> None:
    every = limit_set([REQUESTS, TOKENS, CALLS, BUDGET])
    assert (every.has_budgets, every.has_leases, every.tokens) == (True, True, (TOKENS,))
    assert every.needs.has_budgets is False, "a budget of an end user is not shown"
    few = limit_set([REQUESTS])
    assert (few.has_budgets, few.has_leases, few.tokens, few.side) == (False, False, (), "caller")


def test_keys_are_those_of_the_limits_and_of_what_calls_in_flight_reserve() -> None:
    every = limit_set([REQUESTS, TOKENS, CALLS, BUDGET])
    assert every.keys == (REQUESTS.key, TOKENS.key, reserved_key(TOKENS.key), CALLS.key, BUDGET.key, reserved_key(BUDGET.key))
    assert limit_set([TARGET]).reservations + "c1" == reservation_key(TARGET, "c1") == "lockgate:{target}:r:c1"


def test_no_limits_are_an_empty_set() -> None:
    none = limit_set([])
    assert none == ()
    assert (none.keys, none.reservations, none.side, none.needs.tokens) == ((), "", "", False)
