"""Answers of the page's endpoints have the documented schemas."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.admin.app import build_admin
from gateway.demo.demo import Demo
from gateway.openapi.page import paths
from tests.admin.conftest import Admin, admin
from tests.openapi.test_admin import validator

__all__ = ["admin"]


@pytest.fixture
async def client(admin: Admin) -> AsyncIterator[httpx.AsyncClient]:
    """Return an HTTP client of an admin listener with a demo."""
    demo = Demo()
    app = build_admin(admin.gateway, admin.readiness, admin.reloader, demo=demo)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8081") as http_client:
        yield http_client
    await demo.stop()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/admin/session", "Session"),
        ("/admin/live", "Live"),
        ("/admin/models", "PlaygroundModels"),
        ("/admin/parameters", "Parameters"),
        ("/admin/demo", "DemoState"),
    ],
)
async def test_answer_has_its_schema(client: httpx.AsyncClient, path: str, name: str) -> None:
    answer = await client.get(path)
    validator(name).validate(answer.json())
    assert not validator(name).is_valid([])


async def test_plan_and_refusal_have_their_schema(client: httpx.AsyncClient) -> None:
    for model in ("m", "unknown"):
        question = {"body": {"model": model, "messages": [{"role": "user", "content": "Hi"}]}}
        assert validator("Question").is_valid(question)
        validator("Explanation").validate((await client.post("/admin/explain", json=question)).json())


def test_sign_in_and_files_need_no_key() -> None:
    described = paths()
    for operation in (described["/"]["get"], described["/page/{name}"]["get"], described["/admin/session"]["post"]):
        assert operation["security"] == [{}]
    assert "security" not in described["/admin/live"]["get"]
