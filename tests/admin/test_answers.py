"""Responses of the admin listener: ids, unknown paths, wrong methods, internal errors."""

from __future__ import annotations

import msgspec
import pytest

from gateway.admin.answers import json_response
from tests.admin.conftest import Admin


def test_a_json_response_has_a_request_id_of_its_own() -> None:
    first, second = json_response({"a": 1}), json_response({"a": 1}, 201)
    assert (msgspec.json.decode(first.body), first.status_code, second.status_code) == ({"a": 1}, 200, 201)
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/admin/keys", "/admin/session", "/v1/models"])
async def test_no_answer_is_kept_by_a_browser_or_read_as_another_type(admin: Admin, path: str) -> None:
    headers = (await admin.client.get(path)).headers
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


async def test_an_unknown_path_names_the_paths_that_exist(admin: Admin) -> None:
    answer = await admin.client.get("/v1/models")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "Unknown path. Use /, /healthz, /readyz, /metrics, /openapi.json or /admin/*."


async def test_a_wrong_method_names_the_allowed_ones(admin: Admin) -> None:
    answer = await admin.client.put("/admin/keys")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert answer.json()["error"]["message"] == "PUT is not allowed here. Use GET, HEAD, POST."


async def test_an_internal_error_is_counted_and_does_not_show_its_text(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[object]:
        raise RuntimeError("a secret of the process")

    monkeypatch.setattr(admin.gateway, "target_views", broken)
    answer = await admin.client.get("/admin/targets")
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "Internal error: the gateway's log has the details under this request id."
    assert "secret" not in answer.text
    assert sum(admin.gateway.metrics.counts["lockgate_internal_errors"].values()) == 1
