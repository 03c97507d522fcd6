"""/admin/config and /admin/reload."""

from __future__ import annotations

import json

from gateway.admin.configuration import reload, show
from tests.admin.conftest import YAML, Admin, request_with


async def test_the_configuration_is_shown_without_secrets(admin: Admin) -> None:
    answer = await admin.client.get("/admin/config")
    assert answer.status_code == 200
    assert "up" in answer.json()["config"]["providers"]
    assert "upstream-secret" not in answer.text


async def test_a_reload_reports_unchanged_applied_and_failed(admin: Admin) -> None:
    assert (await admin.client.post("/admin/reload")).json()["outcome"] == "unchanged"
    admin.path.write_text(YAML.replace("m: up/mock", "other: up/mock"))
    answer = await admin.client.post("/admin/reload")
    assert (answer.status_code, answer.json()["outcome"]) == (200, "applied")
    admin.path.write_text("models: 1")
    answer = await admin.client.post("/admin/reload")
    assert (answer.status_code, answer.json()["outcome"]) == (422, "failed")
    assert list(admin.gateway.config.models) == ["other"]


async def test_the_problems_of_an_invalid_file_are_shown_with_the_serving_configuration(admin: Admin) -> None:
    admin.path.write_text("models: 1")
    assert (await reload(admin.reloader)(request_with())).status_code == 422
    shown = json.loads((await show(admin.gateway, admin.reloader)(request_with())).body)
    assert shown["error"] != []
    assert list(shown["config"]["models"]) == ["m"]
