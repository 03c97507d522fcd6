"""Models, parameters and explanations for the page."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from gateway.admin.playground import DOORS
from gateway.targets.status import TargetView
from tests.admin.conftest import Admin

MESSAGES = [{"role": "user", "content": "Hi"}]


async def test_models_have_their_route_and_their_targets(admin: Admin) -> None:
    (model,) = (await admin.client.get("/admin/models")).json()["data"]
    assert model == {"id": "m", "configured": True, "targets": ["up/mock"], "route": {"target": "up/mock"}}


async def test_state_of_a_target_is_part_of_the_route(admin: Admin) -> None:
    admin.gateway.health.apply_remote("up/mock", None, 30.0, "rate_limit")
    (model,) = (await admin.client.get("/admin/models")).json()["data"]
    assert (model["route"]["state"], model["route"]["reason"]) == ("cooling", "rate_limit")


async def test_targets_are_read_once_for_all_models(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    more = "".join(f"  m{number}: up/mock{number}\n" for number in range(20))
    admin.path.write_text(admin.path.read_text().replace("models:\n", f"models:\n{more}"))
    assert await admin.reloader.reload() == "applied"
    read, asked = admin.gateway.target_views, Mock()

    def counted() -> list[TargetView]:
        asked()
        return read()

    monkeypatch.setattr(admin.gateway, "target_views", counted)
    assert len((await admin.client.get("/admin/models")).json()["data"]) == 21
    assert asked.call_count == 1


async def test_parameters_are_those_of_each_api(admin: Admin) -> None:
    schemas = (await admin.client.get("/admin/parameters")).json()
    assert tuple(schemas) == DOORS
    chat, messages, responses = schemas.values()
    assert {"messages", "max_tokens", "temperature", "top_k", "tools"} <= chat.keys()
    assert {"system", "stop_sequences", "max_tokens"} <= messages.keys()
    assert {"input", "instructions", "max_output_tokens"} <= responses.keys()
    assert all("model" not in schema for schema in schemas.values())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES}),
        ("/v1/messages", {"messages": MESSAGES, "max_tokens": 5}),
        ("/v1/responses", {"input": "Hi"}),
    ],
)
async def test_explanation_has_the_upstream_request_without_a_virtual_key(admin: Admin, path: str, body: dict[str, Any]) -> None:
    answer = await admin.client.post("/admin/explain", json={"path": path, "body": {"model": "m", **body}})
    (target,) = answer.json()["targets"]
    assert target["target"] == "up/mock"
    assert target["request"]["url"] == "http://127.0.0.1:9/v1/chat/completions"
    assert target["request"]["headers"]["authorization"] == "***"
    assert target["request"]["body"]["messages"] == MESSAGES


async def test_headers_of_the_call_apply(admin: Admin) -> None:
    body = {"model": "m", "messages": MESSAGES, "unknown_field": 1}
    lenient = (await admin.client.post("/admin/explain", json={"body": body})).json()
    strict = (await admin.client.post("/admin/explain", json={"body": body, "headers": {"X-Gateway-Strict": "true"}})).json()
    assert (lenient["strict"], strict["strict"]) == (False, True)


async def test_call_that_would_be_refused_is_an_answer(admin: Admin) -> None:
    answer = await admin.client.post("/admin/explain", json={"body": {"model": "m", "messages": MESSAGES, "temperature": "hot"}})
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["refused"]["param"]) == (400, "temperature")
    unknown = await admin.client.post("/admin/explain", json={"body": {"model": "none", "messages": MESSAGES}})
    assert (unknown.json()["status"], unknown.json()["refused"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    "question", [{}, {"body": {"model": "m"}, "path": "/v1/nothing"}, {"body": {}, "more": 1}, {"body": {}, "headers": {"a": 1}}]
)
async def test_bad_question_is_rejected(admin: Admin, question: dict[str, Any]) -> None:
    assert (await admin.client.post("/admin/explain", json=question)).status_code == 400
