"""GET /metrics."""

from __future__ import annotations

import pytest

from gateway.admin.scrape import metrics
from gateway.errors import GatewayError
from gateway.metrics import text
from tests.admin.conftest import Admin, request_with


async def test_the_scraper_chooses_the_format(admin: Admin) -> None:
    classic = await admin.client.get("/metrics")
    openmetrics = await admin.client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert (classic.headers["content-type"], openmetrics.headers["content-type"]) == (text.CLASSIC, text.OPENMETRICS)
    assert openmetrics.text.endswith("# EOF\n")


async def test_without_a_shared_store_the_fleet_is_this_instance(admin: Admin) -> None:
    answer = await admin.client.get("/metrics?scope=fleet")
    assert answer.status_code == 200
    assert "lockgate_" in answer.text


async def test_an_unknown_scope_is_rejected(admin: Admin) -> None:
    answer = await admin.client.get("/metrics?scope=planet")
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "'scope' must be 'instance' or 'fleet'.")


@pytest.mark.parametrize("path", ["/metrics", "/admin/config", "/admin/targets", "/admin/usage", "/admin/keys"])
@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}])
async def test_without_an_admin_key_web_pages_cannot_read(admin: Admin, path: str, headers: dict[str, str]) -> None:
    answer = await admin.client.get(path, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] in ("forbidden_host", "forbidden_origin")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_may_use_any_host(admin: Admin, path: str) -> None:
    answer = await admin.client.get(path, headers={"host": "10.1.2.3:8081"})
    assert answer.status_code in (200, 503)
    assert "forbidden" not in answer.text


async def test_a_scrape_has_the_counters_of_the_gateway(admin: Admin) -> None:
    admin.gateway.metrics.count("lockgate_internal_errors")
    answer = await metrics(admin.gateway)(request_with())
    assert b"\nlockgate_internal_errors_total 1" in answer.body
    with pytest.raises(GatewayError):
        await metrics(admin.gateway)(request_with(query="scope="))
