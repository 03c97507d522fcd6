"""POST /admin/route."""

from __future__ import annotations

from tests.admin.conftest import Admin


async def test_a_route_is_planned_without_sending_a_call(admin: Admin) -> None:
    answer = await admin.client.post("/admin/route", json={"model": "m", "n": 120})
    assert answer.status_code == 200
    assert "up/mock" in answer.text
    assert admin.gateway.metrics.in_flight == 0


async def test_an_unknown_model_is_reported_as_refused(admin: Admin) -> None:
    answer = await admin.client.post("/admin/route", json={"model": "absent"})
    assert answer.status_code == 200
    assert "absent" in answer.json()["refused"]


async def test_an_unknown_field_is_an_invalid_body(admin: Admin) -> None:
    answer = await admin.client.post("/admin/route", json={"model": "m", "calls": 3})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("Invalid request body: ")
