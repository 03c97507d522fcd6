"""/admin/config and /admin/reload."""

from __future__ import annotations

from tests.admin.conftest import YAML, Admin


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
