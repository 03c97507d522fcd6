"""GET and POST /admin/demo."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import closing

import httpx
import pytest

from gateway.admin.app import build_admin
from gateway.admin.demo import DemoAdmin
from gateway.demo.demo import Demo
from tests.admin.conftest import Admin, request_with


@pytest.fixture
async def client(admin: Admin) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an admin listener whose demo is not started."""
    demo = Demo()
    app = build_admin(admin.gateway, admin.readiness, admin.reloader, demo=demo)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8081") as http_client:
        yield http_client
    await demo.stop()


async def test_behaviour_of_a_provider_changes(client: httpx.AsyncClient) -> None:
    shown = (await client.get("/admin/demo")).json()
    assert {name: state["behaviour"] for name, state in shown["providers"].items()} == {"north": "ok", "south": "ok"}
    changed = await client.post("/admin/demo", json={"provider": "north", "behaviour": "dead"})
    assert changed.json() == (await client.get("/admin/demo")).json()
    assert {name: state["behaviour"] for name, state in changed.json()["providers"].items()} == {"north": "dead", "south": "ok"}


@pytest.mark.parametrize(
    "body", [{"provider": "west", "behaviour": "ok"}, {"provider": "north", "behaviour": "odd"}, {"behaviour": "ok"}, {"more": 1}, []]
)
async def test_bad_change_is_rejected(client: httpx.AsyncClient, body: object) -> None:
    assert (await client.post("/admin/demo", json=body)).status_code == 400


async def test_providers_are_those_of_the_demo(client: httpx.AsyncClient) -> None:
    with closing(Demo()) as demo:
        shown = json.loads((await DemoAdmin(demo).show(request_with())).body)
    assert shown == (await client.get("/admin/demo")).json()


async def test_other_gateways_have_no_demo(admin: Admin) -> None:
    for answer in (await admin.client.get("/admin/demo"), await admin.client.post("/admin/demo", json={"traffic": True})):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_demo")
