"""Virtual keys are written as JSON and read from it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.admin.key_json import MAX_NAME_CHARS, Change, key_from_json, key_to_json, team_from_json
from gateway.admin.merge_patch import merge
from gateway.config.key import KeyConfig, ModelAccess, TeamConfig
from gateway.config.limit import LimitsConfig, Rate
from gateway.config.problem import ConfigError
from tests.admin.conftest import Admin

HASH = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"models": ["m"], "disabled": True},
        {"passthrough": []},
        {"priority": 250},
        {"expires": "2999-01-02T03:04:05Z"},
        {"limits": {"requests": "600/min", "tokens": "200k/min", "concurrent": 20, "spend": "50.5 USD/month"}},
        {"limits_per_user": {"prompt_tokens": "1M/day"}},
        {"limits": {"tokens": "1500/h", "strict": True}},
        {"limits": {"requests": ["10/s", "600/min"], "spend": ["5 USD/day", "50 USD/week", "0.000000001 USD/total"]}},
        {"limits": {"uncached_prompt_tokens": "1/h", "timezone": "Europe/Berlin"}},
        {"models": {"m": {"limits": {"tokens": ["1k/s", "1M/day"], "concurrent": 3}}, "m*": {}}},
    ],
)
async def test_a_key_is_written_as_it_was_read(admin: Admin, fields: dict[str, Any]) -> None:
    entry = {"hash": HASH, **fields}
    assert key_to_json(key_from_json(admin.gateway.config, "new", entry)) == entry


@pytest.mark.parametrize(
    ("name", "fields", "path", "message"),
    [
        ("", {}, "name", f"1 to {MAX_NAME_CHARS} printable characters"),
        (" padded ", {}, "name", f"1 to {MAX_NAME_CHARS} printable characters"),
        ("x" * (MAX_NAME_CHARS + 1), {}, "name", f"1 to {MAX_NAME_CHARS} printable characters"),
        ("new", {"limit": {}}, "keys.new.limit", "did you mean 'limits'?"),
        ("new", {"limits": {"requests": "many"}}, "keys.new.limits.requests", ""),
        ("new", {"priority": 0}, "keys.new.priority", ""),
        ("new", {"models": ["absent"]}, "keys.new.models", "absent"),
        ("new", {"passthrough": ["/v1/absent"]}, "keys.new.passthrough", "under passthrough"),
        ("new", {"expires": "2001-01-01T00:00:00Z"}, "keys.new.expires", ""),
    ],
)
async def test_an_invalid_key_is_rejected_with_its_path(
    admin: Admin, name: str, fields: dict[str, Any], path: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        key_from_json(admin.gateway.config, name, {"hash": HASH, **fields})
    problem = caught.value.problems[0]
    assert problem.path.startswith(path)
    assert message in problem.message


BEFORE = KeyConfig(
    "old", HASH, models={"gone": ModelAccess(LimitsConfig(requests=(Rate(1, "min"),))), "m": ModelAccess()}, team="gone",
    passthrough=("/v1/gone",), expires=datetime(2001, 1, 1, tzinfo=UTC),
)  # fmt: skip
"""An expired key for a model, a team and a path that a reload has removed."""


@pytest.mark.parametrize(
    "fields",
    [{"disabled": True}, {"limits": {"requests": "1/min"}}, {"strict": True, "priority": 5}, {"team": None}, {"models": ["m"]}, {}],
)
async def test_a_key_whose_model_and_team_were_removed_can_still_be_changed(admin: Admin, fields: dict[str, Any]) -> None:
    entry = merge(key_to_json(BEFORE), fields)
    assert key_to_json(key_from_json(admin.gateway.config, "old", entry, change=Change(BEFORE, fields))) == entry


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"models": {"m": {"limits": {"requests": "1/min"}}}}, "keys.old.models.gone"),
        ({"models": ["gone"]}, "keys.old.models[0]"),
        ({"team": "gone"}, "keys.old.team"),
        ({"team": "other"}, "keys.old.team"),
        ({"disabled": True, "expires": "2001-01-01"}, "keys.old.expires"),
        ({"limits": {"requests": "many"}}, "keys.old.limits.requests"),
    ],
)
async def test_a_change_is_checked_in_the_fields_that_it_touches(admin: Admin, fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        key_from_json(admin.gateway.config, "old", merge(key_to_json(BEFORE), fields), change=Change(BEFORE, fields))
    assert [problem.path for problem in caught.value.problems] == [path]


async def test_a_team_whose_model_was_removed_can_still_be_disabled(admin: Admin) -> None:
    before = TeamConfig("t", models=("gone",))
    entry = {"models": ["gone"], "disabled": True}
    team = team_from_json(admin.gateway.config, "t", entry, change=Change(before, {"disabled": True}))
    assert team == TeamConfig("t", models=("gone",), disabled=True)
    for fields in ({"models": ["gone"]}, {"limits": {"requests": "0/s"}}):
        with pytest.raises(ConfigError):
            team_from_json(admin.gateway.config, "t", {**entry, **fields}, change=Change(before, fields))


@pytest.mark.parametrize("name", [".", ".."])
async def test_a_name_that_clients_remove_from_paths_is_rejected(admin: Admin, name: str) -> None:
    for read, entry in ((key_from_json, {"hash": HASH}), (team_from_json, {})):
        with pytest.raises(ConfigError, match=f"cannot be named '{name}'"):
            read(admin.gateway.config, name, entry)
