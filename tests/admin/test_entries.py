"""Common parts of the endpoints of keys and teams: fields of a body, and usage while the store is unavailable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.admin.entries import READ_ONLY_FIELDS, changes, take_name, with_usage
from gateway.config.key import KeyConfig
from gateway.config.limit import LimitsConfig, Rate
from gateway.errors import BadRequest
from gateway.store.errors import StoreUnavailableError
from gateway.store.limit import Limit, LimitUsage
from tests.admin.conftest import Admin


@pytest.mark.parametrize("field", READ_ONLY_FIELDS)
async def test_a_field_of_the_response_cannot_be_set(admin: Admin, field: str) -> None:
    for path, method in (("/admin/keys", "POST"), ("/admin/teams", "POST"), ("/admin/keys/first", "PATCH")):
        answer = await admin.client.request(method, path, json={"name": "x", field: "x"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


@pytest.mark.parametrize("fields", [{}, {"name": 5}, {"name": ["x"]}])
def test_a_name_is_required(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        take_name(fields)


def test_a_change_has_both_of_its_parts() -> None:
    before, after = {"a": 1, "b": 2, "models": ["m"]}, {"a": 3, "models": ["m", "n"], "passthrough": []}
    assert changes(before, after) == {
        "removed": {"b": 2},
        "changed": {"a": {"from": 1, "to": 3}, "models": {"from": ["m"], "to": ["m", "n"]}},
        "added": {"models.n": "n", "passthrough": []},
    }


class UnavailableUsage:
    """A gateway whose store is unavailable."""

    async def limit_usage(self, limits: Sequence[Limit]) -> list[LimitUsage]:
        raise StoreUnavailableError("connection refused")


async def test_usage_is_null_while_the_store_is_unavailable() -> None:
    limited = KeyConfig("a", "sha256:00", limits=LimitsConfig(requests=(Rate(1, "min"),)))
    free = KeyConfig("b", "sha256:01")
    shown = await with_usage(UnavailableUsage(), [({"name": "a"}, limited), ({"name": "b"}, free)])  # type: ignore[arg-type]
    assert shown == [{"name": "a", "usage": None}, {"name": "b", "usage": []}]
