"""POST /admin/route."""

from __future__ import annotations

import json

import pytest

from gateway.admin.route import CALLS_PER_SLICE, route
from gateway.errors import BadRequest
from gateway.explain.route_request import MAX_CALLS
from tests.admin.conftest import Admin, request_with


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


@pytest.mark.parametrize(("body", "message"), [(b"", "is empty"), (b"{", "ends at byte 1"), (b"[]", "must be a JSON object")])
async def test_a_body_that_is_not_json_says_what_is_wrong(admin: Admin, body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        await route(admin.gateway)(request_with(body))


async def test_the_plans_of_all_slices_are_merged(admin: Admin) -> None:
    count = 2 * CALLS_PER_SLICE + 1
    answer = await route(admin.gateway)(request_with(json.dumps({"model": "m", "n": count}).encode()))
    assert json.loads(answer.body)["first"] == {"up/mock": count}


async def test_the_number_of_planned_calls_is_limited(admin: Admin) -> None:
    with pytest.raises(BadRequest):
        await route(admin.gateway)(request_with(json.dumps({"model": "m", "n": MAX_CALLS + 1}).encode()))
