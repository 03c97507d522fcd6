"""The regular work of a process at Redis: what it sends while Redis is available, and that it waits with amounts of budgets."""

from __future__ import annotations

from collections import Counter

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store import upkeep
from gateway.store.limit import Costs, Limit, Reservation
from gateway.store.redis import RedisLimiter
from gateway.store.upkeep import Upkeep
from tests.support.redis_fixtures import LimiterStarter

CALLS, BUDGET = Limit("k", "concurrent", 10), Limit("k", "spend", 1000, "day")


class Enough(Exception):
    """Ends an upkeep."""


class Work:
    """The upkeep of a limiter, which counts what it does."""

    def __init__(self, limiter: RedisLimiter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: Counter[str] = Counter()
        self._limiter = limiter
        self._upkeep = Upkeep(limiter.connections, limiter._runs, limiter._members, limiter._budget_sync, limiter._settlements)
        limiter._budget_sync.reserved_uncertain = False
        monkeypatch.setattr(upkeep, "HEARTBEAT_INTERVAL_S", 0.001)
        monkeypatch.setattr(limiter._members, "send_heartbeat", self._on_heartbeat)
        monkeypatch.setattr(limiter._budget_sync, "publish_reserved", lambda: self.done.update(["reserved"]))

    def _on_heartbeat(self, leases: dict[str, str]) -> None:
        self.done.update([f"renewed {len(leases)}" if leases else "heartbeat"])

    async def run(self, times: int, *, is_deciding: bool = False) -> None:
        """Do the work `times` times, and renew leases every third time."""
        left = times

        def on_done() -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Enough

        with pytest.raises(Enough):
            await self._upkeep.run(self._limiter._leases, 9000, lambda: is_deciding, on_done)


@pytest.fixture
async def limiter(redis: RedisAddress, start: LimiterStarter) -> RedisLimiter:
    """Return a limiter with one concurrent call that reserves a part of a budget, and without an upkeep of its own."""
    limiter = await start(redis)
    assert limiter._heartbeat_task is not None
    limiter._heartbeat_task.cancel()
    assert isinstance(await limiter.admit((CALLS, BUDGET), Costs(spend=10), "call"), Reservation)
    return limiter


async def test_every_round_sends_a_heartbeat_and_some_renew_concurrent_calls(
    limiter: RedisLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(limiter, monkeypatch)
    commands = limiter.connections.commands
    await work.run(7)
    assert work.done == {"heartbeat": 5, "renewed 1": 2, "reserved": 2}
    assert limiter.connections.commands == commands + 7  # the checks for lost data


async def test_reserved_amounts_of_budgets_are_published_only_between_decisions(
    limiter: RedisLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(limiter, monkeypatch)
    await work.run(7, is_deciding=True)
    assert work.done["reserved"] == 0
