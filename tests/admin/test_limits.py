"""GET /admin/limits: the declared limits, with their usage."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.admin.limits import list_limits
from gateway.keys.limit_states import usage_json
from gateway.store.errors import StoreUnavailableError
from gateway.store.limit import Costs, Limit, LimitUsage, Reservation
from tests.admin.conftest import Admin, request_with

LIMITS = {"requests": ["5/s", "600/h"], "spend": ["2 USD/day", "9 USD/total"], "timezone": "Asia/Tokyo"}


async def test_each_limit_is_shown_with_its_use(admin: Admin) -> None:
    created = await admin.client.post("/admin/keys", json={"name": "app", "limits": LIMITS, "models": {"m": {"limits": {"concurrent": 3}}}})
    assert created.status_code == 201
    limiter = admin.gateway._limit_store.limiter_for(admin.gateway.config)
    used = [Limit("key:app", "requests", 5, "s"), Limit("key:app", "requests", 600, "h"), Limit("key:app", "spend", 9 * 10**9, "total")]
    found = await limiter.admit(used, Costs(spend=500_000_000), "call")
    assert isinstance(found, Reservation)
    answer = (await admin.client.get("/admin/limits")).json()
    assert answer["object"] == "list"
    shown: list[tuple[Any, ...]] = [
        tuple(entry[name] for name in ("kind", "model", "window", "timezone", "unit", "limit", "used", "reserved", "remaining"))
        for entry in answer["data"]
    ]
    assert shown == [
        ("requests", None, "s", None, "requests", 5, 1, None, 4),
        ("requests", None, "h", None, "requests", 600, 1, None, 599),
        ("spend", None, "day", "Asia/Tokyo", "USD", 2.0, 0.0, 0.0, 2.0),
        ("spend", None, "total", "Asia/Tokyo", "USD", 9.0, 0.5, 0.5, 8.5),
        ("concurrent", "m", None, None, "calls", 3, 0, None, 3),
    ]
    assert {(entry["owner"], entry["name"]) for entry in answer["data"]} == {("key", "app")}
    assert [entry["reset_seconds"] for entry in answer["data"]][2:] == [0.0, None, 0.0]


@pytest.mark.parametrize(
    ("query", "status", "count"),
    [
        ("owner=key", 200, 1), ("owner=key:app", 200, 1), ("owner=key:ap", 200, 0), ("owner=team", 200, 0), ("owner=user", 400, 0),
        ("owner=", 400, 0), ("window=day", 400, 0),
    ],
)  # fmt: skip
async def test_limits_are_selected_by_owner(admin: Admin, query: str, status: int, count: int) -> None:
    await admin.client.post("/admin/keys", json={"name": "app", "limits": {"requests": "5/min"}})
    answer = await admin.client.get(f"/admin/limits?{query}")
    assert answer.status_code == status
    if status == 200:
        assert len(answer.json()["data"]) == count
    else:
        assert answer.json()["error"]["param"] == query.partition("=")[0]


async def test_a_store_that_fails_is_reported(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(limits: object) -> list[LimitUsage]:
        raise StoreUnavailableError("no route")

    monkeypatch.setattr(admin.gateway, "limit_usage", fail)
    answer = await admin.client.get("/admin/limits")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")


def test_money_is_shown_in_dollars() -> None:
    shown = usage_json(LimitUsage(Limit("team:t", "spend", 10**10, "week"), 10**9, 10**8, 12.3456))
    assert (shown["limit"], shown["used"], shown["reserved"], shown["remaining"], shown["reset_seconds"]) == (10, 1, 0.1, 9, 12.346)


async def test_limits_of_run_time_teams_are_listed_once(admin: Admin) -> None:
    await admin.client.post("/admin/teams", json={"name": "made", "limits": {"requests": "5/min"}})
    await admin.client.post("/admin/keys", json={"name": "app", "team": "made", "limits": {"requests": "3/min"}})
    await admin.client.post("/admin/keys/app/rotate", json={"grace": "1h"})
    listed = []
    for owner in ("team:made", "key:app"):
        answer = await list_limits(admin.gateway)(request_with(query=f"owner={owner}"))
        listed += [(limit["owner"], limit["limit"]) for limit in json.loads(bytes(answer.body))["data"]]
    assert listed == [("team", 5), ("key", 3)]
