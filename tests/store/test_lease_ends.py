"""Leases at a stop of their process, and requests for leases while one is open."""

from __future__ import annotations

import pytest

from gateway.store.amount_leases import HOT_CALLS
from gateway.store.limit import NO_COSTS
from tests.store.test_amount_leases import BOTH, COST, Fleet, admitted, fleet

__all__ = ["fleet"]


async def test_no_lease_is_requested_while_one_is_open(fleet: Fleet) -> None:
    await fleet.open()
    for _ in range(3 * HOT_CALLS):  # such as calls whose ids are repeated, on which the store decides
        fleet.leases.watch(BOTH, COST)
    assert fleet.flush([]) == []
    assert fleet.call() is not None


async def test_a_stop_ends_the_open_lease_and_drops_a_request_that_was_not_sent(fleet: Fleet) -> None:
    asked = await fleet.open()
    call = admitted(fleet.call())
    fleet.leases.stop()
    assert fleet.told == [("reserved", call.id, COST), ("settled", asked.id, NO_COSTS)]
    assert fleet.heat(calls=3 * HOT_CALLS) == []
    assert fleet.leases._lent == {}


@pytest.mark.parametrize("decides", [True, False])
async def test_a_lease_that_is_granted_after_a_stop_is_returned_at_once(fleet: Fleet, decides: bool) -> None:
    (asked,) = fleet.heat()
    fleet.decides = decides
    fleet.leases.stop()
    fleet.grant(asked)
    fleet.leases.settle_closed()
    assert fleet.told == [("settled", asked.id, NO_COSTS)]
    assert fleet.call() is None
    assert (fleet.leases.granted, fleet.leases._lent) == (0, {})
