"""/admin/keys: what a request may set, who may send it, and what the responses reveal."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.admin.keys import KEY_PREFIX
from tests.admin.conftest import Admin


async def test_a_created_key_is_listed_shown_changed_and_revoked(admin: Admin) -> None:
    created = await admin.client.post("/admin/keys", json={"name": "new", "models": ["m"]})
    assert created.status_code == 201
    secret = created.json()["key"]
    assert secret.startswith(KEY_PREFIX)
    listed = await admin.client.get("/admin/keys")
    assert [(key["name"], key["source"]) for key in listed.json()["data"]] == [("first", "yaml"), ("new", "runtime")]
    assert secret not in listed.text
    changed = await admin.client.patch("/admin/keys/new", json={"disabled": True})
    assert (changed.json()["disabled"], changed.json()["models"]) == (True, ["m"])
    assert (await admin.client.delete("/admin/keys/new")).json() == {"object": "key", "name": "new", "revoked": True}
    assert (await admin.client.get("/admin/keys/new")).json()["error"]["message"] == "Unknown key 'new'."


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "name", "'name' is required and must be a string."),
        ({"name": "n", "hash": "sha256:" + "0" * 64}, "hash", "'hash' is read-only. Remove it from the request."),
        ({"name": "n", "created": 1}, "created", "'created' is read-only. Remove it from the request."),
    ],
)
async def test_a_field_that_is_missing_or_read_only_is_rejected(
    admin: Admin, body: dict[str, Any], param: str, message: str
) -> None:
    answer = await admin.client.post("/admin/keys", json=body)
    assert (answer.status_code, answer.json()["error"]["param"], answer.json()["error"]["message"]) == (400, param, message)


async def test_keys_of_the_configuration_cannot_be_replaced_or_changed(admin: Admin) -> None:
    for answer in (
        await admin.client.post("/admin/keys", json={"name": "first"}),
        await admin.client.patch("/admin/keys/first", json={"disabled": True}),
        await admin.client.delete("/admin/keys/first"),
    ):
        assert answer.status_code == 409
        assert answer.json()["error"]["message"].startswith("The key 'first' is defined in the configuration.")


@pytest.mark.parametrize("host", ["gateway.example", "10.0.0.1:8081"])
async def test_without_an_admin_key_another_host_name_is_rejected(admin: Admin, host: str) -> None:
    answer = await admin.client.get("/admin/keys", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden_host")
    assert "loopback names" in answer.json()["error"]["message"]


async def test_a_form_post_is_rejected(admin: Admin) -> None:
    answer = await admin.client.post("/admin/keys", content=b'{"name": "n"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 415


async def test_a_limit_that_appears_twice_is_rejected_with_its_path(admin: Admin) -> None:
    body = b'{"name": "n", "limits": {"requests": "1/min", "requests": "2/min"}}'
    answer = await admin.client.post("/admin/keys", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "limits.requests")
