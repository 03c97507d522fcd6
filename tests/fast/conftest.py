"""Two gateways with one configuration: one with the fast lane, one whose calls all take the pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest
import uvloop

from gateway.fast.fast_call import FastCall
from gateway.fast.fast_request import FastRequest
from gateway.http import rounds
from gateway.http.caller import CallerDeadlines
from gateway.server.callers_listener import PIPELINE_ONLY
from gateway.store.limit import Costs, Limit
from tests.flows.live import Live, live
from tests.support.redis_fixtures import own_redis

__all__ = ["own_redis"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], object]]:
    """Run the tests on the event loop of the gateway."""
    return {"uvloop": uvloop.new_event_loop}


class Pair(NamedTuple):
    """Both gateways."""

    fast: Live
    slow: Live

    @property
    def both(self) -> tuple[Live, Live]:
        """Return the gateways as a plain tuple."""
        return self.fast, self.slow


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[FastCall]:
    """Return the list of the calls that entered the fast lane."""
    calls: list[FastCall] = []
    start = FastRequest.start

    def counted(self: FastCall, limits: Sequence[Limit], costs: Costs | None) -> None:
        calls.append(self)
        start(self, limits, costs)

    monkeypatch.setattr(FastRequest, "start", counted)
    return calls


@pytest.fixture(params=[1_000_000, -1], ids=["at once", "in rounds"])
def steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the steps of calls run at once, and in rounds, as those of many calls do on a busy processor."""
    monkeypatch.setattr(rounds, "FEW_CALLS", request.param)
    monkeypatch.setattr(rounds, "BUSY_PART", 0)


StartPair = Callable[..., Awaitable[Pair]]


@pytest.fixture
async def start_pair(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StartPair]:
    """Return a function that starts both gateways: `start_pair(yaml, deadlines=CallerDeadlines(), environ={"KEY": "x"})`."""
    async with AsyncExitStack() as stack:

        async def start(yaml: str, deadlines: CallerDeadlines | None = None, environ: dict[str, str] | None = None) -> Pair:
            fast = await stack.enter_async_context(live(yaml, deadlines=deadlines, environ=environ))
            monkeypatch.setenv(PIPELINE_ONLY, "1")
            slow = await stack.enter_async_context(live(yaml, deadlines=deadlines, environ=environ))
            monkeypatch.delenv(PIPELINE_ONLY)
            return Pair(fast, slow)

        yield start
