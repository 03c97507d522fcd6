"""GET /admin/targets."""

from __future__ import annotations

from tests.admin.conftest import Admin


async def test_each_target_is_listed_with_its_state(admin: Admin) -> None:
    answer = await admin.client.get("/admin/targets")
    assert [(target["target"], target["state"]) for target in answer.json()["targets"]] == [("up/mock", "live")]
