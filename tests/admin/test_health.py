"""/healthz and /readyz."""

from __future__ import annotations

import pytest

from tests.admin.conftest import Admin


async def test_healthz_reports_a_live_process(admin: Admin) -> None:
    answer = await admin.client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("serving", "draining", "status", "code"),
    [(False, False, "starting", 503), (True, False, "ready", 200), (True, True, "draining", 503), (False, True, "draining", 503)],
)
async def test_readyz_is_200_only_between_start_and_shutdown(
    admin: Admin, serving: bool, draining: bool, status: str, code: int
) -> None:
    admin.readiness.serving, admin.readiness.draining = serving, draining
    answer = await admin.client.get("/readyz")
    assert (answer.status_code, answer.json()) == (code, {"status": status, "engines": {}})
