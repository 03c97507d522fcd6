"""The gauges of budgets through the whole application: they survive a reload, and end with the key."""

from __future__ import annotations

import asyncio

import httpx

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, held, one_model
from tests.flows.live import Live, eventually, live
from tests.flows.operator import KEYED, REST, Operator


async def used(gateway: Live) -> dict[tuple[str, ...], float]:
    """Return the spent share of each budget, as a scrape shows it."""
    await gateway.gateway.refresh_budgets()
    limits = gateway.gateway.generation.limits
    assert limits is not None
    return limits.budget_gauge.values("used")


async def test_budgets_are_shown_after_a_reload_and_until_their_key_is_deleted(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    prices = "prices: { mock: { prompt: 10, output: 100 }, other: { prompt: 1, output: 1 } }"
    yaml = one_model(up, REST + KEYED).replace("api_key:", f"{prices}, api_key:")
    async with live(yaml, environ={"UP_KEY": CREDENTIAL}) as gateway:
        operator = Operator(client, gateway)
        token = await operator.make("made", limits={"spend": "1 USD/day"})
        assert (await operator.call(token)).status_code == 200
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        before = (await used(gateway))["key", "made"]
        assert before > 0
        release = asyncio.Event()
        up.on(lambda request: True, held(release))
        running = asyncio.create_task(operator.call(token))
        await eventually(lambda: gateway.gateway.metrics.in_flight == 1)
        gateway.path.write_text(yaml + "\n# changed\nmax_body: 3MiB\n")
        assert await gateway.reloader.reload() == "applied"
        assert (await used(gateway))["key", "made"] == before
        release.set()
        assert (await running).status_code == 200
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        after = (await used(gateway))["key", "made"]
        assert after > before, "a call of the replaced configuration has been settled"
        assert (await operator.ask("PATCH", "/made", {"limits": {"spend": "2 USD/day"}})).status_code == 200
        assert (await used(gateway))["key", "made"] == after / 2
        assert (await operator.ask("DELETE", "/made")).status_code == 200
        assert ("key", "made") not in await used(gateway)
