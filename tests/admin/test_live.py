"""GET /admin/live."""

from __future__ import annotations

import json

import pytest

from gateway.admin.live import live
from tests.admin.conftest import Admin, request_with


async def test_answer_has_points_targets_configuration_and_the_callers_address(admin: Admin) -> None:
    admin.gateway.live.sample()
    admin.gateway.metrics.count("lockgate_requests", ("m", "up/mock", "up", "chat", "2xx", "ok"))
    admin.gateway.live.sample()
    shown = (await admin.client.get("/admin/live")).json()
    assert sum(shown["points"]["calls"]) == 1
    assert shown["shares"] == {"m": {"up/mock": 1}}
    assert [target["target"] for target in shown["targets"]] == ["up/mock"]
    assert shown["configuration"]["generation"] == 1
    assert shown["callers"] == {"url": "http://127.0.0.1:0", "requires_keys": True}
    assert shown["alerts"] == []


async def test_address_may_be_of_ipv6(admin: Admin) -> None:
    endpoint = live(admin.gateway, admin.reloader, ("::1", 8080), has_demo=True)
    shown = json.loads((await endpoint(request_with())).body)
    assert (shown["callers"]["url"], shown["demo"]) == ("http://[::1]:8080", True)


async def test_points_that_were_read_are_left_out(admin: Admin) -> None:
    admin.gateway.live.sample()
    admin.gateway.live.sample()
    first = (await admin.client.get("/admin/live")).json()["points"]["at"]
    assert first
    later = (await admin.client.get(f"/admin/live?since={first[-1]!r}")).json()["points"]
    assert set(map(tuple, later.values())) == {()}


@pytest.mark.parametrize(("query", "param"), [("since=now", "since"), ("since=nan", "since"), ("from=1", "from")])
async def test_a_bad_query_names_its_parameter(admin: Admin, query: str, param: str) -> None:
    answer = await admin.client.get(f"/admin/live?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
