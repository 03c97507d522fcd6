"""Virtual keys are written as JSON and read from it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.admin.key_json import MAX_NAME_CHARS, key_from_json, key_to_json
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


async def test_an_expired_key_is_read_when_only_other_fields_change(admin: Admin) -> None:
    entry = {"hash": HASH, "expires": "2001-01-01T00:00:00Z"}
    assert key_to_json(key_from_json(admin.gateway.config, "old", entry, check_expiry=False)) == entry
