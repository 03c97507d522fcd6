"""GET /admin/targets."""

from __future__ import annotations

import json

from gateway.admin.targets import list_targets
from tests.admin.conftest import Admin, request_with


async def test_each_target_is_listed_with_its_state(admin: Admin) -> None:
    answer = await admin.client.get("/admin/targets")
    assert [(target["target"], target["state"]) for target in answer.json()["targets"]] == [("up/mock", "live")]


async def test_views_are_read_at_each_request(admin: Admin) -> None:
    endpoint = list_targets(admin.gateway)
    admin.gateway.health.apply_remote("up/mock", None, 30.0, "rate_limit")
    (target,) = json.loads((await endpoint(request_with())).body)["targets"]
    assert (target["state"], target["reason"]) == ("cooling", "rate_limit")
