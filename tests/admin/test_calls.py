"""GET /admin/calls and /admin/calls/ID: answers and refusals."""

from __future__ import annotations

import os

import pytest

from gateway.admin.calls import CallEndpoints
from gateway.errors import NotFound
from gateway.telemetry.call_records import records_path
from tests.admin.conftest import Admin, request_with
from tests.telemetry.test_record_file import line


async def test_calls_are_listed_as_soon_as_they_have_ended(admin: Admin) -> None:
    assert admin.gateway.log.records is not None
    admin.gateway.log.records.add(line("req_a", ended=4e9, key="app", client_id="mine", cost_usd=0.5))
    listed = (await admin.client.get("/admin/calls?key=app&since=1d")).json()
    assert [call["id"] for call in listed["data"]] == ["req_a"]
    assert listed["total"] == {"calls": 1, "cost_usd": 0.5, "unpriced": 0}
    for id in ("req_a", "mine"):
        shown = (await admin.client.get(f"/admin/calls/{id}")).json()
        assert shown["data"] == listed["data"]


@pytest.mark.parametrize(
    ("query", "param"),
    [("keys=app", "keys"), ("status=9", "status"), ("key=a&key=b", "key"), ("limit=0", "limit"), ("since=never", "since")],
)
async def test_a_bad_query_names_its_parameter(admin: Admin, query: str, param: str) -> None:
    answer = await admin.client.get(f"/admin/calls?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_an_unknown_id_is_not_found(admin: Admin) -> None:
    answer = await admin.client.get("/admin/calls/req_none")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "call_not_found")


async def test_an_unreadable_file_is_reported(admin: Admin) -> None:
    path = records_path(admin.gateway.config, os.environ)
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"this is no database" * 100)
    for url in ("/admin/calls", "/admin/calls/req_a"):
        answer = await admin.client.get(url)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "calls_unreadable")


async def test_a_gateway_without_records_returns_an_error(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.admin.calls.records_path", lambda config, environ: None)
    with pytest.raises(NotFound, match="not recorded"):
        await CallEndpoints(admin.gateway).list_calls(request_with())
