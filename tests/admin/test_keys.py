"""/admin/keys: the fields that a request may set, access to the endpoints, and the content of the responses."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.admin.keys import KEY_PREFIX
from gateway.errors import Unauthorized
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


LIMITS = {"requests": "600/min", "tokens": "200k/min", "spend": "5 USD/day"}


async def test_a_patch_of_one_limit_keeps_the_others(admin: Admin) -> None:
    await admin.client.post("/admin/keys", json={"name": "app", "limits": LIMITS, "limits_per_user": {"requests": "2/min"}})
    answer = (await admin.client.patch("/admin/keys/app", json={"limits": {"requests": "10/min"}})).json()
    assert answer["limits"] == {**LIMITS, "requests": "10/min"}
    assert answer["limits_per_user"] == {"requests": "2/min"}
    assert answer["removed"] == {}
    assert answer["changed"] == {"limits.requests": {"from": "600/min", "to": "10/min"}}


async def test_null_removes_one_limit_and_the_answer_reports_it(admin: Admin) -> None:
    await admin.client.post("/admin/keys", json={"name": "app", "limits": LIMITS, "models": ["m"]})
    answer = (await admin.client.patch("/admin/keys/app", json={"limits": {"spend": None}, "models": None})).json()
    assert answer["limits"] == {"requests": "600/min", "tokens": "200k/min"}
    assert "models" not in answer
    assert answer["removed"] == {"limits.spend": "5 USD/day", "models": ["m"]}


async def test_a_patch_names_the_models_that_it_takes_away_and_the_restriction_that_it_lifts(admin: Admin) -> None:
    limited = {"limits": {"requests": "1/min"}}
    await admin.client.post("/admin/keys", json={"name": "app", "models": {"m": limited, "m*": {}}})
    answer = (await admin.client.patch("/admin/keys/app", json={"models": {"m*": None}})).json()
    assert (answer["models"], answer["removed"], answer["changed"]) == ({"m": limited}, {"models.m*": {}}, {})
    answer = (await admin.client.patch("/admin/keys/app", json={"models": None})).json()
    assert (answer["removed"], answer["changed"]) == ({"models": {"m": limited}, "models.m.limits.requests": "1/min"}, {})


async def test_null_removes_a_whole_block(admin: Admin) -> None:
    await admin.client.post("/admin/keys", json={"name": "app", "limits": LIMITS})
    answer = (await admin.client.patch("/admin/keys/app", json={"limits": None})).json()
    assert "limits" not in answer
    assert answer["removed"] == {f"limits.{kind}": limit for kind, limit in LIMITS.items()}


async def test_a_refused_patch_changes_nothing(admin: Admin) -> None:
    await admin.client.post("/admin/keys", json={"name": "app", "limits": LIMITS})
    refused = await admin.client.patch("/admin/keys/app", json={"limits": {"spend": None, "requests": "0/min"}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "limits.requests")
    assert (await admin.client.get("/admin/keys/app")).json()["limits"] == LIMITS


async def test_a_key_shows_what_is_spent_and_when_its_period_ends(admin: Admin) -> None:
    await admin.client.post("/admin/keys", json={"name": "app", "limits": {"spend": "5 USD/month", "requests": "3/min"}})
    for shown in (
        (await admin.client.get("/admin/keys/app")).json(),
        (await admin.client.get("/admin/keys")).json()["data"][1],
    ):
        states = {state["kind"]: state for state in shown["usage"]}
        assert (states["requests"]["used"], states["requests"]["remaining"]) == (0, 3)
        spend = states["spend"]
        assert (spend["limit"], spend["spent"], spend["reserved"], spend["remaining"]) == (5.0, 0.0, 0.0, 5.0)
        assert spend["reset_at"].endswith("-01T00:00:00Z")


async def test_a_rotated_key_has_a_new_secret_and_says_until_when_the_old_one_is_valid(admin: Admin) -> None:
    made = (await admin.client.post("/admin/keys", json={"name": "app", "models": ["m"]})).json()
    rotated = (await admin.client.post("/admin/keys/app/rotate", json={"grace": "2d"})).json()
    assert rotated["key"] != made["key"]
    assert (rotated["models"], len(rotated["previous"])) == (["m"], 1)
    shown = await admin.client.get("/admin/keys/app")
    assert made["key"] not in shown.text
    assert rotated["key"] not in shown.text
    assert made["hash"] not in shown.text
    accepted = [
        admin.gateway.generation.keys.authenticate([(b"authorization", f"Bearer {key}".encode())]) for key in (made["key"], rotated["key"])
    ]
    assert [key.name for key in accepted if key is not None] == ["app", "app"]


async def test_without_grace_the_old_secret_ends_at_once(admin: Admin) -> None:
    made = (await admin.client.post("/admin/keys", json={"name": "app"})).json()
    rotated = (await admin.client.post("/admin/keys/app/rotate", json={"grace": "0s"})).json()
    assert "previous" not in rotated
    with pytest.raises(Unauthorized):
        admin.gateway.generation.keys.authenticate([(b"x-api-key", made["key"].encode())])


@pytest.mark.parametrize("body", [{"grace": "1"}, {"grace": 5}, {"grace": "91d"}, {"grace": "-1s"}, {"grace": ""}])
async def test_an_invalid_grace_is_rejected_and_rotates_nothing(admin: Admin, body: dict[str, Any]) -> None:
    made = (await admin.client.post("/admin/keys", json={"name": "app"})).json()
    answer = await admin.client.post("/admin/keys/app/rotate", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "grace")
    assert (await admin.client.get("/admin/keys/app")).json()["shown"] == made["shown"]


async def test_a_key_whose_name_ends_in_rotate_can_be_changed_by_post(admin: Admin) -> None:
    await admin.client.post("/admin/keys", json={"name": "app/rotate"})
    changed = await admin.client.post("/admin/keys/app%2Frotate", json={"disabled": True})
    assert (changed.json()["name"], changed.json()["disabled"]) == ("app/rotate", True)
