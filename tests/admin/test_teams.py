"""/admin/teams: teams at run time, their keys, and the fields that a request may change."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.admin.teams import MAX_SHOWN_KEYS
from gateway.errors import Forbidden
from tests.admin.conftest import Admin

TEAM = {"name": "search", "models": ["m"], "limits": {"spend": "500 USD/month", "tokens": "2M/min"}}


async def test_a_team_is_created_listed_shown_changed_and_removed(admin: Admin) -> None:
    created = await admin.client.post("/admin/teams", json=TEAM)
    assert (created.status_code, created.json()["source"]) == (201, "runtime")
    listed = (await admin.client.get("/admin/teams")).json()["data"]
    assert [(team["name"], team["limits"]) for team in listed] == [("search", TEAM["limits"])]
    assert [state["kind"] for state in listed[0]["usage"]] == ["tokens", "spend"]
    changed = (await admin.client.patch("/admin/teams/search", json={"limits": {"tokens": None}, "disabled": True})).json()
    assert changed["limits"] == {"spend": "500 USD/month"}
    assert (changed["removed"], changed["changed"]) == ({"limits.tokens": "2M/min"}, {"disabled": {"from": False, "to": True}})
    assert (await admin.client.delete("/admin/teams/search")).json() == {"object": "team", "name": "search", "removed": True}
    assert (await admin.client.get("/admin/teams/search")).json()["error"]["code"] == "team_not_found"


async def test_a_key_in_a_run_time_team_is_held_by_its_limits_and_models(admin: Admin) -> None:
    await admin.client.post("/admin/teams", json=TEAM)
    secret = (await admin.client.post("/admin/keys", json={"name": "app", "team": "search"})).json()["key"]
    header = [(b"authorization", f"Bearer {secret}".encode())]
    key = admin.gateway.generation.keys.authenticate(header)
    assert key is not None
    assert (key.team, key.models, [limit.owner for limit in key.limits]) == ("search", {"m"}, ["team:search"] * 2)
    await admin.client.patch("/admin/teams/search", json={"disabled": True})
    with pytest.raises(Forbidden):
        admin.gateway.generation.keys.authenticate(header)


async def test_a_team_with_keys_is_not_removed(admin: Admin) -> None:
    await admin.client.post("/admin/teams", json=TEAM)
    for number in range(MAX_SHOWN_KEYS + 2):
        await admin.client.post("/admin/keys", json={"name": f"app-{number}", "team": "search"})
    refused = await admin.client.delete("/admin/teams/search")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "team_in_use")
    assert "'app-0', 'app-1', 'app-2', 'app-3', 'app-4' and 2 more" in refused.json()["error"]["message"]


async def test_a_key_cannot_be_in_an_unknown_team(admin: Admin) -> None:
    answer = await admin.client.post("/admin/keys", json={"name": "app", "team": "serch"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "team")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "t", "models": ["nope"]}, "models[0]"),
        ({"name": "t", "limits": {"spend": "5 EUR/day"}}, "limits.spend"),
        ({"name": "t", "created": 5}, "created"),
        ({"name": "t", "hash": "sha256:00"}, "hash"),
    ],
)
async def test_a_mistake_in_a_team_is_named(admin: Admin, body: dict[str, Any], param: str) -> None:
    answer = await admin.client.post("/admin/teams", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert (await admin.client.get("/admin/teams")).json()["data"] == []


async def test_a_second_team_of_the_same_name_is_refused(admin: Admin) -> None:
    await admin.client.post("/admin/teams", json=TEAM)
    again = await admin.client.post("/admin/teams", json=TEAM)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "team_exists")
