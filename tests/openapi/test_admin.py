"""Answers of the admin listener have the documented schemas."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from gateway.openapi.admin import paths, schemas
from gateway.openapi.document import document
from tests.admin.conftest import Admin, admin

__all__ = ["admin"]
DOCUMENT = document("admin")


def validator(name: str) -> Any:
    """Return the validator of a component."""
    return jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]})


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/healthz", "Health"),
        ("/admin/targets", "Targets"),
        ("/admin/keys", "Keys"),
        ("/admin/keys/first", "Key"),
        ("/admin/usage", "Usage"),
        ("/admin/calls", "Calls"),
        ("/admin/limits", "Limits"),
        ("/admin/config", "Configuration"),
        ("/admin/nothing", "Error"),
    ],
)
async def test_answer_has_its_schema(admin: Admin, path: str, name: str) -> None:
    answer = await admin.client.get(path)
    validator(name).validate(answer.json())
    assert not validator(name).is_valid([])


async def test_plan_and_reload_have_their_schemas(admin: Admin) -> None:
    for body in ({"model": "m", "n": 2}, {"model": "unknown"}):
        validator("RoutePlan").validate((await admin.client.post("/admin/route", json=body)).json())
    validator("Reload").validate((await admin.client.post("/admin/reload")).json())


def test_new_key_needs_a_name_and_has_the_fields_of_the_configuration() -> None:
    new = validator("NewKey")
    assert new.is_valid({"name": "a", "models": ["m"], "limits": {"requests": "5/min"}})
    assert not new.is_valid({"models": ["m"]})
    assert "hash" not in schemas()["NewKey"]["properties"]
    assert not validator("RouteRequest").is_valid({"model": "m", "n": 0})


def test_changes_are_documented_for_each_method() -> None:
    assert {"get", "post", "patch", "delete"} <= paths()["/admin/keys/{name}"].keys()
